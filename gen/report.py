"""What a compile tells: a line for every layer with widths, memories and expected cycles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table

from lmht.gen.encoder_work import EncoderWork, expected_encoder_cycles
from lmht.gen.estimate import Estimate, estimate, integration_cycles
from lmht.gen.manifest import LayerRecord
from lmht.rtl.parameters import DesignParameters
from lmht.rtl.tile_parameters import TileParameters

__all__ = ["CompileReport", "expect", "report_layers", "report_table"]

# Enough frames for the first one's latency to vanish in the average.
_STEADY_FRAMES = 64


@dataclass(frozen=True, kw_only=True)
class CompileReport:
    """Result of a compile.

    Attributes
    ----------
    folder : pathlib.Path
        The build.
    name, design_hash, architecture : str
    layers : tuple of LayerRecord
    expected_cycles_per_image : float
        In the steady state, at the expected densities.
    busiest_stage : str
    seconds : float
        Wall-clock time of the compile.
    """

    folder: Path
    name: str
    design_hash: str
    architecture: str
    layers: tuple[LayerRecord, ...]
    expected_cycles_per_image: float
    busiest_stage: str
    seconds: float

    @property
    def memory_bits(self) -> int:
        return sum(layer.memory_bits for layer in self.layers)


def expect(design: DesignParameters, events: Sequence[float]) -> Estimate:
    """Estimate for frames that all have the expected number of events."""
    frames = np.tile(np.rint(np.asarray(events)).astype(np.int64), (_STEADY_FRAMES, 1))
    cycles = np.full(_STEADY_FRAMES, round(expected_encoder_cycles(design.frame, events[0])), dtype=np.int64)
    nothing = np.zeros_like(cycles)
    return estimate(design, EncoderWork(cycles, nothing, nothing), frames)


def report_layers(design: DesignParameters, events: Sequence[float]) -> tuple[LayerRecord, ...]:
    """A record for every layer; `events` are the expected events into each."""
    return tuple(_report_layer(tiles, count) for tiles, count in zip(design.layers, events, strict=True))


def _report_layer(tiles: tuple[TileParameters, ...], events: float) -> LayerRecord:
    largest = max(tiles, key=lambda tile: tile.channels)
    neuron = largest.neuron
    return LayerRecord(
        inputs=sum(projection.input.positions for projection in largest.projections),
        neurons=largest.layer_channels,
        tiles=len(tiles),
        lanes=largest.lanes,
        groups=largest.groups,
        update_lanes=largest.update_lanes,
        mix_multipliers=largest.mix_multipliers,
        weight_bits=max(projection.weight_bits for projection in largest.projections),
        accumulator_bits=neuron.accumulator_bits,
        mix_bits=neuron.mix_bits,
        current_bits=neuron.current_bits,
        membrane_bits=0 if neuron.is_classifier else neuron.membrane_bits,
        memory_bits=sum(shape.width * shape.depth for tile in tiles for shape in tile.memories.values()),
        expected_events=round(events, 3),
        expected_integration_cycles=round(integration_cycles(events, largest.groups), 3),
        update_cycles=float(largest.update_cycles),
    )


def report_table(report: CompileReport) -> Table:
    """The report for a terminal."""
    table = Table(
        title=f"{report.name}: {report.architecture}, design {report.design_hash}",
        caption=(
            f"{report.memory_bits:,} memory bits; "
            f"{report.expected_cycles_per_image:,.0f} cycles an image, most in {report.busiest_stage}; "
            f"written in {report.seconds:.1f} s to {report.folder}"
        ),
    )
    table.add_column("layer")
    for header in (
        "tiles x lanes",
        "weight",
        "accumulator",
        "mix",
        "current",
        "membrane",
        "memory bits",
        "events",
        "integrate",
        "update",
    ):
        table.add_column(header, justify="right")
    for layer in report.layers:
        table.add_row(
            f"{layer.inputs}-{layer.neurons}",
            f"{layer.tiles} x {layer.lanes}",
            str(layer.weight_bits),
            str(layer.accumulator_bits),
            str(layer.mix_bits),
            str(layer.current_bits),
            str(layer.membrane_bits or "-"),
            f"{layer.memory_bits:,}",
            f"{layer.expected_events:,.1f}",
            f"{layer.expected_integration_cycles:,.0f}",
            f"{layer.update_cycles:,.0f}",
        )
    return table
