"""What a compile tells: the hardware of every layer, and how the pipeline is balanced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group
from rich.table import Table
from rich.text import Text

from lmht.gen.choose_precision import PrecisionTrial, trials_table
from lmht.gen.estimate import Estimate, estimate
from lmht.gen.fidelity import Classes, accuracy_table
from lmht.gen.folded import ChannelChange
from lmht.gen.frame_work import expected_frames
from lmht.gen.layer_record import LayerRecord, describe_layer
from lmht.gen.manifest import ExpansionRecord
from lmht.rtl.parameters import DesignParameters

__all__ = ["CompileReport", "expect", "report_layers", "report_tables"]

# Enough frames for the first one's latency to vanish in the average.
_STEADY_FRAMES = 24


@dataclass(frozen=True, kw_only=True)
class CompileReport:
    """Result of a compile.

    Attributes
    ----------
    folder : pathlib.Path
        The build.
    name, design_hash, architecture : str
    layers : tuple of LayerRecord
    expansion : ExpansionRecord or None
        What the network was before it was expanded into binary steps.
    changes : tuple of ChannelChange
        Channels that were clamped.
    trials : tuple of PrecisionTrial
        Bits that were tried.
    classes : Classes or None
        Of test images, in PyTorch and by the integers; None where there were none.
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
    expansion: ExpansionRecord | None
    changes: tuple[ChannelChange, ...]
    trials: tuple[PrecisionTrial, ...]
    classes: Classes | None
    expected_cycles_per_image: float
    busiest_stage: str
    seconds: float

    @property
    def memory_bits(self) -> int:
        return sum(layer.memory_bits for layer in self.layers)


def expect(design: DesignParameters, events: Sequence[float]) -> Estimate:
    """Estimate for frames that all have the expected events, as :func:`~lmht.gen.plan.expected_events` gives them."""
    return estimate(design, expected_frames(design, events, _STEADY_FRAMES))


def report_layers(
    design: DesignParameters, events: Sequence[float], expectation: Estimate
) -> tuple[LayerRecord, ...]:
    """A record for every layer; `events` as for :func:`expect`."""
    return tuple(
        describe_layer(
            tiles, expectation, sum(events[projection.source + 1] for projection in tiles[0].projections)
        )
        for tiles in design.layers
    )


def report_tables(report: CompileReport) -> Group:
    """The report for a terminal: a table of the hardware and one of the pipeline's balance."""
    summary = (
        f"{report.expected_cycles_per_image:,.0f} cycles an image, most in {report.busiest_stage}; "
        f"written in {report.seconds:.1f} s to {report.folder}"
    )
    lines = [summary] if report.expansion is None else [str(report.expansion), summary]
    return Group(
        _hardware_table(report),
        _balance_table(report),
        *([_changes_table(report.changes)] if report.changes else []),
        *([trials_table(report.trials)] if report.trials else []),
        *([] if report.classes is None else [accuracy_table(report.classes)]),
        *(Text(line, no_wrap=True, overflow="ignore") for line in lines),
    )


def _hardware_table(report: CompileReport) -> Table:
    table = Table(
        title=f"{report.name}: {report.architecture}, design {report.design_hash}",
        caption=f"{report.memory_bits:,} bits of loadable memory",
    )
    table.add_column("layer")
    for header in (
        "tiles x lanes",
        "update",
        "weight",
        "accumulator",
        "current",
        "membrane",
        "loadable bits",
        "rows kept",
        "their bits",
        "whole map",
        "FIFO words",
    ):
        table.add_column(header, justify="right")
    for layer in report.layers:
        table.add_row(
            layer.notation,
            f"{layer.tiles} x {layer.lanes}" + (" x taps" if layer.tap_unroll else ""),
            f"{layer.update_lanes} x {layer.mix_multipliers}",
            str(layer.weight_bits),
            str(layer.accumulator_bits),
            str(layer.current_bits),
            str(layer.membrane_bits or "-"),
            f"{layer.memory_bits:,}",
            f"{layer.kept_rows} of {layer.shape[1]}",
            f"{layer.accumulator_memory_bits:,}",
            f"{layer.map_accumulator_bits:,}",
            f"{layer.fifo_words:,}" if layer.fifo_words else "-",
        )
    return table


def _changes_table(changes: Sequence[ChannelChange]) -> Table:
    table = Table(title="channels that were changed (docs/NUMERICS.md); currents in thresholds")
    for header in ("layer", "channel"):
        table.add_column(header, justify="right")
    table.add_column("because it")
    for header in ("unit of its sum", "now", "bias", "now"):
        table.add_column(header, justify="right")
    for change in changes:
        numbers = (change.gain_before, change.gain_after, change.bias_before, change.bias_after)
        table.add_row(
            str(change.layer), str(change.channel), change.reason, *(f"{number:.4g}" for number in numbers)
        )
    return table


def _balance_table(report: CompileReport) -> Table:
    cycles = report.expected_cycles_per_image
    table = Table(title="expected cycles of work for an image")
    table.add_column("layer")
    for header in ("events in", "integrate", "update", "encode"):
        table.add_column(header, justify="right")
    for layer in report.layers:
        parts = (layer.integration_cycles, layer.update_cycles, layer.encoder_cycles)
        table.add_row(
            layer.notation,
            f"{layer.expected_events:,.1f}",
            *(f"{part:,.0f} {part / cycles:4.0%}" for part in parts),
        )
    return table
