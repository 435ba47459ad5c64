"""Windows of 16-bit numbers in C: share by share the same as in float32."""

import pytest
import torch

from lmht.model import LMHT, half_window, native

pytestmark = pytest.mark.skipif(native.library() is None, reason="no C compiler")

# Two shares, the second one small.
NEURONS = 70_001


def make_case(mixing, leak, dtype, steps=3):
    torch.manual_seed(1)
    neuron = LMHT(2, steps, 0.5, mixing=mixing, leak=leak)
    with torch.no_grad():
        for parameter in neuron.parameters():
            parameter.normal_()
    current, upstream = torch.randn(2, steps, NEURONS).to(dtype)
    return neuron, current, upstream


def run(neuron, current, upstream):
    """Output, and the gradients of current and parameters."""
    neuron.zero_grad()
    leaf = current.detach().requires_grad_()
    output = neuron(leaf)
    output.backward(upstream)
    return [output.detach(), leaf.grad, *(parameter.grad for parameter in neuron.parameters())]


def check_half(neuron, current, upstream):
    output, gradient, *learned = run(neuron, current, upstream)
    expected, expected_gradient, *expected_learned = run(neuron, current.float(), upstream.float())
    assert output.dtype == gradient.dtype == current.dtype
    assert torch.equal(output, expected.to(current.dtype))
    torch.testing.assert_close(gradient, expected_gradient.to(current.dtype))
    torch.testing.assert_close(learned, expected_learned, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("mixing", ["learned", "identity", "uniform"])
@pytest.mark.parametrize("leak", ["learned", 0.75])
def test_equals_float32(dtype, mixing, leak):
    check_half(*make_case(mixing, leak, dtype))


@pytest.mark.parametrize("steps", [1, 9])
def test_windows_of_other_lengths(steps):
    """Nine steps need two bytes of marks for a neuron."""
    check_half(*make_case("learned", 0.75, torch.bfloat16, steps))


def test_two_threads():
    neuron, current, upstream = make_case("learned", "learned", torch.bfloat16)
    one = run(neuron, current, upstream)
    torch.set_num_threads(2)
    try:
        two = run(neuron, current, upstream)
    finally:
        torch.set_num_threads(1)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_under_autocast_the_mixing_stays_in_float32():
    neuron, current, upstream = make_case("learned", "learned", torch.bfloat16)
    expected = run(neuron, current, upstream)
    with torch.autocast("cpu", torch.bfloat16):
        found = run(neuron, current, upstream)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_without_gradients():
    neuron, current, _ = make_case("learned", "learned", torch.bfloat16)
    with torch.no_grad():
        assert torch.equal(neuron(current), neuron(current.float()).bfloat16())


@pytest.mark.parametrize("fault", ["no mixing", "only the first share", "marks forgotten"])
def test_planted_fault_is_noticed(monkeypatch, fault):
    case = make_case("learned", 0.75, torch.bfloat16)
    if fault == "no mixing":
        monkeypatch.setattr(half_window, "_mix", lambda work, wide: wide.clone())
    elif fault == "only the first share":
        monkeypatch.setattr(native, "over_neurons", lambda neurons, work: work(0, 0, min(neurons, 65536)))
    else:
        monkeypatch.setattr(half_window, "forward_half", None)
        whole = half_window.backward_half
        monkeypatch.setattr(
            "lmht.model.fused.backward_half",
            lambda work, upstream, currents, bits, *rest: whole(
                work, upstream, currents, torch.zeros_like(bits), *rest
            ),
        )
    with pytest.raises(AssertionError):
        check_half(*case)
