"""The fused window against the plain loop and a scalar reference: values, gradients, memory, planted faults."""

import functools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lmht.model import LMHT, native, window
from lmht.model.training_speed import count_saved_bytes

PATHS = ["native", "tensors"]


def make_neuron(
    levels, steps, mixing, leak, *, theta=0.6, initial=0.25, seed=0, dtype=torch.float32, detach=None
):
    """A neuron whose learned parts are off their start."""
    neuron = LMHT(levels, steps, theta, initial, mixing=mixing, leak=leak, detach=detach).to(dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in neuron.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return neuron


def run(neuron, forward, current, upstream):
    """Output, and the gradients of the current and of the learned parts."""
    neuron.zero_grad()
    leaf = current.detach().requires_grad_()
    output = forward(leaf)
    output.backward(upstream)
    return [output.detach(), leaf.grad, *(parameter.grad for parameter in neuron.parameters())]


def check_equal(neuron, current, upstream, tolerance):
    """Outputs bit for bit; gradients to ``tolerance`` of the sum of the terms that make them up."""
    output, gradient, *learned = run(neuron, neuron.forward, current, upstream)
    plain_output, plain_gradient, *plain_learned = run(neuron, neuron.forward_plain, current, upstream)
    assert torch.equal(output, plain_output)
    assert output.is_contiguous()
    assert gradient.dtype == current.dtype
    assert (gradient - plain_gradient).abs().max() <= tolerance * upstream.abs().sum(dim=0).max()
    scale = upstream.abs().sum() * (1 + current.abs().max()) if len(plain_learned) else 1
    for found, expected in zip(learned, plain_learned, strict=True):
        assert (found - expected).abs().max() <= tolerance * scale


def draw_window(steps, shape, seed, dtype):
    generator = torch.Generator().manual_seed(seed)
    current = torch.randn(steps, *shape, generator=generator, dtype=dtype) * 1.5
    return current, torch.randn(steps, *shape, generator=generator, dtype=dtype)


mixings = st.sampled_from(["learned", "identity", "uniform"])
leaks = st.sampled_from(["learned", 1.0, 0.75, 0.0])
rules = st.sampled_from([None, True, False])
shapes = st.lists(st.integers(1, 6), min_size=0, max_size=4)


@pytest.mark.parametrize("path", PATHS)
def test_equals_plain(use, path):
    use(path)

    @settings(max_examples=150)
    @given(
        shapes,
        st.integers(1, 8),
        st.integers(1, 15),
        mixings,
        leaks,
        rules,
        st.integers(0, 10**6),
        st.booleans(),
    )
    def check(shape, steps, levels, mixing, leak, detach, seed, double):
        dtype = torch.float64 if double else torch.float32
        neuron = make_neuron(
            levels, steps, mixing, leak, theta=2 / levels, seed=seed, dtype=dtype, detach=detach
        )
        check_equal(neuron, *draw_window(steps, shape, seed, dtype), 1e-14 if double else 1e-6)

    check()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("steps", [1, 2, 4, 5, 8, 17])
@pytest.mark.parametrize(("mixing", "leak"), [("learned", "learned"), ("uniform", 0.9)])
@pytest.mark.parametrize("detach", [True, False])
def test_equals_plain_over_several_blocks(use, path, steps, mixing, leak, detach):
    """70,001 neurons are two blocks and three shares; with 17 steps tensor operations take over from C++."""
    use(path)
    neuron = make_neuron(3, steps, mixing, leak, detach=detach)
    check_equal(neuron, *draw_window(steps, (70_001,), steps, torch.float32), 1e-6)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("leak", ["learned", 0.9])
def test_currents_in_other_orders(use, path, leak):
    """Permuted, strided and repeated currents, an expanded upstream gradient, and an empty batch."""
    use(path)
    neuron = make_neuron(2, 3, "learned", leak)
    generator = torch.Generator().manual_seed(3)
    base = torch.randn(3, 4, 5, 6, generator=generator)
    for current in (
        base.permute(0, 3, 1, 2),
        base[:, ::2, :, 1::2],
        base.permute(1, 2, 0, 3)[:3, :, :, :],
        base[:1].expand(3, 4, 5, 6),
        base[:, :0],
    ):
        upstream = torch.randn(current.shape, generator=generator)
        if current.numel():
            check_equal(neuron, current, upstream, 1e-6)
            check_equal(neuron, current, upstream[:1].expand(current.shape), 1e-6)
        else:
            assert neuron(current).shape == current.shape


def test_thread_count_does_not_change_gradients(use):
    use("native")
    neuron = make_neuron(2, 2, "learned", "learned")
    current, upstream = draw_window(2, (150_000,), 1, torch.float32)
    one = run(neuron, neuron.forward, current, upstream)
    torch.set_num_threads(2)
    try:
        two = run(neuron, neuron.forward, current, upstream)
    finally:
        torch.set_num_threads(1)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def scalar_reference(currents, upstream, omega, leak, theta, levels, initial, detach):
    """Eqs. 12-16, or 5 in place of 13, for one neuron in Python numbers: levels, dI, dΩ, dλ."""
    steps = range(len(currents))
    membrane, fired, before, inside = initial, [], [], []
    for t in steps:
        charged = leak * membrane + sum(omega[t][u] * currents[u] for u in steps)
        level = min(max(math.floor(charged / theta), 0), levels)
        inside.append(1 if theta / 2 <= charged <= (levels + 0.5) * theta else 0)
        before.append(membrane)
        membrane = charged - theta * level
        fired.append(level)
    passed = [0.0] * (len(steps) + 1)
    for t in reversed(steps):
        carried = 0.0 if detach else leak * passed[t + 1]
        passed[t] = inside[t] * upstream[t] + (1 - inside[t]) * carried
    d_leak = sum(passed[t] * before[t] for t in steps)
    d_currents = [sum(omega[t][u] * passed[t] for t in steps) for u in steps]
    return fired, d_currents, [[passed[t] * currents[u] for u in steps] for t in steps], d_leak


def check_scalar(neuron, current, upstream):
    """All neurons of a (T, N) window in float64 against the scalar reference."""
    output, gradient, d_omega_logits, d_leak_logit = run(neuron, neuron.forward, current, upstream)
    omega, leak = neuron.mixing_matrix().detach(), neuron.leak().detach()
    rows = zip(current.T.tolist(), upstream.T.tolist(), strict=True)
    found = [
        scalar_reference(
            *row,
            omega.tolist(),
            leak.item(),
            neuron.theta,
            neuron.levels,
            neuron.initial_membrane,
            neuron.detach,
        )
        for row in rows
    ]
    fired, d_current, d_omega, d_leak = zip(*found, strict=True)

    tolerance = 1e-6 if current.dtype == torch.float64 else 1e-5

    def close(value, expected):
        torch.testing.assert_close(value, expected, rtol=tolerance, atol=tolerance)

    assert torch.equal((output / neuron.theta).round().long(), torch.tensor(fired).T)
    close(gradient.double(), torch.tensor(d_current, dtype=torch.float64).T)
    # Ω = 2 s / T and λ = s + 1/2 with s = sigmoid, whose derivative is s (1 - s).
    part = omega.double() * neuron.steps / 2
    slope = 2 * part * (1 - part) / neuron.steps
    close(d_omega_logits.double(), torch.tensor(d_omega, dtype=torch.float64).sum(dim=0) * slope)
    slope = (leak.double() - 0.5) * (1.5 - leak.double())
    close(d_leak_logit.double(), sum(d_leak) * slope)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("levels", "steps"), [(1, 1), (2, 2), (3, 4), (15, 8)])
