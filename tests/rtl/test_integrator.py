"""Integrator: accumulators of every convolution against its definition, cycles; planted faults are found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Const, Module

from lmht.gen.work import CLOSING_CYCLES
from lmht.rtl import event_filter, synapse_lanes
from lmht.rtl.address_generator import AddressGenerator
from lmht.rtl.event_address import is_flat
from lmht.rtl.events import EventLayout
from lmht.rtl.integrator import Integrator
from lmht.rtl.neuron_parameters import NeuronParameters
from lmht.rtl.open_rows import OpenRows
from lmht.rtl.operation_distance import least_distance
from lmht.rtl.projection import ProjectionParameters
from lmht.rtl.synapse_lanes import SynapseLanes
from lmht.rtl.tap_addresses import TapAddressGenerator
from lmht.rtl.tap_lanes import TapLanes
from lmht.rtl.tile_parameters import TileParameters
from lmht.rtl.verilog import emit_verilog, primitive_sources
from lmht.sim.runner import BenchFailure, run_cocotb

SEED = 20240607


def projection(
    shape: tuple[int, int, int], *, steps: int = 2, max_level: int = 2, **options: Any
) -> ProjectionParameters:
    channels, height, width = shape
    link = EventLayout.for_levels(
        height=height, width=width, channels=channels, steps=steps, max_level=max_level
    )
    return ProjectionParameters(**{"source": 0, "input": link, "weight_bits": 4, **options})


def tile(
    *projections: ProjectionParameters,
    layer_channels: int,
    lanes: int,
    channels: int | None = None,
    channel_offset: int = 0,
    accumulator_bits: int = 24,
    **options: Any,
) -> TileParameters:
    steps = projections[0].input.steps
    neuron = NeuronParameters(
        input_steps=steps,
        steps=2,
        levels=2,
        accumulator_bits=accumulator_bits,
        multiplier_bits=8,
        shift=4,
        mix_bits=40,
        bias_bits=12,
        current_bits=36,
    )
    return TileParameters(
        name="tile",
        layer=1,
        projections=projections,
        layer_channels=layer_channels,
        channel_offset=channel_offset,
        channels=layer_channels - channel_offset if channels is None else channels,
        lanes=lanes,
        neuron=neuron,
        **options,
    )


def run(
    folder: Path, parameters: TileParameters, component: Integrator | None = None, **bench: object
) -> None:
    rng = np.random.default_rng(SEED)
    arrays = {}
    for name, own in zip(("weights", "residual_weights"), parameters.projections, strict=False):
        limit = 2 ** (own.weight_bits - 1) - 1
        inputs = own.input.channels // own.channel_groups
        arrays[name] = rng.integers(-limit, limit + 1, (parameters.layer_channels, inputs, *own.kernel))
    data = folder / "weights.npz"
    np.savez(data, **arrays)
    settings = {"frames": 6, "idle": "always", "pause": 6, "malformed": 0.0, "density": 0.4, **bench}
    run_cocotb(
        [emit_verilog(component or Integrator(parameters=parameters), "integrator"), *primitive_sources()],
        "integrator",
        "lmht.sim.benches.integrator",
        parameters={"tile": asdict(parameters), "data": str(data), **settings},
        folder=folder / "bench",
        seed=SEED,
    )


K3 = {"kernel": (3, 3), "padding": (1, 1)}
CASES = {
    "k1": tile(projection((3, 4, 5), kernel=(1, 1)), layer_channels=4, lanes=4),
    "k3": tile(projection((2, 6, 5), **K3), layer_channels=3, lanes=3),
    "k3_groups3": tile(projection((2, 5, 5), **K3), layer_channels=7, lanes=3),
    "k3_unpadded": tile(
        projection((1, 6, 7), kernel=(3, 3), steps=1, max_level=255), layer_channels=4, lanes=2
    ),
    "k5": tile(projection((2, 7, 6), kernel=(5, 5), padding=(2, 2)), layer_channels=2, lanes=2),
    "k7_wide_padding": tile(projection((1, 6, 5), kernel=(7, 7), padding=(6, 5)), layer_channels=4, lanes=2),
    "rectangular": tile(
        projection((2, 6, 9), kernel=(3, 5), stride=(1, 2), padding=(0, 4)), layer_channels=5, lanes=4
    ),
    "column_kernel": tile(
        projection((2, 9, 4), kernel=(5, 1), stride=(2, 1), padding=(3, 0)), layer_channels=2, lanes=2
    ),
    "k3_stride2": tile(
        projection((3, 8, 7), kernel=(3, 3), stride=(2, 2), padding=(1, 1)), layer_channels=4, lanes=2
    ),
    "k5_stride4": tile(
        projection((2, 13, 14), kernel=(5, 5), stride=(4, 4), padding=(1, 3)), layer_channels=2, lanes=2
    ),
    "k3_stride8": tile(
        projection((2, 21, 20), kernel=(3, 3), stride=(8, 8), padding=(0, 2)), layer_channels=2, lanes=2
    ),
    "k1_stride2": tile(projection((3, 7, 6), kernel=(1, 1), stride=(2, 2)), layer_channels=4, lanes=4),
    "padded_point": tile(projection((2, 3, 3), kernel=(5, 5), padding=(1, 1)), layer_channels=4, lanes=4),
    "pooled": tile(projection((2, 11, 9), pool=(2, 2), **K3), layer_channels=3, lanes=3),
    "pooled_odd": tile(projection((2, 10, 11), pool=(3, 5), kernel=(2, 1)), layer_channels=3, lanes=2),
    "pooled_linear": tile(projection((3, 7, 9), pool=(3, 2), kernel=(2, 4)), layer_channels=5, lanes=2),
    "linear": tile(projection((2, 3, 4), kernel=(3, 4)), layer_channels=11, lanes=3),
    "linear_one_group": tile(projection((2, 3, 4), kernel=(3, 4)), layer_channels=5, lanes=5),
    "depthwise": tile(projection((6, 5, 5), channel_groups=6, **K3), layer_channels=6, lanes=4),
    "depthwise_doubled": tile(projection((5, 4, 5), channel_groups=5, **K3), layer_channels=10, lanes=3),
    "grouped_straddling": tile(projection((6, 4, 4), channel_groups=3, **K3), layer_channels=15, lanes=4),
    "grouped_slice": tile(
        projection((8, 4, 4), channel_groups=4, **K3),
        layer_channels=20,
        lanes=3,
        channel_offset=3,
        channels=9,
    ),
    "slice": tile(projection((3, 4, 5), **K3), layer_channels=11, lanes=2, channel_offset=4, channels=5),
    "identity": tile(
        projection((2, 5, 6), shift=6, **K3),
        projection((4, 5, 6), kernel=(1, 1), channel_groups=4, weight_bits=12),
        layer_channels=4,
        lanes=3,
    ),
    "downsampling": tile(
        projection((3, 4, 4), shift=9, **K3),
        projection((2, 8, 7), kernel=(1, 1), stride=(2, 2), weight_bits=15, max_level=4, fifo=20),
        layer_channels=4,
        lanes=2,
    ),
    "two_linear": tile(
        projection((2, 3, 3), kernel=(3, 3)),
        projection((6, 1, 1), kernel=(1, 1), weight_bits=8, fifo=1),
        layer_channels=5,
        lanes=3,
    ),
}


def random_tile(rng: np.random.Generator) -> TileParameters:
    """Any small tile that the parameters allow."""

    def pair(*choices: int) -> tuple[int, int]:
        first, second = (int(value) for value in rng.choice(choices, 2))
        return first, second

    output = pair(1, 1, 2, 3, 4, 5, 6)
    steps = int(rng.integers(1, 4))
    channel_groups = [int(groups) for groups in rng.choice((1, 1, 2, 3), int(rng.integers(1, 3)))]
    layer_channels = int(np.lcm.reduce(channel_groups) * rng.integers(1, 5))
    projections = []
    for groups in channel_groups:
        kernel, stride, pool = pair(1, 2, 3, 3, 5, 7), pair(1, 1, 2, 4), pair(1, 1, 2, 3)
        padding = tuple(int(rng.integers(0, size)) for size in kernel)
        # Rows and columns that no kernel reaches may be left over, and such that fill no pooling window.
        size = [
            ((outputs - 1) * step + taps - 2 * pad + int(rng.integers(0, step))) * window
            + int(rng.integers(0, window))
            for outputs, step, taps, pad, window in zip(output, stride, kernel, padding, pool, strict=True)
        ]
        if min(size[0] // pool[0], size[1] // pool[1]) < 1:
            return random_tile(rng)
        projections.append(
            projection(
                (groups * int(rng.integers(1, 4)), *size),
                steps=steps,
                max_level=int(rng.integers(1, 10)),
                kernel=kernel,
                stride=stride,
                padding=padding,
                pool=pool,
                channel_groups=groups,
                weight_bits=int(rng.integers(2, 9)),
                shift=int(rng.integers(0, 5)),
                fifo=int(rng.choice((0, 3))),
            )
        )
    offset = int(rng.integers(0, layer_channels))
    return tile(
        *projections,
        layer_channels=layer_channels,
        channel_offset=offset,
        channels=int(rng.integers(1, layer_channels - offset + 1)),
        lanes=int(rng.integers(1, 6)),
    )


@pytest.mark.parametrize("case", CASES)
def test_accumulators_of_every_row(case: str, tmp_path: Path) -> None:
    """Sums, touched pixels and flags, with words that are malformed, missing or too many."""
    run(tmp_path, CASES[case], idle="bursts", malformed=0.03, frames=12)


@pytest.mark.parametrize("seed", range(6))
def test_random_tiles(seed: int, tmp_path: Path) -> None:
    parameters = random_tile(np.random.default_rng((SEED, seed)))
    run(tmp_path, parameters, idle="half", malformed=0.02, frames=8)


@pytest.mark.parametrize(
    ("idle", "pause"), [("always", 1), ("always", 200), ("rarely", 1), ("half", 60), ("bursts", 300)]
)
def test_idle_and_slow_updates(idle: str, pause: int, tmp_path: Path) -> None:
    """Banks are freed late or at once, events come thick or thin: nothing is lost, no bank is written too early."""
    run(tmp_path, CASES["downsampling"], idle=idle, pause=pause, frames=10)


UNROLLED = (
    "k1",
    "k3",
    "k5_stride4",
    "rectangular",
    "grouped_straddling",
    "linear",
    "pooled_linear",
    "identity",
    "downsampling",
)


@pytest.mark.parametrize("case", UNROLLED)
def test_all_taps_at_once(case: str, tmp_path: Path) -> None:
    """The same sums, touched pixels and flags, with an operation for each event and group."""
    run(tmp_path, replace(CASES[case], tap_unroll=True), idle="bursts", malformed=0.03, frames=12)


@pytest.mark.parametrize("seed", range(6, 10))
def test_all_taps_at_once_in_random_tiles(seed: int, tmp_path: Path) -> None:
    parameters = random_tile(np.random.default_rng((SEED, seed)))
    run(tmp_path, replace(parameters, tap_unroll=True), idle="half", malformed=0.02, frames=8)


STEADY = {
    "k3": tile(projection((4, 6, 12), **K3), layer_channels=4, lanes=4),
    "k3_groups3": tile(projection((2, 5, 5), **K3), layer_channels=7, lanes=3),
    "k5": tile(projection((2, 7, 6), kernel=(5, 5), padding=(2, 2)), layer_channels=2, lanes=2),
    "k5_stride2": tile(
        projection((3, 8, 8), kernel=(5, 5), stride=(2, 2), padding=(2, 2)), layer_channels=2, lanes=2
    ),
    "depthwise": CASES["depthwise"],
    "identity": CASES["identity"],
    "linear": CASES["linear"],
}


@pytest.mark.parametrize("case", STEADY)
def test_one_operation_a_cycle(case: str, tmp_path: Path) -> None:
    """A dense frame takes a cycle for each tap that meets an output pixel and group, and two for each output row."""
    row_ends = STEADY[case].projections[0].input.height - 1
    shown = row_ends if case == "k5_stride2" else 0
    run(tmp_path, STEADY[case], pause=0, density=1.0, frames=7, steady=True, shown_row_ends=shown)


def test_one_event_and_group_a_cycle(tmp_path: Path) -> None:
    """With all taps at once a dense frame takes `groups` cycles for each event, and two for each output row."""
    parameters = replace(CASES["k3_groups3"], tap_unroll=True)
    run(tmp_path, parameters, pause=0, density=1.0, frames=7, steady=True)


@pytest.mark.parametrize("case", ["k1", "linear_one_group"])
def test_row_ends_behind_events_of_one_cycle(case: str, tmp_path: Path) -> None:
    """Where an event takes as long as its word on the link, so does a row end; two where it moves the window."""
    parameters = CASES[case]
    row_ends = parameters.projections[0].input.height - 1
    tokens = row_ends if is_flat(parameters, 0) else 2 * row_ends
    run(tmp_path, parameters, pause=0, density=1.0, frames=7, steady=True, token_cycles=tokens)


def test_utilization_of_a_dense_stream() -> None:
    """What the two tests above count leaves less than 2 % for anything but operations, even in a first layer."""
    first = tile(projection((1, 28, 28), steps=1, max_level=255, **K3), layer_channels=16, lanes=16)
    operations = (3 * 28 - 2) ** 2  # pairs of input and output pixels that a tap connects
    assert operations / (operations + CLOSING_CYCLES * first.height) >= 0.98


@pytest.mark.parametrize("unroll", [False, True])
@pytest.mark.parametrize("distance", [1, 2, 3])
def test_a_missing_forward_is_found(
    distance: int, unroll: bool, tmp_path: Path, without_forward: Callable[[int], None]
) -> None:
    without_forward(distance)
    wide = tile(projection((3, 4, 40), kernel=(1, 1)), layer_channels=4, lanes=4, tap_unroll=unroll)
    with pytest.raises(BenchFailure, match="accumulator row"):
        run(tmp_path, wide, density=0.9)  # events on one pixel in every order


def test_a_distance_too_large_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synapse_lanes, "least_distance", lambda parameters: least_distance(parameters) + 1)
    with pytest.raises(BenchFailure, match="accumulator row"):
        run(tmp_path, CASES["k3"], density=0.9)


def test_an_operation_in_the_cycle_of_a_fetch_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Update and integration on the same word."""
    monkeypatch.setattr(AddressGenerator, "_has_turn", lambda self: Const(1))
    with pytest.raises(BenchFailure, match="accumulator row"):
        run(tmp_path, CASES["k3"], pause=1)


