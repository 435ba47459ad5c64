"""Lemma 4.1, Theorem 4.2, Corollary 4.3: a multi-threshold step is a run of binary steps, and a window is QCFS.

All values are multiples of 1/64 small enough for float64 to hold every sum and quotient that decides a spike.
"""

from fractions import Fraction

import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from lmht.model import LMHT, QCFS

GRID = 64
level_counts = st.integers(1, 15)
# θ = 1 in half of the examples, any multiple of 1/64 up to 2 in the others.
thetas = st.one_of(st.just(1.0), st.integers(1, 2 * GRID).map(lambda units: units / GRID))
units = st.integers(-8 * GRID, 16 * GRID)


def counts(neuron, currents):
    """Spikes of every step, from currents as a list."""
    output = neuron.double()(torch.tensor(currents, dtype=torch.float64))
    return (output / neuron.theta).round().to(torch.int64)


def mht_counts(levels, theta, membrane, currents):
    return counts(LMHT(levels, len(currents), theta, membrane, mixing="identity", leak=1.0), currents)


def if_counts(levels, theta, membrane, currents):
    """Spikes per window of an IF neuron that is fed each current in ``levels`` equal parts."""
    parts = [current / levels for current in currents for _ in range(levels)]
    neuron = LMHT(1, len(parts), theta, membrane, mixing="identity", leak=1.0)
    return counts(neuron, parts).view(len(currents), levels).sum(dim=1)


@given(level_counts, thetas, st.data())
def test_lemma_4_1(levels, theta, data):
    """Lemma 4.1: for 0 <= v < θ, one M-HT step of current I emits as many spikes as L IF steps of I / L.

    It holds for every I, negative or above L θ as well: below 0 neither fires, above L θ both emit L. Charge
    is conserved in both (v' = v + I - θ x spikes), so equal spikes leave equal membranes.
    """
    membrane = data.draw(st.integers(0, int(theta * GRID) - 1)) / GRID
    current = levels * data.draw(units) / GRID
    assert torch.equal(
        mht_counts(levels, theta, membrane, [current]), if_counts(levels, theta, membrane, [current])
    )


@given(level_counts, thetas, units, units)
def test_lemma_4_1_beyond_its_condition(levels, theta, membrane_units, part_units):
    """It also holds for (v >= 0 and I >= 0) and for (v < θ and I <= L θ).

    In the first case the IF membrane never falls below 0, in the second it never reaches θ after a step;
    either is enough. What is left over, v >= θ with I < 0 and v < 0 with I > L θ, is where it matters that IF
    fires before all parts have come.
    """
    membrane, part = membrane_units / GRID, part_units / GRID
    assume((membrane >= 0 and part >= 0) or (membrane < theta and part <= theta))
    current = levels * part
    assert torch.equal(
        mht_counts(levels, theta, membrane, [current]), if_counts(levels, theta, membrane, [current])
    )


def test_lemma_4_1_fails_with_a_full_membrane_and_negative_current():
    """v = 2.5, I = -2, L = 2, θ = 1: M-HT sees 0.5; IF sees 1.5 first and fires before the rest arrives."""
    assert mht_counts(2, 1.0, 2.5, [-2.0]).tolist() == [0]
    assert if_counts(2, 1.0, 2.5, [-2.0]).tolist() == [1]


def test_lemma_4_1_fails_with_a_negative_membrane_and_large_current():
    """v = -1.5, I = 4, L = 2, θ = 1: M-HT sees 2.5; IF is at 0.5 after its first step and loses a spike."""
    assert mht_counts(2, 1.0, -1.5, [4.0]).tolist() == [2]
    assert if_counts(2, 1.0, -1.5, [4.0]).tolist() == [1]


@given(level_counts, thetas, st.data())
def test_theorem_4_2_windows(levels, theta, data):
    """Theorem 4.2 (i): T windows of M-HT equal L T steps of IF fed uniformly inside each window.

    The lemma's condition must hold at the start of every window. Two ways to ensure it: no current is
    negative and the first membrane is not either (then no membrane ever is); or no current exceeds L θ and
    the first membrane is below θ (then every one is).
    """
    limit = int(theta * GRID)
    if data.draw(st.booleans()):
        membrane_units, part_units = st.integers(0, 8 * GRID), st.integers(0, 8 * GRID)
    else:
        membrane_units, part_units = st.integers(-8 * GRID, limit - 1), st.integers(-8 * GRID, limit)
    membrane = data.draw(membrane_units) / GRID
    currents = [levels * part / GRID for part in data.draw(st.lists(part_units, min_size=1, max_size=8))]
    assert torch.equal(
        mht_counts(levels, theta, membrane, currents), if_counts(levels, theta, membrane, currents)
    )


def test_theorem_4_2_fails_once_a_window_overflows_and_the_next_is_negative():
    """I = (6, -4), L = 2, θ = 1: after the first window v = 4, outside the lemma's condition."""
    assert mht_counts(2, 1.0, 0.0, [6.0, -4.0]).tolist() == [2, 0]
    assert if_counts(2, 1.0, 0.0, [6.0, -4.0]).tolist() == [2, 1]