@pytest.mark.parametrize("detach", [True, False])
def test_equals_scalar_reference(use, path, levels, steps, detach):
    use(path)
    dtype = torch.float64 if path == "tensors" else torch.float32
    neuron = make_neuron(
        levels, steps, "learned", "learned", theta=0.5, seed=levels, dtype=dtype, detach=detach
    )
    check_scalar(neuron, *draw_window(steps, (40,), steps, dtype))


C_FAULTS = {
    "window too narrow": ("(charged <= high)", "(charged <= high - theta)"),
    "window without its ends": ("(charged >= low) &", "(charged > low) &"),
    "not the membrane before": ("before[t] = v;", "before[t] = charged;"),
    "transposed mixing": ("back += omega[t][u] * passed[t]", "back += omega[u][t] * passed[t]"),
    "membrane not detached": ("if (!detaches) carried", "carried"),
    "through time, membrane detached": ("if (!detaches) carried", "if (false) carried"),
    "through time, inside the window too": (": carried;", ": Lanes{}; passed[t] += carried;"),
    "through time, without leak": ("carried = leak * passed[t];", "carried = passed[t];"),
    "staircase rounds": ("Lanes level = __builtin", "ratio += 0.5f; Lanes level = __builtin"),
    "marks of the first neurons": ("place.read(marks, windows);", "place.read(marks, windows - place.at);"),
    "marks of the step before": ("(wide & (1 << t)) != 0", "(wide & (1 << t >> 1)) != 0"),
    "last lane not read": ("row + at, count * sizeof(Number)", "row + at, (count - 1) * sizeof(Number)"),
}


@pytest.mark.parametrize("fault", C_FAULTS)
def test_planted_fault_in_c_is_noticed(use, monkeypatch, tmp_path, fault):
    use("native")
    right, wrong = C_FAULTS[fault]
    source = native._SOURCE.read_text(encoding="utf-8")
    assert right in source
    neuron = make_neuron(2, 3, "learned", "learned", theta=0.5)
    current, upstream = draw_window(3, (50,), 1, torch.float32)
    if fault == "window without its ends":
        neuron = make_neuron(2, 3, "identity", "learned", theta=0.5, initial=0.0)
        current = torch.full_like(current, 0.25)
    elif fault.startswith("marks"):
        neuron = make_neuron(2, 3, "uniform", 0.9, theta=0.5)
    elif fault.startswith("through time"):
        neuron = make_neuron(2, 3, "identity", "learned", theta=0.5)
    check_equal(neuron, current, upstream, 1e-6)
    faulty = tmp_path / "window.cpp"
    faulty.write_text(source.replace(right, wrong), encoding="utf-8")
    monkeypatch.setattr(native, "_SOURCE", faulty)
    monkeypatch.setattr(native, "library", functools.cache(native.library.__wrapped__))
    assert native.has_library()
    with pytest.raises(AssertionError):
        check_equal(neuron, current, upstream, 1e-6)


