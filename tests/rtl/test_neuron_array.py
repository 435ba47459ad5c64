"""Neuron array: levels against NUMERICS.md; Lemma 4.1, Theorem 4.2, Corollary 4.3 (MODEL.md) on the hardware itself."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Module

from lmht.gen import memory_contents
from lmht.gen.choose_widths import choose_widths
from lmht.gen.integer import IntegerLayer, IntegerNetwork
from lmht.gen.integer_projection import IntegerProjection
from lmht.gen.memory_contents import pack_memories
from lmht.gen.plan import PlanOptions, plan
from lmht.gen.quiet import quiet_levels
from lmht.rtl import neuron_array
from lmht.rtl.fire import Fire
from lmht.rtl.mix import Mix
from lmht.rtl.neuron_array import NeuronArray
from lmht.rtl.verilog import emit_verilog, primitive_sources
from lmht.sim.random_networks import random_layer
from lmht.sim.runner import BenchFailure, run_cocotb

SEED = 4102
FRACTION_BITS = 4
THETA = 1 << FRACTION_BITS


def run(
    tmp_path: Path,
    layer: IntegerLayer,
    sums: np.ndarray,
    *,
    name: str = "array",
    ready: str = "always",
    empty: float = 0.0,
    quiet: float = 0.0,
    test: str = "levels",
    **options: Any,
) -> np.ndarray:
    """Levels that the hardware of `layer` emits for accumulators `sums`, shape (pixels, T, N)."""
    rng = np.random.default_rng(SEED)
    (projection,) = layer.projections
    # The layer under test stands between an image and a classifier; neither of them is built.
    channels, height, width = projection.input_shape
    before = random_layer(
        rng,
        inputs=(1, height, width),
        neurons=channels,
        kernel=(1, 1),
        steps=layer.input_steps,
        levels=projection.input_max_level,
    )
    after = random_layer(
        rng,
        source=1,
        inputs=layer.shape,
        neurons=2,
        steps=1,
        levels=None,
        input_steps=layer.steps,
        input_max_level=layer.levels or 1,
    )
    source = IntegerNetwork(name="array", input_shape=(1, height, width), layers=(before, layer, after))
    design = plan(
        source, choose_widths(source), name="array", events=[1, 1, 1], options=PlanOptions(**options)
    )
    tile = design.layers[1][0]
    # The sums come from the test, not from weights: widen what the weights would need.
    widest = int(np.abs(sums).max()).bit_length() + 2
    tile = replace(
        tile,
        neuron=replace(
            tile.neuron,
            accumulator_bits=max(tile.neuron.accumulator_bits, widest),
            mix_bits=tile.neuron.mix_bits + widest,
            current_bits=tile.neuron.current_bits + widest,
            membrane_bits=tile.neuron.membrane_bits + widest,
        ),
    )
    contents = pack_memories(replace(design, layers=(design.layers[0], (tile,), design.layers[2])), source)
    folder = tmp_path / name
    folder.mkdir()
    np.savez(
        folder / "data.npz",
        sums=sums,
        bias=layer.bias,
        multipliers=layer.multipliers,
        leak=np.zeros(0) if layer.leak is None else layer.leak,
        initial_membrane=layer.initial_membrane,
        **{f"memory_{memory}": contents[f"{tile.name}_{memory}"] for memory in tile.memories},
    )
    run_cocotb(
        [emit_verilog(NeuronArray(parameters=tile), "neuron_array"), *primitive_sources()],
        "neuron_array",
        "lmht.sim.benches.neuron_array",
        parameters={
            "tile": asdict(tile),
            "data": str(folder / "data.npz"),
            "result": str(folder / "levels.npz"),
            "idle": "often",
            "ready": ready,
            "empty": empty,
            "quiet": quiet,
        },
        tests=[test],
        folder=folder,
        seed=SEED,
    )
    return np.load(folder / "levels.npz")["levels"] if test == "levels" else np.zeros(0)


def plain_layer(steps: int, levels: int, neurons: int, initial_membrane: int) -> IntegerLayer:
    """M-HT without leak or bias whose currents are its accumulators: ``Ω`` is the identity."""
    gain_bits = 8
    projection = IntegerProjection.dense(
        np.ones((neurons, 1), dtype=np.int64),
        input_shape=(1, 1, 1),
        source=0,
        input_steps=steps,
        input_max_level=1,
    )
    return IntegerLayer(
        projections=(projection,),
        bias=np.zeros((steps, neurons), dtype=np.int64),
        multipliers=np.full((steps, 1, neurons), 1 << gain_bits),
        shift=gain_bits,
        levels=levels,
        fraction_bits=FRACTION_BITS,
        initial_membrane=initial_membrane,
    )


def diagonal_layer(steps: int, *, leak: bool) -> IntegerLayer:
    """Every step and neuron has a multiplier of its own."""
    layer = random_layer(
        np.random.default_rng(SEED),
        source=0,
        inputs=(30, 1, 1),
        neurons=10,
        steps=steps,
        levels=3,
        input_steps=steps,
        input_max_level=3,
        leak=leak,
        diagonal=True,
        weight_bits=8,
    )
    assert layer.diagonal
    return layer


def random_sums(layer: IntegerLayer) -> np.ndarray:
    """Accumulators of 12 pixels, as large as the weights allow."""
    reach = int(np.abs(layer.projections[0].weights).sum(axis=(1, 2, 3)).max()) * 3
    rng = np.random.default_rng(SEED)
    return rng.integers(-reach, reach, (12, layer.input_steps, layer.channels), endpoint=True)


@pytest.mark.parametrize(
    ("steps", "leak", "options"),
    [
        (2, False, {"mix_multipliers": 1}),
        (3, True, {"mix_multipliers": 1, "update_lanes": 2}),
        (3, False, {"mix_multipliers": 3, "update_lanes": 4}),
        (32, True, {"mix_multipliers": 1}),
        (10, False, {"mix_multipliers": 10}),
    ],
)
def test_diagonal_mixing(steps: int, leak: bool, options: dict, tmp_path: Path) -> None:
    layer = diagonal_layer(steps, leak=leak)
    run(tmp_path, layer, random_sums(layer), ready="half", empty=0.3, lanes=[1, 4, 2], **options)


@pytest.mark.parametrize("multipliers", [1, 3])
def test_a_multiplier_of_another_step_is_found(
    multipliers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class LateMix(Mix):
        """The diagonal multiplier of step t meets the accumulator of step t + 1."""

        def elaborate(self, platform: object) -> Module:
            m = Module()
            m.submodules.inner = inner = Mix(neuron=self.neuron, multipliers=self.multipliers)
            for name in ("step", "first_term", "factors", "biases"):
                m.d.comb += getattr(inner, name).eq(getattr(self, name))
            for t in range(self.neuron.steps):
                m.d.comb += inner.accumulators[t].eq(self.accumulators[(t + 1) % self.neuron.steps])
            m.d.comb += self.currents.eq(inner.currents)
            return m

    monkeypatch.setattr(neuron_array, "Mix", LateMix)
    layer = diagonal_layer(3, leak=False)
    with pytest.raises(BenchFailure, match="expected level"):
        run(tmp_path, layer, random_sums(layer), lanes=[1, 4, 2], mix_multipliers=multipliers)


def speaking_layer() -> tuple[IntegerLayer, np.ndarray]:
    """A layer some of whose neurons spike without input, and accumulators of 40 pixels."""
    rng = np.random.default_rng(SEED)
    layer = random_layer(
        rng,
        source=0,
        inputs=(8, 2, 6),
        kernel=(1, 1),
        neurons=10,
        steps=2,
        levels=3,
        input_steps=2,
        input_max_level=3,
        leak=True,
        weight_bits=4,
    )
    bias = layer.bias.copy()
    bias[:, ::3] += 1 << layer.fraction_bits
    return replace(layer, bias=bias), rng.integers(-60, 60, (40, 2, layer.channels))


@pytest.mark.parametrize(
    ("steps", "levels", "leak", "width", "options"),
    [
        (2, 2, False, 1, {}),
        (3, 5, True, 1, {"update_lanes": 4, "mix_multipliers": 6}),
        (4, 15, False, 6, {"mix_multipliers": 2}),
        (8, 1, True, 1, {"update_lanes": 2}),
        (32, 2, True, 1, {"mix_multipliers": 64}),
        (2, 2, False, 6, {"update_lanes": 4, "mix_multipliers": 4}),
        (2, 3, True, 20, {"update_lanes": 2, "mix_multipliers": 1}),
    ],
)
def test_levels(steps: int, levels: int, leak: bool, width: int, options: dict, tmp_path: Path) -> None:
    rng = np.random.default_rng(SEED)
    layer = random_layer(
        rng,
        source=0,
        inputs=(30, 2 if width > 1 else 1, width),
        kernel=(1, 1),
        neurons=10,
        steps=steps,
        levels=levels,
        input_steps=2,
        input_max_level=3,
        leak=leak,
        weight_bits=8,
    )
    # A stand-in for the sums of a hidden layer: as large as the weights allow.
    reach = int(np.abs(layer.projections[0].weights).sum(axis=(1, 2, 3)).max()) * 3
    sums = rng.integers(-reach, reach, (12 if width == 1 else 40, 2, layer.channels), endpoint=True)
    sums[3] = 0
    run(tmp_path, layer, sums, ready="half", empty=0.3, lanes=[1, 4, 2], **options)


@pytest.mark.daily
@pytest.mark.parametrize(("levels", "start"), [(2, 0), (3, 5), (4, THETA - 1)])
def test_lemma_4_1(levels: int, start: int, tmp_path: Path) -> None:
    """For ``0 <= v < θ`` a step of M-HT emits as many spikes as L steps of IF with ``I / L`` each, whatever ``I``.

    The second step checks the membrane that the first one left, wherever that keeps the condition.
    """
    rng = np.random.default_rng(SEED + levels)
    neurons, frames = 16, 25
    # Multiples of L, from well below 0 to well above L θ.
    currents = levels * rng.integers(-THETA, 2 * THETA, (frames, 2, neurons))
    charged = start + currents[:, 0]
    left = charged - THETA * np.clip(charged // THETA, 0, levels)
    inside = (left >= 0) & (left < THETA)
    assert inside.any()
    assert not inside.all()

    m_ht = run(tmp_path, plain_layer(2, levels, neurons, start), currents, name="m_ht", lanes=[1, 8, 2])
    fed = np.repeat(currents // levels, levels, axis=1)
    spikes = run(tmp_path, plain_layer(2 * levels, 1, neurons, start), fed, name="if", lanes=[1, 8, 2])
    windows = spikes.reshape(frames, 2, levels, neurons).sum(axis=2)
    assert np.array_equal(m_ht[:, 0], windows[:, 0])
    assert np.array_equal(m_ht[:, 1][inside], windows[:, 1][inside])
    assert set(np.unique(m_ht)) == set(range(levels + 1))


@pytest.mark.daily
def test_theorem_4_2_on_windows(tmp_path: Path) -> None:
    """T windows of M-HT emit what L T steps of IF emit that are fed uniformly inside each window (``v[-1] = 0``)."""
    rng = np.random.default_rng(SEED)
    levels, steps, neurons = 2, 4, 16
    currents = levels * rng.integers(0, 2 * THETA, (25, steps, neurons))
    m_ht = run(tmp_path, plain_layer(steps, levels, neurons, 0), currents, name="m_ht", lanes=[1, 8, 2])
    fed = np.repeat(currents // levels, levels, axis=1)
    spikes = run(tmp_path, plain_layer(levels * steps, 1, neurons, 0), fed, name="if", lanes=[1, 8, 2])
    assert np.array_equal(m_ht, spikes.reshape(len(spikes), steps, levels, neurons).sum(axis=2))
    assert set(np.unique(m_ht)) == {0, 1, 2}


@pytest.mark.daily
@pytest.mark.parametrize(("levels", "steps"), [(2, 2), (4, 2), (3, 4)])
def test_theorem_4_2_and_corollary_4_3(levels: int, steps: int, tmp_path: Path) -> None:
    """With a uniform current and ``v[-1] = θ/2`` the spike total is QCFS with ``Q = L T`` levels (theorem), and the
    spikes are as many at every step where the corollary says so, and only there."""
    rng = np.random.default_rng(SEED)
    neurons, quanta, start = 16, levels * steps, THETA // 2
    current = rng.integers(-THETA, (levels + 1) * THETA, (25, 1, neurons))
    found = run(
        tmp_path,
        plain_layer(steps, levels, neurons, start),
        np.repeat(current, steps, axis=1),
        lanes=[1, 8, 2],
    )
    # a / θ * Q = clamp(floor(z Q / θ + 1/2), 0, Q) with z the mean current of an IF step, current / L.
    total = np.clip((2 * current[:, 0] * steps + THETA) // (2 * THETA), 0, quanta)
    assert np.array_equal(found.sum(axis=1), total)
    charge = steps * current[:, 0] + start
    uniform = (charge < THETA) | (charge >= quanta * THETA) | (charge % (steps * THETA) < THETA)
    assert np.array_equal((found == found[:, :1]).all(axis=1), uniform)
    inner = (found[:, 0] > 0) & (found[:, 0] < levels)
    assert (uniform & inner).any()
    assert (~uniform).any()


@pytest.mark.parametrize(
    "options", [{}, {"update_lanes": 2, "mix_multipliers": 2}, {"update_lanes": 4, "mix_multipliers": 4}]
)
def test_quiet_pixels_send_their_constant_events(options: dict, tmp_path: Path) -> None:
    layer, sums = speaking_layer()
    levels = run(tmp_path, layer, sums, quiet=0.6, empty=0.2, ready="half", lanes=[1, 4, 2], **options)
    spontaneous = quiet_levels(layer)
    assert spontaneous.any()
    assert (levels == spontaneous).all(axis=(1, 2)).sum() > 10


ONE_CYCLE = {"update_lanes": 4, "mix_multipliers": 4}
"""Two steps of a neuron are mixed at once: a row every cycle."""


@pytest.mark.daily
@pytest.mark.parametrize("options", [ONE_CYCLE, {"update_lanes": 2, "mix_multipliers": 2}])
def test_throughput(options: dict, tmp_path: Path) -> None:
    layer, sums = speaking_layer()
    run(tmp_path, layer, sums, test="throughput", lanes=[1, 4, 2], **options)


def test_too_few_credits_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neuron_array, "FIFO_SLACK", 0)
    layer, sums = speaking_layer()
    with pytest.raises(BenchFailure, match="rows were taken in"):
        run(tmp_path, layer, sums, test="throughput", lanes=[1, 4, 2], **ONE_CYCLE)


def test_too_many_credits_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The FIFO has fewer places than there are credits."""
    monkeypatch.setattr(neuron_array, "FIFO_TRANSIT", -4)
    layer, sums = speaking_layer()
    with pytest.raises(BenchFailure, match="levels"):
        run(tmp_path, layer, sums, ready="rarely", lanes=[1, 4, 2], **ONE_CYCLE)