@given(level_counts, st.integers(1, 8), thetas, units)
def test_theorem_4_2_total_is_qcfs(levels, steps, theta, part_units):
    """Theorem 4.2 (ii): one current in all windows and v[-1] = θ/2 make the spike total QCFS of Q = L T.

    Per step the output is θ times the spikes, so its mean over the window is QCFS with upper end L θ; it
    holds for every current.
    """
    current = levels * part_units / GRID
    total = mht_counts(levels, theta, theta / 2, [current] * steps).sum().item()
    assert total == if_counts(levels, theta, theta / 2, [current] * steps).sum().item()
    qcfs = QCFS(levels=levels * steps, theta=levels * theta).double()
    mean = qcfs(torch.tensor(current, dtype=torch.float64)).item()
    assert round(mean * steps / theta) == total
    assert abs(mean * steps / theta - total) < 1e-9


@given(level_counts, st.integers(1, 8), thetas, st.data())
def test_corollary_4_3(levels, steps, theta, data):
    """Corollary 4.3: under one current and 0 <= v[-1] < θ, all steps emit k spikes just where it says.

    That is where T I + v[-1] < θ (k = 0), k T θ <= T I + v[-1] < (k T + 1) θ, or L T θ <= T I + v[-1] (k = L).
    """
    unit = int(theta * GRID)
    membrane = data.draw(st.integers(0, unit - 1))
    # Near a multiple of θ, where the regions end, in half of the examples.
    near = st.builds(lambda k, off: k * unit + off, st.integers(-1, levels + 1), st.integers(-8, 8))
    current = data.draw(st.one_of(near, st.integers(-unit, (levels + 1) * unit)))
    found = mht_counts(levels, theta, membrane / GRID, [current / GRID] * steps).tolist()
    charge = steps * current + membrane
    level, rest = divmod(charge, steps * unit)
    expected = charge < unit or charge >= levels * steps * unit or rest < unit
    assert (len(set(found)) == 1) == expected
    if expected:
        assert found[0] == min(max(level, 0), levels)


def test_corollary_4_3_needs_its_membrane():
    """v[-1] = 3/2 with θ = 1, L = 2: T I + v[-1] = 1.5, and both spikes of the first step are not repeated."""
    assert mht_counts(2, 1.0, 0.5, [0.0, 0.0]).tolist() == [0, 0]
    assert mht_counts(2, 1.0, 1.5, [1.25, 1.25]).tolist() == [2, 2]
    # T I + v[-1] = 4 is L T θ for L = T = 2; with 0 <= v[-1] < θ it would be uneven below, at 3.75.
    assert mht_counts(2, 1.0, 0.5, [1.625, 1.625]).tolist() == [2, 1]


@given(level_counts, st.sampled_from([1, 2, 4, 8]), thetas, st.data())
def test_uniform_mixing_makes_any_window_qcfs_of_its_mean(levels, steps, theta, data):
    """At the start Ω = 1/T gives every step the mean current, so Theorem 4.2 (ii) holds for any currents."""
    currents = [value / GRID for value in data.draw(st.lists(units, min_size=steps, max_size=steps))]
    total = counts(LMHT(levels, steps, theta, theta / 2), currents).sum().item()
    qcfs = QCFS(levels=levels * steps, theta=levels * theta).double()
    mean = qcfs(torch.tensor(sum(currents) / steps, dtype=torch.float64)).item()
    assert round(mean * steps / theta) == total


@given(level_counts, st.sampled_from([1, 2, 4]), st.sampled_from([0.5, 0.75, 1.0]), st.data())
def test_binary_expansion(levels, steps, leak, data):
    """An LM-HT layer (L, T) is a binary one of L T steps.

    λ acts at the first step of each window of L, 1 elsewhere; the mixing is
    Ω'[t', u'] = Ω[t' // L, u' // L] / L.
    With the current of each window spread over its L steps, I / L each, every binary step is charged with
    J[t] / L. Currents from 0 to L θ keep the lemma's condition.
    """
    parts = data.draw(st.lists(st.integers(0, GRID), min_size=steps, max_size=steps))
    currents = [levels * part / GRID for part in parts]
    window_counts = counts(LMHT(levels, steps, mixing="uniform", leak=leak), currents).tolist()
    # The binary steps are taken in exact fractions, since 1/L need not be a binary one.
    expanded = [Fraction(current) / levels for current in currents for _ in range(levels)]
    weight = Fraction(1, steps) / levels
    membrane, spikes = Fraction(0), [0] * steps
    for step in range(levels * steps):
        mixed = sum(weight * current for current in expanded)
        membrane = (Fraction(leak) if step % levels == 0 else 1) * membrane + mixed
        if membrane >= 1:
            membrane -= 1
            spikes[step // levels] += 1
    assert spikes == window_counts
