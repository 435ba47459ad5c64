"""Quantized weights: range, rounding, scales, and the straight-through gradient."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lmht.model import QuantConv2d, QuantLinear, quantize_module, quantize_symmetric

bit_widths = st.integers(2, 8)
finite = st.floats(-1e6, 1e6, width=32)
weights = st.integers(1, 6).flatmap(
    lambda columns: st.lists(st.lists(finite, min_size=columns, max_size=columns), min_size=1, max_size=4)
)


@given(weights, bit_widths)
def test_quantization_is_symmetric_and_nearest(rows, bits):
    weight = torch.tensor(rows)
    q, scale = quantize_symmetric(weight, bits)
    limit = 2 ** (bits - 1) - 1
    assert q.abs().max() <= limit
    assert torch.equal(q, q.round())
    assert (scale > 0).all()
    # Nothing nearer exists: the error is half a step, but for the rounding of the division itself.
    error = (q.double() * scale.double()[:, None] - weight.double()).abs()
    assert (error <= scale.double()[:, None] * 0.5 * (1 + 1e-4)).all()
    negated, same_scale = quantize_symmetric(-weight, bits)
    assert torch.equal(negated, -q)
    assert torch.equal(same_scale, scale)


@given(weights, bit_widths)
def test_largest_weight_of_a_channel_takes_the_largest_integer(rows, bits):
    weight = torch.tensor(rows)
    q, _ = quantize_symmetric(weight, bits)
    largest = q.abs().amax(dim=1)
    normal = weight.abs().amax(dim=1) > 1e-30
    assert (largest[normal] == 2 ** (bits - 1) - 1).all()


def test_rounding_is_half_to_even():
    # max|W| = 7 gives scale 1 at 4 bits, so the weights are their own quotients.
    q, scale = quantize_symmetric(torch.tensor([[7.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5]]), 4)
    assert scale.tolist() == [1.0]
    assert q.tolist() == [[7, 0, 2, 2, 0, -2, -2]]


@pytest.mark.parametrize("row", [[0.0, 0.0], [1e-45, 0.0]])
def test_channel_without_weights_has_scale_one(row):
    """1e-45 is the smallest float32; divided by 127 it is 0."""
    q, scale = quantize_symmetric(torch.tensor([row, [1.0, -2.0]]), 8)
    assert scale.tolist() == [1.0, pytest.approx(2 / 127)]
    assert q.tolist() == [[0, 0], [64, -127]]


@pytest.mark.parametrize("bits", range(2, 9))
def test_layer_computes_with_its_integer_weight(bits):
    layer = QuantLinear(5, 3, bias=True, weight_bits=bits)
    q, scale = layer.integer_weight()
    assert q.dtype == torch.int64
    assert q.shape == (3, 5)
    assert scale.shape == (3,)
    assert torch.equal(layer.effective_weight(), q * scale[:, None])
    one_hot = torch.eye(5)
    assert torch.equal(layer(one_hot), (q * scale[:, None]).T + layer.bias)


def test_gradient_passes_straight_through():
    layer = QuantLinear(4, 2, weight_bits=2)
    value = torch.randn(6, 4)
    layer(value).sum().backward()
    torch.testing.assert_close(layer.weight.grad, value.sum(dim=0).expand(2, 4))


def test_steps_and_batch_are_independent():
    layer = QuantLinear(4, 2)
    value = torch.randn(3, 5, 4)
    torch.testing.assert_close(layer(value), torch.stack([layer(step) for step in value]))


def test_no_bits_is_a_plain_linear_layer():
    layer = QuantLinear(4, 2, weight_bits=None)
    assert layer.effective_weight() is layer.weight
    with pytest.raises(ValueError, match="weight_bits") as caught:
        layer.integer_weight()
    assert str(caught.value) == "weight_bits must be between 2 and 8 for integer weights, not None"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"weight_bits": 1}, ValueError, "weight_bits must be between 2 and 8, not 1"),
        ({"weight_bits": 9}, ValueError, "weight_bits must be between 2 and 8, not 9"),
        ({"weight_bits": 4.0}, TypeError, "weight_bits must be an integer, not 4.0"),
        ({"in_features": 0}, ValueError, "in_features must be at least 1, not 0"),
        ({"out_features": 0}, ValueError, "out_features must be at least 1, not 0"),
    ],
)
def test_init_wrong_argument(arguments, error, message):
    with pytest.raises(error) as caught:
        QuantLinear(**({"in_features": 4, "out_features": 2} | arguments))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2, "padding": 1},
        {"groups": 2, "bias": True},
        {"dilation": 2, "padding": "same"},
        {"padding": 1, "padding_mode": "circular"},
    ],
)
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_convolution_with_integer_weight(options, bits):
    torch.manual_seed(0)
    layer = QuantConv2d(4, 6, 3, weight_bits=bits, **options)
    q, scale = layer.integer_weight()
    assert q.dtype == torch.int64
    assert q.shape == layer.weight.shape
    assert q.abs().amax(dim=(1, 2, 3)).tolist() == [2 ** (bits - 1) - 1] * 6
    plain = nn.Conv2d(4, 6, 3, **({"bias": False} | options))
    plain.load_state_dict(layer.state_dict() | {"weight": q * scale[:, None, None, None]})
    value = torch.randn(2, 4, 8, 8)
    assert torch.equal(layer(value), plain(value))
    assert not torch.equal(layer.weight, plain.weight)


def test_gradient_of_a_convolution_passes_straight_through():
    layer, value = QuantConv2d(2, 3, 3, weight_bits=2), torch.randn(4, 2, 5, 5)
    layer(value).sum().backward()
    plain = nn.Conv2d(2, 3, 3, bias=False)
    plain(value).sum().backward()
    torch.testing.assert_close(layer.weight.grad, plain.weight.grad)


def test_convolution_without_bits_or_with_wrong_ones():
    layer = QuantConv2d(2, 3, 3, weight_bits=None)
    assert layer.effective_weight() is layer.weight
    with pytest.raises(ValueError, match="weight_bits must be between 2 and 8, not 1"):
        QuantConv2d(2, 3, 3, weight_bits=1)
    with pytest.raises(ValueError, match="out_channels must be at least 1, not 0"):
        QuantConv2d(2, 0, 3)


class Plain(nn.Module):
    """Layers in several places, one of them used twice and one quantized already."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, stride=2, padding=1)
        self.inner = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False), nn.ReLU())
        self.again = self.inner[0]
        self.fine = QuantConv2d(4, 4, 1, weight_bits=8)
        self.classifier = nn.Linear(4, 2)

    def forward(self, value):
        value = self.fine(self.again(self.inner(self.stem(value))))
        return self.classifier(value.mean(dim=(2, 3)))


