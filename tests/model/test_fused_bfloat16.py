"""Windows of 16-bit numbers: the same as in float32, rounded, in C and as tensor operations."""

import functools
from unittest import mock

import pytest
import torch

from lmht.model import LMHT, native

needs_c = pytest.mark.skipif(not native.has_library(), reason="no C++ compiler")

# Two shares, the second one small.
NEURONS = 70_001


def make_case(mixing, leak, dtype, steps=3, detach=None):
    torch.manual_seed(1)
    neuron = LMHT(2, steps, 0.5, mixing=mixing, leak=leak, detach=detach)
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
    # float16 takes the tensor operations; those in C++ may round a sum over steps in another order.
    same = native.library if current.dtype == torch.bfloat16 else lambda steps, dtype: None
    with mock.patch.object(native, "library", same):
        expected, expected_gradient, *expected_learned = run(neuron, current.float(), upstream.float())
    assert output.dtype == gradient.dtype == current.dtype
    assert torch.equal(output, expected.to(current.dtype))
    if current.dtype == torch.bfloat16:
        assert torch.equal(gradient, expected_gradient.to(current.dtype))
    else:
        torch.testing.assert_close(gradient, expected_gradient.to(current.dtype))
    torch.testing.assert_close(learned, expected_learned, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("mixing", ["learned", "identity", "uniform"])
@pytest.mark.parametrize("leak", ["learned", 0.75])
@pytest.mark.parametrize("detach", [True, False])
def test_equals_float32(dtype, mixing, leak, detach):
    check_half(*make_case(mixing, leak, dtype, detach=detach))


@pytest.mark.parametrize("steps", [1, 8, 9])
def test_windows_of_other_lengths(steps):
    """Nine steps need two bytes of marks for a neuron."""
    check_half(*make_case("learned", 0.75, torch.bfloat16, steps))
    check_half(*make_case("identity", 0.75, torch.bfloat16, steps))


@needs_c
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


def check_ties():
    """Means of two gradients of 8 bits each have 9 bits: half of them lie between two numbers of bfloat16."""
    neuron = LMHT(1, 2, 0.5, mixing="uniform", leak=1.0)
    upstream = torch.randint(128, 256, (2, 600), generator=torch.Generator().manual_seed(0)).float()
    current = torch.full_like(upstream, 0.5)
    _, gradient = run(neuron, current.bfloat16(), upstream.bfloat16())
    assert torch.equal(gradient, (upstream.mean(dim=0).expand(2, -1)).bfloat16())


def test_ties_are_rounded_to_even():
    check_ties()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e-40, 3.3e38])
def test_special_gradients(value):
    """Gradients that overflow, underflow or are no number are rounded as PyTorch rounds them."""
    neuron = LMHT(2, 1, 0.5, mixing="identity", leak=1.0)
    current = torch.full((1, 3), 0.5, dtype=torch.bfloat16).requires_grad_()
    neuron(current).backward(torch.full((1, 3), value, dtype=torch.bfloat16))
    expected = torch.full((1, 3), value, dtype=torch.bfloat16)
    assert torch.equal(current.grad.nan_to_num(7), expected.nan_to_num(7))


C_FAULTS = {
    "rounded down": ("(bits + 0x7fff + (bits >> 16 & 1)) >> 16", "bits >> 16"),
    "half up": ("(bits + 0x7fff + (bits >> 16 & 1)) >> 16", "(bits + 0x8000) >> 16"),
}


@needs_c
@pytest.mark.parametrize("fault", C_FAULTS)
def test_planted_fault_in_c_is_noticed(monkeypatch, tmp_path, fault):
    neuron, current, upstream = make_case("learned", 0.75, torch.bfloat16)
    check_half(neuron, current, upstream)
    right, wrong = C_FAULTS[fault]
    source = native._SOURCE.read_text(encoding="utf-8")
    assert right in source
    faulty = tmp_path / "window.cpp"
    faulty.write_text(source.replace(right, wrong), encoding="utf-8")
    monkeypatch.setattr(native, "_SOURCE", faulty)
    monkeypatch.setattr(native, "library", functools.cache(native.library.__wrapped__))
    with pytest.raises(AssertionError):
        check_ties() if fault == "half up" else check_half(neuron, current, upstream)
