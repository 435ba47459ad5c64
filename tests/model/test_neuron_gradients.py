"""Gradients of the neurons against values derived by hand, from Eqs. 13-16 and, not detached, from Eq. 5."""

import math
from dataclasses import replace

import pytest
import torch

from lmht.model import LMHT, QCFS, window


def run(neuron, currents, upstream):
    """Output, and the gradient of the current after back-propagating ``upstream``."""
    current = torch.tensor(currents, dtype=torch.float64, requires_grad=True)
    output = neuron.double()(current)
    output.backward(torch.tensor(upstream, dtype=torch.float64))
    return output.detach(), current.grad


def assert_close(found, expected):
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12)


def make_two_step_neuron(**options):
    """T = 2, L = 2, θ = 1, Ω = [[3/4, 1/4], [1/2, 1/2]] and λ = 3/4.

    For T = 2, Ω = sigmoid(ω): ln 3 gives 3/4 and -ln 3 gives 1/4, both with derivative 3/16; 0 gives 1/2,
    with derivative 1/4. λ = sigmoid(α) + 1/2 = 3/4 for α = -ln 3, with derivative 3/16.
    """
    neuron = LMHT(levels=2, steps=2, **options).double()
    with torch.no_grad():
        neuron.omega_logits.copy_(torch.tensor([[math.log(3), -math.log(3)], [0, 0]], dtype=torch.float64))
        neuron.leak_logit.fill_(-math.log(3))
    return neuron


def test_surrogate_window_of_one_step():
    """The staircase of L = 2, θ = 1 passes gradients for m from 1/2 to 5/2, ends included, none outside.

    With T = 1, Ω = 1 and m = I, so the gradient of I is the upstream one times the window. dL/dΩ = sum of
    upstream x window x I = 2 * 0.5 + 3 * 1.25 + 4 * 2.5 = 14.75, and dΩ/dω = 2 * 1/4 / T = 1/2. As v[-1] = 0,
    λ gets 0.
    """
    neuron = LMHT(levels=2, steps=1)
    output, gradient = run(neuron, [[0.25, 0.5, 1.25, 2.5, 2.75]], [[1, 2, 3, 4, 5]])
    assert_close(output, [[0, 0, 1, 2, 2]])
    assert_close(gradient, [[0, 2, 3, 4, 0]])
    assert_close(neuron.omega_logits.grad, [[14.75 / 2]])
    assert neuron.leak_logit.grad.item() == 0


def test_surrogate_window_scales_with_threshold():
    """For θ = 1/2 and L = 1 the window is from 1/4 to 3/4, and the height stays 1 for the output θ k."""
    neuron = LMHT(levels=1, steps=1, theta=0.5, mixing="identity", leak=1.0)
    output, gradient = run(neuron, [[0.125, 0.25, 0.5, 0.75, 0.875]], [[1.0] * 5])
    assert_close(output, [[0, 0, 0.5, 0.5, 0.5]])
    assert_close(gradient, [[0, 1, 1, 1, 0]])


def test_initial_membrane_gives_the_leak_a_gradient_at_the_first_step():
    """m[0] = λ v[-1] + I = 1/4 + 1 with λ = 1, inside the window: dL/dλ = 3 * 1/4, and dλ/dα = 1/4."""
    neuron = LMHT(levels=2, steps=1, initial_membrane=0.25, mixing="identity")
    output, gradient = run(neuron, [[1.0]], [[3.0]])
    assert_close(output, [[1]])
    assert_close(gradient, [[3]])
    assert_close(neuron.leak_logit.grad, 3 * 0.25 * 0.25)


def test_two_steps_inside_the_window():
    """Both steps are inside the window, upstream gradients (1, 10), I = (1.6, 0.4).

    J[0] = 1.2 + 0.1 = 1.3 = m[0], so k[0] = 1 and v[0] = 0.3. J[1] = 0.8 + 0.2 = 1,
    m[1] = 0.75 * 0.3 + 1 = 1.225, so k[1] = 1. dL/dJ = (1, 10), since v[0] is detached. Then
    dL/dI = Ω^T dL/dJ = (0.75 * 1 + 0.5 * 10, 0.25 * 1 + 0.5 * 10) = (5.75, 5.25);
    dL/dΩ = dL/dJ I^T = ((1.6, 0.4), (16, 4)), times (3/16, 3/16; 1/4, 1/4);
    dL/dλ = 1 * v[-1] + 10 * v[0] = 3, times 3/16.
    """
    neuron = make_two_step_neuron()
    output, gradient = run(neuron, [[1.6], [0.4]], [[1.0], [10.0]])
    assert_close(output, [[1], [1]])
    assert_close(gradient, [[5.75], [5.25]])
    assert_close(neuron.omega_logits.grad, [[0.3, 0.075], [4, 1]])
    assert_close(neuron.leak_logit.grad, 3 * 3 / 16)


