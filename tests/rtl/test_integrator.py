"""Integrator: accumulators of every convolution against its definition, cycles; planted faults are found."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lmht.rtl.events import EventLayout
from lmht.rtl.integrator import Integrator
from lmht.rtl.neuron_parameters import NeuronParameters
from lmht.rtl.projection import ProjectionParameters
from lmht.rtl.tile_parameters import TileParameters
from lmht.rtl.verilog import emit_verilog, memory_source
from lmht.sim.runner import run_cocotb

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
    folder: Path, parameters: TileParameters, component: type[Integrator] = Integrator, **bench: object
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
        [emit_verilog(component(parameters=parameters), "integrator"), memory_source()],
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


@pytest.mark.parametrize("case", CASES)
def test_accumulators_of_every_row(case: str, tmp_path: Path) -> None:
    run(tmp_path, CASES[case], idle="bursts", frames=10)
