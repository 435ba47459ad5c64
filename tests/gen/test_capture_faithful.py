"""What a trace alone would miss: values that share memory, methods and hooks of one's own, numbers set afterwards."""

import copy
import re
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lmht.gen.capture import capture
from lmht.gen.compile import CompileOptions, compile_network, to_integers
from lmht.gen.fold_batch_norm import fold_batch_norm
from lmht.model import Network, NetworkConfig, QuantConv2d, QuantLinear, SpikingNetwork, WindowLMHT
from lmht.sim.golden import GoldenModel


def neurons():
    return WindowLMHT(3, 2, 0.5)


def wrap(module):
    return SpikingNetwork(module, input_shape=(2, 6, 6), classes=3).eval()


def refusal(network):
    with pytest.raises(ValueError, match=r".") as caught:
        to_integers(network, CompileOptions(), name="x")
    assert "\n" not in str(caught.value)
    return str(caught.value)


class Block(nn.Module):
    """Two convolutions of spikes `a`, of which `change(a's other name, the first convolution's result)` changes."""

    def __init__(self, alias, change, used_again=True):
        super().__init__()
        self.stem, self.inner, self.last = nn.Conv2d(2, 4, 3, padding=1), conv(), conv()
        self.stem2, self.fourth = nn.Conv2d(2, 4, 3, padding=1), neurons()
        self.first, self.second, self.third = neurons(), neurons(), neurons()
        self.drop, self.same = nn.Dropout(0.2), nn.Identity()
        self.alias, self.change, self.used_again = alias, change, used_again
        self.classifier = nn.Linear(144, 3)

    def forward(self, image):
        a = self.first(self.stem(image))
        current = self.inner(a if self.used_again else self.fourth(self.stem2(image)))
        b = self.change(self.alias(self, a), current)
        last = self.last(self.second(b))
        return self.classifier(self.third(last + a if self.used_again else last).flatten(1))


def conv():
    return nn.Conv2d(4, 4, 3, padding=1)


def iadd(value, other):
    value += other
    return value


ALIASES = {
    "identity": lambda net, a: net.same(a),
    "dropout": lambda net, a: net.drop(a),
    "functional dropout": lambda net, a: F.dropout(a, 0.5, training=False),
    "view": lambda net, a: a.permute(0, 2, 3, 1).permute(0, 3, 1, 2),
    "reshape": lambda net, a: a.reshape(a.shape),
    "contiguous": lambda net, a: a.contiguous(memory_format=torch.channels_last),
    "detach": lambda net, a: a.detach(),
    "twice": lambda net, a: net.same(net.drop(a)),
    "index": lambda net, a: a[:],
    "chunk": lambda net, a: a.chunk(1)[0],
    "squeeze": lambda net, a: a.unsqueeze(0).squeeze(0),
}
CHANGES = {
    "iadd": iadd,
    "add_": lambda b, c: b.add_(c),
    "mul_": lambda b, c: b.mul_(2) + c,
    "relu_": lambda b, c: F.relu(b, inplace=True) + c,
    "out": lambda b, c: torch.add(b, c, out=b),
    "copy_": lambda b, c: b.copy_(c),
}


@pytest.mark.parametrize("alias", ALIASES)
@pytest.mark.parametrize("change", ["iadd", "add_"])
def test_a_change_in_place_of_what_is_used_under_another_name(alias, change):
    message = refusal(wrap(Block(ALIASES[alias], CHANGES[change])))
    if alias in ("identity", "dropout", "functional dropout", "twice"):
        assert re.fullmatch(r"network \(Block\): (iadd|add_): it changes its operand in place, .*", message)


@pytest.mark.parametrize("change", CHANGES)
def test_other_changes_in_place(change):
    refusal(wrap(Block(ALIASES["identity"], CHANGES[change])))


@pytest.mark.parametrize("alias", ["identity", "dropout", "functional dropout", "twice"])
def test_a_change_in_place_that_nothing_else_sees(alias):
    torch.manual_seed(0)
    network = wrap(Block(ALIASES[alias], iadd, used_again=False))
    images = torch.randint(0, 256, (100, 2, 6, 6), dtype=torch.uint8)
    integers = to_integers(network, CompileOptions(multiplier_bits=24, fraction_bits=16), name="x")
    with torch.no_grad():
        logits = network(images)
    error = GoldenModel(integers).run(images).logits * integers.logit_scale - logits
    assert error.abs().mean() < 0.1 * logits.std()