def test_a_wrong_constant_event_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack = memory_contents._pack_quiet_levels
    monkeypatch.setitem(memory_contents._PACKERS, "quiet_levels", lambda *given: pack(*given) ^ 1)
    layer, sums = speaking_layer()
    with pytest.raises(BenchFailure, match="expected level"):
        run(tmp_path, layer, sums, quiet=0.6, lanes=[1, 4, 2])


def test_a_wrong_clamp_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Fire.__init__

    def one_level_less(self: Fire, *, neuron: Any) -> None:
        original(self, neuron=neuron)
        self.neuron = replace(neuron, levels=neuron.levels - 1)

    monkeypatch.setattr(Fire, "__init__", one_level_less)
    layer = plain_layer(2, 3, 4, 0)
    sums = np.full((3, 2, 4), 10 * THETA)
    with pytest.raises(BenchFailure, match="expected level 3, found 2"):
        run(tmp_path, layer, sums, lanes=[1, 4, 2])


MIXING = [
    {"mix_multipliers": 1},
    {"update_lanes": 2, "mix_multipliers": 2},
    {"update_lanes": 4, "mix_multipliers": 6},
]
"""Biases of three steps come one a term, one a cycle, and all at once."""


def biased_layer() -> tuple[IntegerLayer, np.ndarray]:
    """A layer whose rounding shift and biases both matter, and small accumulators of 30 pixels."""
    rng = np.random.default_rng(SEED)
    layer = random_layer(
        rng,
        source=0,
        inputs=(2, 2, 6),
        kernel=(1, 1),
        neurons=10,
        steps=3,
        levels=6,
        input_steps=2,
        input_max_level=3,
    )
    bias = rng.integers(0, 3 << layer.fraction_bits, (3, layer.channels))
    return replace(layer, bias=bias, shift=4), rng.integers(-40, 40, (30, 2, layer.channels))