def test_membrane_is_detached():
    """The first step stays below the window, so only a path through v[0] could bring it a gradient; none may.

    I = (0.1, 1.2): J[0] = 0.075 + 0.3 = 0.375 = m[0] = v[0], outside. J[1] = 0.05 + 0.6 = 0.65,
    m[1] = 0.28125 + 0.65 = 0.93125, inside (k = 0). dL/dJ = (0, 10); through v[0] it would be (7.5, 10).
    dL/dI = (5, 5); dL/dω = ((0, 0), (10 * 0.1 / 4, 10 * 1.2 / 4)); dL/dα = 10 * 0.375 * 3/16.
    """
    neuron = make_two_step_neuron()
    output, gradient = run(neuron, [[0.1], [1.2]], [[1.0], [10.0]])
    assert_close(output, [[0], [0]])
    assert_close(gradient, [[5], [5]])
    assert_close(neuron.omega_logits.grad, [[0, 0], [0.25, 3]])
    assert_close(neuron.leak_logit.grad, 10 * 0.375 * 3 / 16)


def test_detached_steps_without_mixing_exchange_no_gradient():
    """The second step's output depends on the first current, but its gradient does not reach it."""
    neuron = LMHT(levels=2, steps=2, mixing="identity", leak=1.0, detach=True)
    output, gradient = run(neuron, [[0.25], [0.75]], [[0.0], [1.0]])
    assert_close(output, [[0], [1]])
    assert_close(gradient, [[0], [1]])


# v[t] = m[t] - θ k[t], and θ k[t] has the derivative win[t], so that dv[t]/dm[t] = 1 - win[t]. With g_v[T-1] = 0,
# g_m[t] = win[t] g_out[t] + (1 - win[t]) g_v[t], g_v[t-1] = λ g_m[t]; dI[t] = g_m[t] without mixing.


def lif_by_hand():
    """LIF, θ = 1, λ = 3/4: I = (0.4, 0.1, 0.7, 0.2, 2, 0.3), upstream gradients (1, 2, 3, 4, 5, 6).

    m: 0.4, 0.3 + 0.1 = 0.4, 0.3 + 0.7 = 1, 0 + 0.2 = 0.2, 0.15 + 2 = 2.15, 0.8625 + 0.3 = 1.1625
    k:  0,   0,               1,             0,             1,                1
    v: 0.4, 0.4,              0,             0.2,           1.15,             0.1625
    win (1/2 to 3/2): 0, 0, 1, 0, 0, 1.
    g_m[5] = 6; g_m[4] = 3/4 6 = 4.5; g_m[3] = 3/4 4.5 = 3.375; g_m[2] = 3, which is inside and hears nothing of
    step 3; g_m[1] = 3/4 3 = 2.25; g_m[0] = 3/4 2.25 = 1.6875.
    dλ = sum of g_m[t] v[t-1] = 2.25 0.4 + 3 0.4 + 3.375 0 + 4.5 0.2 + 6 1.15 = 9.9, and dλ/dα = 3/16.
    """
    current = [[0.4], [0.1], [0.7], [0.2], [2.0], [0.3]]
    upstream = [[1.0], [2.0], [3.0], [4.0], [5.0], [6.0]]
    neuron = LMHT(levels=1, steps=6, mixing="identity").double()
    with torch.no_grad():
        neuron.leak_logit.fill_(-math.log(3))
    output, gradient = run(neuron, current, upstream)
    assert_close(output, [[0], [0], [1], [0], [1], [1]])
    assert_close(gradient, [[1.6875], [2.25], [3], [3.375], [4.5], [6]])
    assert_close(neuron.leak_logit.grad, 9.9 * 3 / 16)


def test_lif_passes_gradients_through_the_membrane():
    lif_by_hand()


@pytest.mark.parametrize("fault", ["win instead of 1 - win", "detached", "nothing is reset"])
def test_planted_fault_in_the_gradient_through_time_is_noticed(monkeypatch, fault):
    pass_back = window.WindowBlock.pass_back

    def faulty(work, upstream):
        if fault == "detached":
            work.staircase = replace(work.staircase, detach=True)
            return pass_back(work, upstream)
        inside, found = work.inside.double(), torch.zeros_like(work.mixed)
        for t in reversed(range(work.steps)):
            carried = work.leak * found[t + 1] if t + 1 < work.steps else 0
            kept = inside[t] if fault == "win instead of 1 - win" else 1
            found[t] = inside[t] * upstream[t] + kept * carried
        return found

    monkeypatch.setattr(window.WindowBlock, "pass_back", faulty)
    with pytest.raises(AssertionError):
        lif_by_hand()


def test_integrate_and_fire_with_levels():
    """L = 2, θ = 1/2, λ = 1 fixed, so the marks of the forward pass decide; window from 1/4 to 5/4.

    I = (0.2, 1.5, -0.5), upstream (1, 2, 3): m = 0.2, 1.7, then v[1] = 0.7 (k = 2) and m[2] = 0.2; no step is
    inside, and no gradient arrives. With I[2] = 0 m[2] = 0.7 is inside: 3 passes through steps 1 and 0.
    """
    for last, expected in ((-0.5, 0.0), (0.0, 3.0)):
        neuron = LMHT(levels=2, steps=3, theta=0.5, mixing="identity", leak=1.0)
        output, gradient = run(neuron, [[0.2], [1.5], [last]], [[1.0], [2.0], [3.0]])
        assert_close(output, [[0], [1], [0.5 if expected else 0]])
        assert_close(gradient, [[expected]] * 3)