def test_quantize_module_replaces_the_layers():
    torch.manual_seed(0)
    module = Plain().eval()
    value, names = torch.randn(2, 1, 8, 8), list(module.state_dict())
    expected, weight = module(value), module.stem.weight
    assert quantize_module(module, None) is module
    assert torch.equal(module(value), expected)
    assert isinstance(module.stem, QuantConv2d)
    assert isinstance(module.classifier, QuantLinear)
    assert module.stem.weight is weight
    assert module.again is module.inner[0]
    assert isinstance(module.again, QuantConv2d)
    assert module.fine.weight_bits == 8
    assert list(module.state_dict()) == names
    assert not module.stem.training


def test_quantize_module_with_bits():
    module = quantize_module(Plain(), 3)
    bits = [layer.weight_bits for layer in module.modules() if hasattr(layer, "weight_bits")]
    assert bits == [3, 3, 8, 3]
    quantized = quantize_module(nn.Linear(3, 2), 4)
    assert isinstance(quantized, QuantLinear)
    assert quantized.bias is not None


def test_quantize_module_errors():
    with pytest.raises(ValueError, match="weight_bits must be between 2 and 8, not 9"):
        quantize_module(Plain(), 9)
    with pytest.raises(TypeError) as caught:
        quantize_module(nn.Sequential(nn.LazyConv2d(3, 3)), 4)
    assert str(caught.value) == "layer '0' must be an nn.Conv2d or nn.Linear itself, not a LazyConv2d"


@pytest.mark.parametrize("channels", [1, 3, 4, 6, 16])
@pytest.mark.parametrize("stride", [1, 2, (2, 1), (1, 4)])
def test_pointwise_convolution_with_a_stride(channels, stride):
    """Value and gradients, channels-last, where PyTorch's own gradient writes outside its memory."""
    layer = QuantConv2d(channels, 2 * channels, 1, stride, bias=True).to(memory_format=torch.channels_last)
    value = torch.rand(3, channels, 9, 32).to(memory_format=torch.channels_last).requires_grad_()
    result = layer(value)
    plain = value.detach().contiguous().requires_grad_()
    weight = layer.effective_weight().detach().contiguous().requires_grad_()
    rows, columns = layer.stride
    sums = torch.einsum("bchw,nc->bnhw", plain[:, :, ::rows, ::columns], weight[:, :, 0, 0])
    expected = sums + layer.bias.detach()[:, None, None]
    torch.testing.assert_close(result, expected)
    result.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(value.grad, plain.grad)
    torch.testing.assert_close(layer.weight.grad, weight.grad)