@pytest.mark.parametrize("options", MIXING)
def test_biases_of_every_step(options: dict, tmp_path: Path) -> None:
    layer, sums = biased_layer()
    levels = run(tmp_path, layer, sums, quiet=0.3, empty=0.2, lanes=[1, 4, 2], **options)
    assert set(np.unique(levels)) == set(range(7))


@pytest.mark.parametrize("options", MIXING)
@pytest.mark.parametrize("fault", ["of the step before", "of the neuron before"])
def test_a_wrong_bias_is_found(
    fault: str, options: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory holds the bias of another step, or of another neuron, at every place."""
    axis = 0 if fault == "of the step before" else 1
    pack = memory_contents._pack_biases

    def shifted(tile: Any, layer: IntegerLayer) -> Any:
        return pack(tile, replace(layer, bias=np.roll(layer.bias, 1, axis=axis)))

    monkeypatch.setitem(memory_contents._PACKERS, "biases", shifted)
    layer, sums = biased_layer()
    with pytest.raises(BenchFailure, match="expected level"):
        run(tmp_path, layer, sums, lanes=[1, 4, 2], **options)


@pytest.mark.parametrize("options", MIXING)
def test_a_bias_a_step_late_is_found(options: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipeline reads its memory too late: the bias of a step is used for the one after it."""
    original = Mix.__init__

    def late(self: Mix, **given: Any) -> None:
        original(self, **given)
        self.bias_cycle += self.neuron.input_steps if self.serial else 1

    monkeypatch.setattr(Mix, "__init__", late)
    layer, sums = biased_layer()
    with pytest.raises(BenchFailure, match="expected level"):
        run(tmp_path, layer, sums, lanes=[1, 4, 2], **options)


def test_a_bias_in_front_of_the_shift_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import lmht.rtl.mix as mix

    monkeypatch.setattr(
        mix, "_round_and_add", lambda total, shift, bias: (total + bias + (1 << shift - 1)) >> shift
    )
    layer, sums = biased_layer()
    with pytest.raises(BenchFailure, match="expected level"):
        run(tmp_path, layer, sums, lanes=[1, 4, 2])


def test_spikes_of_an_empty_row_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neuron_array, "_hidden", lambda levels, empty: levels)
    sums = np.full((8, 2, 4), 10 * THETA)
    with pytest.raises(BenchFailure, match="without pixels"):
        run(tmp_path, plain_layer(2, 3, 4, 0), sums, empty=0.5, lanes=[1, 4, 2])
