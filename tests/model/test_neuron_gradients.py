"""Gradients of the neurons against values derived by hand from Eqs. 13-16."""

import math

import pytest
import torch

from lmht.model import LMHT, QCFS


def run(neuron, currents, upstream):
    """Output, and the gradient of the current after back-propagating ``upstream``."""
    current = torch.tensor(currents, dtype=torch.float64, requires_grad=True)
    output = neuron.double()(current)
    output.backward(torch.tensor(upstream, dtype=torch.float64))
    return output.detach(), current.grad


def assert_close(found, expected):
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12)


def make_two_step_neuron():
    """T = 2, L = 2, θ = 1, Ω = [[3/4, 1/4], [1/2, 1/2]] and λ = 3/4.

    For T = 2, Ω = sigmoid(ω): ln 3 gives 3/4 and -ln 3 gives 1/4, both with derivative 3/16; 0 gives 1/2,
    with derivative 1/4. λ = sigmoid(α) + 1/2 = 3/4 for α = -ln 3, with derivative 3/16.
    """
    neuron = LMHT(levels=2, steps=2).double()
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


def test_steps_without_mixing_exchange_no_gradient():
    """M-HT: the second step's output depends on the first current, but its gradient does not reach it."""
    neuron = LMHT(levels=2, steps=2, mixing="identity", leak=1.0)
    output, gradient = run(neuron, [[0.75], [0.5]], [[0.0], [1.0]])
    assert_close(output, [[0], [1]])
    assert_close(gradient, [[0], [1]])


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