class OwnWeight(QuantConv2d):
    def effective_weight(self):
        return self.weight.sign()


class OwnIntegers(QuantConv2d):
    def integer_weight(self):
        return super().integer_weight()


class OwnForward(QuantConv2d):
    def forward(self, value):
        return super().forward(value) * 2


class OwnConvolution(nn.Conv2d):
    def _conv_forward(self, value, weight, bias):
        return super()._conv_forward(value, weight * 2, bias)


class OwnCall(nn.Conv2d):
    def __call__(self, value):
        return super().__call__(value) * 2


class OwnLeak(WindowLMHT):
    def leak(self):
        return super().leak() * 0.5


class OwnNorm(nn.BatchNorm2d):
    def forward(self, value):
        return super().forward(value).abs()


class Harmless(QuantConv2d):
    def __init__(self):
        super().__init__(2, 4, 3)
        self.note = "mine"

    def extra_repr(self):
        return self.note


def module(first=None, norm=None, neuron=None):
    norm, neuron = norm or nn.BatchNorm2d(4), neuron or neurons()
    return nn.Sequential(
        first or QuantConv2d(2, 4, 3), norm, neuron, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)
    )


def patched(name, place=0):
    changed = module()
    setattr(changed[place], name, lambda *arguments: torch.zeros(1))
    return changed


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (module(OwnWeight(2, 4, 3)), "0 (OwnWeight): it has its own effective_weight and is not mapped"),
        (module(OwnIntegers(2, 4, 3)), "0 (OwnIntegers): it has its own integer_weight and is not mapped"),
        (module(OwnForward(2, 4, 3)), "0 (OwnForward): it has its own forward and is not mapped"),
        (
            module(OwnConvolution(2, 4, 3)),
            "0 (OwnConvolution): it has its own _conv_forward and is not mapped",
        ),
        (module(OwnCall(2, 4, 3)), "0 (OwnCall): it has its own __call__ and is not mapped"),
        (module(norm=OwnNorm(4)), "1 (OwnNorm): it has its own forward and is not mapped"),
        (module(neuron=OwnLeak(2, 2)), "2 (OwnLeak): it has its own leak and is not mapped"),
        (patched("effective_weight"), "0 (QuantConv2d): it has its own effective_weight and is not mapped"),
        (patched("forward", 3), "3 (AvgPool2d): it has its own forward and is not mapped"),
        (patched("mixing_matrix", 2), "2 (WindowLMHT): it has its own mixing_matrix and is not mapped"),
        (
            module(nn.utils.spectral_norm(nn.Conv2d(2, 4, 3))),
            "0 (Conv2d): it has hooks, which hardware would not run; remove them",
        ),
    ],
)
def test_methods_of_ones_own(changed, message):
    assert refusal(wrap(changed)).startswith(message)


def test_what_changes_no_number_may_be_ones_own():
    capture(wrap(module(Harmless())))


def test_a_parametrized_weight_is_the_one_that_is_taken():
    normed = nn.utils.parametrizations.weight_norm(QuantConv2d(2, 4, 3, weight_bits=3))
    with torch.no_grad():
        normed.parametrizations.weight.original0.mul_(3)
    projection = capture(wrap(module(normed))).layers[0].projections[0]
    assert np.array_equal(projection.weights, normed.integer_weight()[0].numpy())


@pytest.mark.parametrize("register", ["register_module_forward_hook", "register_module_forward_pre_hook"])
@pytest.mark.parametrize("kind", ["spiking", "fully connected"])
def test_global_hooks(register, kind):
    network = wrap(module()) if kind == "spiking" else fully_connected()
    hook = getattr(nn.modules.module, register)(lambda *arguments: None)
    try:
        assert "global hooks are registered" in refusal(network)
    finally:
        hook.remove()
    to_integers(network, CompileOptions(), name="x")


