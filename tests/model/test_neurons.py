"""Neurons against a scalar reference in exact fractions, the start state, and the checks of arguments."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmht.model import LMHT, default_threshold, neurons

# Currents, membranes and thresholds are multiples of 1/64 and the leaks short binary fractions, so that every
# sum and product is exact in float64 and the comparisons below can ask for equality.
GRID = 64


def reference_levels(currents, omega, leak, levels, theta, initial_membrane):
    """Spike levels of one neuron by Eqs. 8-12 in exact arithmetic, sharing nothing with the module."""
    membrane = Fraction(initial_membrane)
    fired = []
    for row in omega:
        mixed = sum(
            (Fraction(weight) * Fraction(current) for weight, current in zip(row, currents, strict=True))
        )
        membrane = Fraction(leak) * membrane + mixed
        level = min(max(math.floor(membrane / Fraction(theta)), 0), levels)
        membrane -= Fraction(theta) * level
        fired.append(level)
    return fired


def module_levels(neuron, currents, run=LMHT.forward):
    current = torch.tensor([float(value) for value in currents], dtype=torch.float64)
    output = run(neuron.double(), current)
    return (output / neuron.theta).round().to(torch.int64).tolist()


def on_grid(minimum, maximum):
    return st.integers(minimum * GRID, maximum * GRID).map(lambda units: units / GRID)


windows = st.lists(on_grid(-4, 16), min_size=1, max_size=8)
thetas = st.integers(1, 2 * GRID).map(lambda units: units / GRID)
exact_leaks = st.sampled_from([0.0, 0.5, 0.75, 1.0])


def identity(steps):
    return [[int(row == column) for column in range(steps)] for row in range(steps)]


@given(windows, st.integers(1, 15), thetas, on_grid(-2, 2), exact_leaks)
def test_mht_equals_scalar_reference(currents, levels, theta, initial_membrane, leak):
    """M-HT is LM-HT without mixing (Eqs. 8-11)."""
    neuron = LMHT(levels, len(currents), theta, initial_membrane, mixing="identity", leak=leak)
    expected = reference_levels(currents, identity(len(currents)), leak, levels, theta, initial_membrane)
    assert module_levels(neuron, currents) == expected


@given(windows, thetas, on_grid(-2, 2), exact_leaks)
def test_lif_is_one_level_without_mixing(currents, theta, initial_membrane, leak):
    """LIF (Eqs. 1-4): fire once where the membrane reaches θ, then subtract θ. A leak of 1 is IF."""
    neuron = LMHT(1, len(currents), theta, initial_membrane, mixing="identity", leak=leak)
    membrane, expected = Fraction(initial_membrane), []
    for current in currents:
        membrane = Fraction(leak) * membrane + Fraction(current)
        spike = membrane >= Fraction(theta)
        membrane -= Fraction(theta) if spike else 0
        expected.append(int(spike))
    assert module_levels(neuron, currents) == expected


@given(
    st.sampled_from([1, 2, 4, 8]).flatmap(lambda n: st.lists(on_grid(-4, 16), min_size=n, max_size=n)), thetas
)
def test_start_state_is_uniform_mixing_without_leak(currents, theta):
    """With ω = 0 and α = 0, Ω is 1/T everywhere and λ is 1."""
    steps = len(currents)
    neuron = LMHT(3, steps, theta)
    assert torch.equal(neuron.mixing_matrix(), torch.full((steps, steps), 1 / steps))
    assert neuron.leak().item() == 1
    expected = reference_levels(currents, [[Fraction(1, steps)] * steps] * steps, 1, 3, theta, 0)
    assert module_levels(neuron, currents) == expected
    fixed = LMHT(3, steps, theta, mixing="uniform", leak=1.0)
    assert torch.equal(fixed.mixing_matrix(), neuron.mixing_matrix().float())
    assert module_levels(fixed, currents) == expected


def wrong_staircase(name):
    """The staircase with a mistake that a neuron might plausibly have."""
    return {
        "rounds": lambda m, theta, levels: torch.round(m / theta).clamp(0, levels) * theta,
        "fires only above": lambda m, theta, levels: (torch.ceil(m / theta) - 1).clamp(0, levels) * theta,
        "no upper end": lambda m, theta, levels: torch.floor(m / theta).clamp(min=0) * theta,
        "no lower end": lambda m, theta, levels: torch.floor(m / theta).clamp(max=levels) * theta,
        "counts without theta": lambda m, theta, levels: torch.floor(m / theta).clamp(0, levels),
    }[name]


@pytest.mark.parametrize(
    ("fault", "currents"),
    [
        ("rounds", [0.75, 0.0]),
        ("fires only above", [1.0, 0.0]),
        ("no upper end", [4.0, 0.0]),
        ("no lower end", [-1.0, 1.5]),
        ("counts without theta", [1.0, 0.5]),
    ],
)
def test_reference_notices_planted_faults(monkeypatch, fault, currents):
    """With a planted fault the plain loop no longer equals the reference in a window that shows it.

    Faults of the fused window are planted in ``test_fused.py``.
    """
    neuron = LMHT(2, 2, 0.5, mixing="identity", leak=1.0)
    expected = reference_levels(currents, identity(2), 1, 2, 0.5, 0)
    assert module_levels(neuron, currents, LMHT.forward_plain) == expected
    monkeypatch.setattr(neurons.SurrogateStaircase, "apply", wrong_staircase(fault))
    assert module_levels(neuron, currents, LMHT.forward_plain) != expected


def test_output_keeps_shape_and_counts_thresholds():
    neuron = LMHT(levels=2, steps=3, theta=0.5, mixing="identity", leak=1.0)
    current = torch.rand(3, 4, 5, 6, 6)
    output = neuron(current)
    assert output.shape == current.shape
    assert set(output.unique().tolist()) <= {0.0, 0.5, 1.0}


def test_neurons_of_a_batch_do_not_touch_each_other():
    neuron = LMHT(levels=3, steps=2)
    current = torch.randn(2, 4, 7, generator=torch.Generator().manual_seed(1)) * 2
    together = neuron(current)
    alone = torch.stack([neuron(current[:, :, index]) for index in range(7)], dim=2)
    assert torch.equal(together, alone)


def test_only_learned_parts_are_parameters():
    learned = dict(LMHT(2, 2).named_parameters())
    assert {name: tuple(value.shape) for name, value in learned.items()} == {
        "omega_logits": (2, 2),
        "leak_logit": (),
    }
    fixed = LMHT(2, 2, mixing="uniform", leak=0.9)
    assert not list(fixed.parameters())
    # What the arguments fix is not saved a second time.
    assert not fixed.state_dict()
    assert fixed.leak().item() == pytest.approx(0.9)


def test_default_threshold():
    assert [default_threshold(levels) for levels in (1, 2, 4, 15)] == [1.0, 1.0, 0.5, 2 / 15]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"levels": 0}, ValueError, "levels must be at least 1, not 0"),
        ({"levels": 2.0}, TypeError, "levels must be an integer, not 2.0"),
        ({"levels": True}, TypeError, "levels must be an integer, not True"),
        ({"steps": -1}, ValueError, "steps must be at least 1, not -1"),
        ({"steps": "2"}, TypeError, "steps must be an integer, not '2'"),
        ({"theta": 0.0}, ValueError, "theta must be above 0, not 0.0"),
        ({"theta": math.inf}, ValueError, "theta must be finite, not inf"),
        ({"theta": None}, TypeError, "theta must be a number, not None"),
        ({"initial_membrane": math.nan}, ValueError, "initial_membrane must be finite, not nan"),
        ({"mixing": "causal"}, ValueError, "mixing must be one of learned, identity, uniform, not causal"),
        ({"mixing": 1}, TypeError, "mixing must be a string, not 1"),
        ({"leak": 1.6}, ValueError, "leak must be between 0 and 1.5, not 1.6"),
        ({"leak": -0.1}, ValueError, "leak must be between 0 and 1.5, not -0.1"),
        ({"leak": "none"}, ValueError, "leak must be \"learned\" or a number between 0 and 1.5, not 'none'"),
        ({"leak": None}, TypeError, "leak must be a number, not None"),
    ],
)
def test_init_wrong_argument(arguments, error, message):
    with pytest.raises(error) as caught:
        LMHT(**({"levels": 2, "steps": 2} | arguments))
    assert str(caught.value) == message


def test_forward_wrong_steps():
    with pytest.raises(ValueError, match="current must have") as caught:
        LMHT(2, 4)(torch.zeros(3, 5))
    assert str(caught.value) == "current must have 4 steps in its first dimension, not shape (3, 5)"