@pytest.mark.parametrize("fault", ["wide window", "undetached membrane", "other places", "staircase"])
def test_planted_fault_in_tensors_is_noticed(use, monkeypatch, fault):
    use("tensors")
    neuron = make_neuron(2, 3, "learned", "learned", theta=0.5, detach=fault != "other places")
    current, upstream = draw_window(3, (50,), 1, torch.float32)
    check_equal(neuron, current, upstream, 1e-6)
    pass_back = window.WindowBlock.pass_back

    def through_membrane(work, upstream):
        gradient = pass_back(work, upstream)
        for t in reversed(range(work.steps - 1)):
            gradient[t] += work.leak * gradient[t + 1]
        return gradient

    def win_for_one_minus_win(work, upstream):
        work.inside.logical_not_()
        return pass_back(work, upstream)

    if fault == "wide window":
        monkeypatch.setattr(
            window.Staircase, "window", lambda self, dtype: (0.0, (self.levels + 1) * self.theta)
        )
    elif fault == "staircase":
        monkeypatch.setattr(
            window.Staircase, "fire", lambda self, m, out: torch.round(m / self.theta, out=out)
        )
    else:
        faulty = through_membrane if fault == "undetached membrane" else win_for_one_minus_win
        monkeypatch.setattr(window.WindowBlock, "pass_back", faulty)
    with pytest.raises(AssertionError):
        check_equal(neuron, current, upstream, 1e-6)


@pytest.mark.parametrize("mixing", ["learned", "identity", "uniform"])
@pytest.mark.parametrize("leak", ["learned", 1.0])
@pytest.mark.parametrize("steps", [2, 4])
def test_keeps_less_for_backward(mixing, leak, steps):
    """At most the current (4 bytes a neuron and step), or a byte a neuron for up to 8 steps if nothing is learned."""
    neuron = make_neuron(2, steps, mixing, leak)
    current = torch.randn(steps, 8, 500).requires_grad_()
    fused = count_saved_bytes(lambda: neuron(current))
    assert fused < count_saved_bytes(lambda: neuron.forward_plain(current))
    needs_current = mixing == "learned" or leak == "learned"
    bits = 0 if needs_current else current[0].numel()
    assert fused <= current.nbytes * needs_current + bits + 1000


def test_only_wanted_gradients():
    """A current, or parameters, that need no gradient get none; without any, nothing is kept."""
    neuron = make_neuron(2, 2, "learned", "learned")
    neuron(torch.randn(2, 9)).sum().backward()
    assert neuron.omega_logits.grad is not None
    neuron.requires_grad_(False)
    assert not neuron(torch.randn(2, 9)).requires_grad
    current = torch.randn(2, 9, requires_grad=True)
    neuron(current).sum().backward()
    assert current.grad is not None
    with torch.no_grad():
        assert not neuron(current).requires_grad


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(use, path, dtype):
    use(path)
    neuron = make_neuron(2, 4, "learned", "learned", theta=0.5)
    current, upstream = (tensor.to(dtype) for tensor in draw_window(4, (3, 30), 1, torch.float32))
    output, gradient, *learned = run(neuron, neuron.forward, current, upstream)
    expected = run(neuron, neuron.forward, current.float(), upstream.float())
    assert output.dtype == gradient.dtype == dtype
    assert torch.equal(output.float(), expected[0])
    torch.testing.assert_close(gradient, expected[1].to(dtype))
    torch.testing.assert_close(learned, expected[2:])


def test_autocast_changes_nothing():
    neuron = make_neuron(2, 4, "learned", "learned")
    current, upstream = draw_window(4, (3, 30), 1, torch.float32)
    expected = run(neuron, neuron.forward, current, upstream)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = run(neuron, neuron.forward, current, upstream)
        mixed = nn.Linear(30, 7)(current)
        assert neuron(mixed).dtype == mixed.dtype == torch.bfloat16
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_second_derivative_is_refused():
    neuron = make_neuron(2, 2, "learned", "learned")
    current = torch.randn(2, 5, requires_grad=True)
    (gradient,) = torch.autograd.grad(neuron(current).square().sum(), current, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        gradient.sum().backward()


@pytest.mark.parametrize("reason", ["switched off", "no compiler", "compiler that fails"])
def test_without_the_passes_in_c(monkeypatch, reason):
    if reason == "switched off":
        monkeypatch.setenv("LMHT_NATIVE", "0")
    else:
        monkeypatch.setenv("CXX", "no-such-compiler" if reason == "no compiler" else "false")
    assert native.library.__wrapped__(2, torch.float32) is None