def test_hooks_around_the_whole_network():
    network = wrap(module())
    network.register_forward_pre_hook(lambda _, images: (images[0] / 255,))
    assert (
        refusal(network)
        == "network (SpikingNetwork): it has hooks, which hardware would not run; remove them"
    )

    class Scaled(SpikingNetwork):
        def forward(self, images):
            return super().forward(images) * 2

    network = Scaled(module(), input_shape=(2, 6, 6), classes=3)
    assert refusal(network).startswith("network (Scaled): it has its own forward and is not mapped")


def fully_connected():
    return Network(NetworkConfig(architecture="4-3-2", input_shape=(1, 2, 2))).eval()


class OwnLinear(QuantLinear):
    def effective_weight(self):
        return self.weight.sign()


@pytest.mark.parametrize("fault", ["class", "patch", "hook", "theta"])
def test_a_fully_connected_network(fault):
    network = fully_connected()
    if fault == "class":
        network.layers[0].linear = OwnLinear(4, 3)
        expected = "layers.0.linear (OwnLinear): it has its own effective_weight"
    elif fault == "patch":
        network.layers[0].norm.forward = lambda value: value
        expected = "layers.0.norm (TimeBatchNorm): it has its own forward"
    elif fault == "hook":
        network.layers[1].register_forward_hook(lambda *arguments: None)
        expected = "layers.1 (Layer): it has hooks"
    else:
        network.layers[0].neuron.theta = -0.5
        expected = "layer 0: theta must be above 0, not -0.5"
    with pytest.raises(ValueError, match=re.escape(expected)):
        fold_batch_norm(network)


def test_training_mode_that_stays_on():
    class Stubborn(nn.BatchNorm2d):
        def train(self, mode=True):
            return super().train(True)

    message = refusal(wrap(module(norm=Stubborn(4))))
    assert message.startswith("1 (Stubborn): it stays in training mode after eval()")


@pytest.mark.parametrize("fault", ["variance", "weight", "overflow", "mixing"])
def test_numbers_that_are_not_finite_are_named(fault):
    changed = module()
    with torch.no_grad():
        if fault == "variance":
            changed[1] = nn.BatchNorm2d(4, eps=0.0)
            changed[1].running_var.zero_()
            expected = "1 (BatchNorm2d): running_var + eps must be above 0, not 0"
        elif fault == "weight":
            changed[5].weight[0, 0] = float("nan")
            expected = "5 (Linear): weight must be finite, not nan"
        elif fault == "overflow":
            changed[0].weight.fill_(3e38)
            expected = "0 (QuantConv2d): its result on random images must be finite, not inf"
        else:
            changed[2].omega_logits.fill_(float("nan"))
            expected = "2 (WindowLMHT): mixing must be finite, not nan"
    message = refusal(wrap(changed))
    assert message.startswith(expected)
    assert "when it was traced" not in message


@pytest.mark.parametrize("kind", [torch.tensor, lambda x: nn.Parameter(torch.tensor(x)), np.float32])
def test_a_threshold_that_is_a_number_of_another_kind(kind):
    changed = module()
    expected = capture(wrap(copy.deepcopy(changed))).layers[0].neuron.theta
    changed[2].theta = kind(0.5)
    found = capture(wrap(changed)).layers[0].neuron.theta
    assert type(found) is float
    assert found == expected


@pytest.mark.parametrize("theta", [-0.5, 0.0, float("nan"), torch.tensor([0.5, 0.5]), "0.5", None])
def test_a_threshold_that_is_no_positive_number(theta):
    changed = module()
    changed[2].theta = theta
    assert refusal(wrap(changed)).startswith("2 (WindowLMHT): theta must be ")


@pytest.mark.parametrize("make", [nn.DataParallel, partial(torch.compile, backend="eager")])
def test_wrapped_networks_are_to_be_unwrapped(make, tmp_path):
    name = ".module" if make is nn.DataParallel else "._orig_mod"
    whole = make(wrap(module()))
    assert refusal(whole).endswith(f"use that itself, its {name}")
    with pytest.raises(ValueError, match="it only runs another module") as caught:
        compile_network(whole, tmp_path / "build")
    assert str(caught.value).endswith(name)
    inside = wrap(make(module()))
    assert refusal(inside).endswith(f"use that itself, its {name}")