@pytest.mark.parametrize(("lanes", "early"), [(SynapseLanes, 1), (TapLanes, 2)])
def test_a_row_that_may_be_fetched_too_early_is_found(
    lanes: Any, early: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "SETTLE_CYCLES", lanes.SETTLE_CYCLES - early)
    # Wide enough for block RAM, which is read earlier than look-up tables; the last row closes right behind its events.
    wide = tile(
        projection((2, 2, 40), kernel=(1, 1)), layer_channels=3, lanes=3, tap_unroll=lanes is TapLanes
    )
    with pytest.raises(BenchFailure, match="accumulator row"):
        run(tmp_path, wide, pause=1, frames=40)


def test_a_wrong_touched_bit_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch = AddressGenerator._touch

    def wrong(self: AddressGenerator, m: Module, walk: Any) -> None:
        first = SimpleNamespace(column=walk.item.first.column ^ 1)
        touch(
            self,
            m,
            SimpleNamespace(
                item=SimpleNamespace(first=first), step=walk.step, at_group_end=walk.at_group_end
            ),
        )

    monkeypatch.setattr(AddressGenerator, "_touch", wrong)
    with pytest.raises(BenchFailure, match="touched is"):
        run(tmp_path, CASES["k3"])


def test_a_column_bank_shifted_by_one_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = TapAddressGenerator._columns_left
    monkeypatch.setattr(
        TapAddressGenerator, "_columns_left", lambda self, column, bank: original(self, column, bank ^ 1)
    )
    with pytest.raises(BenchFailure, match=r"accumulator row|touched is"):
        run(tmp_path, replace(CASES["k3"], tap_unroll=True))