def test_mixing_without_detaching():
    """The case of :func:`test_membrane_is_detached`: dL/dJ = (3/4 10, 10), since m[0] is outside the window.

    dL/dI = Ω^T dL/dJ = (3/4 7.5 + 5, 1/4 7.5 + 5) = (10.625, 6.875); dL/dΩ = dL/dJ I^T = ((0.75, 9), (1, 12)),
    times (3/16, 3/16; 1/4, 1/4); dL/dλ = 10 v[0] = 3.75, times 3/16.
    """
    neuron = make_two_step_neuron(detach=False)
    output, gradient = run(neuron, [[0.1], [1.2]], [[1.0], [10.0]])
    assert_close(output, [[0], [0]])
    assert_close(gradient, [[10.625], [6.875]])
    assert_close(neuron.omega_logits.grad, [[0.75 * 3 / 16, 9 * 3 / 16], [0.25, 3]])
    assert_close(neuron.leak_logit.grad, 3.75 * 3 / 16)


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({}, True),
        ({"mixing": "uniform"}, True),
        ({"mixing": "identity"}, False),
        ({"mixing": "identity", "leak": 1.0}, False),
        ({"mixing": "identity", "detach": True}, True),
        ({"detach": False}, False),
    ],
)
@pytest.mark.parametrize("levels", [1, 2])
def test_rule_of_the_neurons(options, rule, levels):
    """What is given, or the rule of Eq. 5 where there is no mixing; the output is the same."""
    neuron = LMHT(levels, 4, **options)
    assert neuron.detach is rule
    assert f"detach={rule}" in repr(neuron)
    current = torch.randn(4, 50, requires_grad=True, generator=torch.Generator().manual_seed(0))
    neuron(current)[3].sum().backward()
    mixes = neuron.mixing != "identity"
    assert bool(current.grad[0].any()) == (mixes or not rule)


@pytest.mark.parametrize("value", [0, 1, "no"])
def test_detach_wrong_argument(value):
    with pytest.raises(TypeError) as caught:
        LMHT(2, 2, detach=value)
    assert str(caught.value) == f"detach must be True, False or None, not {value!r}"


@pytest.mark.parametrize("levels", [1, 3])
@pytest.mark.parametrize("leak", ["learned", 0.75, 1.0])
@pytest.mark.parametrize("detach", [True, False])
def test_hardware_roundings_pass_straight_through(levels, leak, detach):
    """With currents, leak and thresholds that need no rounding, the gradients are those of the plain loop."""
    results = []
    current = torch.randint(-20, 40, (5, 60), generator=torch.Generator().manual_seed(levels)).double() / 16
    upstream = torch.randn(5, 60, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for bits in (16, None):
        neuron = LMHT(
            levels, 5, 1.0, mixing="identity", leak=leak, fraction_bits=bits, detach=detach
        ).double()
        leaf = current.clone().requires_grad_()
        (neuron.forward if bits else neuron.forward_plain)(leaf).backward(upstream)
        results.append([leaf.grad, *(parameter.grad for parameter in neuron.parameters())])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_qcfs_values_and_gradients():
    """Q = 4, θ = 2, so a step is 1/2 and the n-th one begins at z = n/2 - 1/4.

    z:    -1   0.25  1.1   1.75  3
    a:     0   0.5   1     2     2      (0.25 lies on the edge of the first step, 1.75 on that of the last)
    da/dz: 0   1     1     1     0      straight through where the staircase is not clipped
    da/dθ: 0 below; 1 above; inside a/θ - z/θ, as the straight-through staircase is zQ/θ + 1/2 of slope -zQ/θ²
           in θ: 0.25 - 0.125, 0.5 - 0.55, 1 - 0.875
    """
    activation = QCFS(levels=4, theta=2.0)
    output, gradient = run(activation, [-1, 0.25, 1.1, 1.75, 3], [1.0] * 5)
    assert_close(output, [0, 0.5, 1, 2, 2])
    assert_close(gradient, [0, 1, 1, 1, 0])
    assert_close(activation.theta.grad, 0.125 - 0.05 + 0.125 + 1)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"levels": 0}, ValueError, "levels must be at least 1, not 0"),
        ({"levels": 4, "theta": -1.0}, ValueError, "theta must be above 0, not -1.0"),
        ({"levels": 4, "theta": "1"}, TypeError, "theta must be a number, not '1'"),
    ],
)
def test_qcfs_init_wrong_argument(arguments, error, message):
    with pytest.raises(error) as caught:
        QCFS(**arguments)
    assert str(caught.value) == message
