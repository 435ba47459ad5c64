"""Neurons with time in the batch: equal to LM-HT neurons with a time axis, in every memory format."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmht.model import LMHT, WindowLMHT
from lmht.model.training_speed import count_saved_bytes


def make_pair(steps, batch, **options):
    """Neurons of either kind with the same parameters, off their start."""
    merged, window = WindowLMHT(2, steps, 0.5, 0.1, **options), LMHT(2, steps, 0.5, 0.1, **options)
    with torch.no_grad():
        for parameter in window.parameters():
            parameter.normal_()
    merged.load_state_dict(window.state_dict())
    merged.batch = batch
    return merged, window


def run(neuron, forward, current, upstream):
    """Output, and the gradients of current and parameters."""
    neuron.zero_grad()
    leaf = current.detach().requires_grad_()
    output = forward(leaf)
    output.backward(upstream)
    return [output.detach(), leaf.grad, *(parameter.grad for parameter in neuron.parameters())]


def check_merged(merged, window, current, upstream, *, plain=False):
    """``current`` of shape (T, B, ...) through both, once without and once with its own axis of time."""
    forward = merged.forward_plain if plain else merged
    output, gradient, *learned = run(merged, forward, current.flatten(0, 1), upstream.flatten(0, 1))
    other = window.forward_plain if plain else window
    expected, expected_gradient, *expected_learned = run(window, other, current, upstream)
    assert torch.equal(output, expected.flatten(0, 1))
    assert torch.equal(gradient, expected_gradient.flatten(0, 1))
    # Sums run in another order where the memory format is another one.
    torch.testing.assert_close(learned, expected_learned, rtol=1e-5, atol=1e-4)


@given(
    st.integers(1, 5),
    st.lists(st.integers(1, 4), min_size=1, max_size=4),
    st.booleans(),
    st.sampled_from(["learned", "identity"]),
    st.sampled_from(["learned", 0.75]),
    st.integers(0, 1000),
)
def test_equals_neurons_with_an_axis_of_time(steps, shape, plain, mixing, leak, seed):
    torch.manual_seed(seed)
    merged, window = make_pair(steps, shape[0], mixing=mixing, leak=leak)
    current, upstream = torch.randn(2, steps, *shape)
    check_merged(merged, window, current, upstream, plain=plain)


class OtherOrder(WindowLMHT):
    """Planted fault: row b T + t instead of t B + b."""

    def _over_steps(self, run, current):
        rows = current.unflatten(0, (self.batch, self.steps)).transpose(0, 1)
        return run(rows).transpose(0, 1).flatten(0, 1)


def test_another_order_of_the_rows_is_noticed():
    torch.manual_seed(0)
    merged, window = make_pair(3, 4)
    current, upstream = torch.randn(2, 3, 4, 5)
    check_merged(merged, window, current, upstream)
    merged.__class__ = OtherOrder
    with pytest.raises(AssertionError):
        check_merged(merged, window, current, upstream)


@pytest.mark.parametrize("shape", [(6, 4, 3, 5), (6, 1, 3, 5), (6, 4, 1, 1)])
def test_channels_last_is_kept_and_changes_nothing(shape):
    torch.manual_seed(0)
    merged, window = make_pair(2, 3)
    current, upstream = (
        tensor.contiguous(memory_format=torch.channels_last) for tensor in torch.randn(2, *shape)
    )
    output, gradient, *_ = run(merged, merged, current, upstream)
    expected, expected_gradient, *_ = run(
        window, window, current.unflatten(0, (2, 3)), upstream.unflatten(0, (2, 3))
    )
    assert torch.equal(output, expected.flatten(0, 1))
    assert torch.equal(gradient, expected_gradient.flatten(0, 1))
    assert output.is_contiguous(memory_format=torch.channels_last)
    assert gradient.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_no_copy_of_the_current_is_kept(memory_format):
    merged, _ = make_pair(2, 3)
    current = torch.randn(6, 8, 9, 9).contiguous(memory_format=memory_format).requires_grad_()
    assert count_saved_bytes(lambda: merged(current)) <= current.nbytes + 1000


def test_analog_current_is_the_same_at_every_step():
    torch.manual_seed(0)
    merged, window = make_pair(3, 4)
    current = torch.randn(4, 2, 5, 5)
    assert torch.equal(merged(current), window(current.expand(3, *current.shape)).flatten(0, 1))


def test_one_step():
    merged, window = make_pair(1, 4)
    current = torch.randn(4, 6)
    assert torch.equal(merged(current), window(current[None])[0])


def test_batch_is_not_set():
    with pytest.raises(ValueError, match="batch") as caught:
        WindowLMHT(2, 2)(torch.zeros(4, 3))
    assert str(caught.value) == (
        "batch must be set before currents come; a SpikingNetwork around the module does that"
    )


@pytest.mark.parametrize("shape", [(5, 7), (0, 7), (12, 7), ()])
def test_wrong_number_of_rows(shape):
    merged, _ = make_pair(2, 3)
    with pytest.raises(ValueError, match="rows") as caught:
        merged(torch.zeros(shape))
    assert str(caught.value) == (
        f"current must have 3 rows, or 6 after other neurons (T = 2), not shape {shape}"
    )


def test_arguments_are_checked_as_those_of_lmht():
    with pytest.raises(ValueError, match="levels must be at least 1, not 0"):
        WindowLMHT(0, 2)
    assert repr(WindowLMHT(2, 3)) == repr(LMHT(2, 3)).replace("LMHT", "WindowLMHT")