@pytest.mark.parametrize("padding", [(0, 3), (1, 2), (2, 3)])
def test_padding_wrong_by_one_is_found(padding: tuple[int, int], tmp_path: Path) -> None:
    right = CASES["k5_stride4"]
    wrong = replace(right, projections=(replace(right.projections[0], padding=padding),))
    assert wrong.memories == right.memories
    with pytest.raises(BenchFailure, match=r"accumulator row|touched is"):
        run(tmp_path, right, Integrator(parameters=wrong))


def test_a_projection_that_does_not_wait_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = OpenRows.__init__

    def hasty(self: OpenRows, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **options)
        self.fits = Const(1, 1)

    monkeypatch.setattr(OpenRows, "__init__", hasty)
    tall = tile(projection((2, 9, 3), **K3), projection((2, 9, 3), kernel=(1, 1)), layer_channels=2, lanes=2)
    with pytest.raises(BenchFailure, match=r"accumulator row|touched is"):
        run(tmp_path, tall, density=0.9)


def test_an_unchecked_range_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_filter, "exceeds", lambda *_: Const(0, 1))
    with pytest.raises(BenchFailure):
        run(tmp_path, CASES["k3"], malformed=0.1)


@pytest.mark.parametrize("signal", ["was_wrong", "has_ended"])
def test_a_late_error_flag_is_found(signal: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong with a frame's end misses it, or is left to the next frame."""
    original = event_filter.delay

    def late(m: Module, value: Any, cycles: int, *, name: str, **options: Any) -> Any:
        return original(m, value, cycles + 8 * int(name == signal), name=name, **options)

    monkeypatch.setattr(event_filter, "delay", late)
    with pytest.raises(BenchFailure, match="error is"):
        run(tmp_path, CASES["k3"], malformed=0.1)
