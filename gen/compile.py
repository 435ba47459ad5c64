"""The compiler: a trained network to a build folder, through the passes in their order."""

from __future__ import annotations

import re
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from lmht.gen.balance_scales import balance_scales
from lmht.gen.capture import capture
from lmht.gen.choose_widths import choose_widths
from lmht.gen.expand_binary import expand_binary
from lmht.gen.files import replaced_folder
from lmht.gen.fold_batch_norm import fold_batch_norm
from lmht.gen.integer import IntegerNetwork
from lmht.gen.manifest import (
    MANIFEST_FILE,
    MANIFEST_FORMAT,
    ExpansionRecord,
    Manifest,
    SourceRecord,
)
from lmht.gen.plan import PlanOptions, expected_events, plan
from lmht.gen.quantize import quantize
from lmht.gen.report import CompileReport, expect, report_layers
from lmht.gen.spike_interface import check_spike_interface, take_drawn_spikes
from lmht.model import LMHT, Network, RunConfig, SpikingNetwork, load_checkpoint
from lmht.model.integer_window import LEAK_BITS, MULTIPLIER_BITS
from lmht.rtl.parameters import DesignParameters
from lmht.rtl.verilog import is_identifier

__all__ = ["CompileOptions", "compile_network", "design_network", "is_build", "to_integers"]

META_EXPANSION = "binary_expansion"
"""Key of an integer network's ``meta`` under which a binary expansion leaves L and T."""

DEFAULT_FRACTION_BITS = 8
"""``F`` of networks that were trained with neurons in floating point."""

_Lanes = Annotated[int, Field(ge=1, le=128)]
_Part = Annotated[float, Field(ge=0, le=1)]


class CompileOptions(BaseModel):
    """Options of :func:`compile_network`.

    Attributes
    ----------
    name : str or None
        Name of the top module and of the files, a Verilog identifier; None takes that of the run's folder.
    lanes, lane_budget, device, split, bytes_per_beat, update_lanes, mix_multipliers, tap_unroll, skip_quiet : optional
        What :class:`~lmht.gen.plan.PlanOptions` says.
    fraction_bits : int or None
        ``F`` of NUMERICS.md; None takes that with which the neurons were trained
        (:attr:`lmht.model.LMHT.fraction_bits`), or 8.
    multiplier_bits, leak_bits : int
        ``GB`` and ``FL``.
    weight_bits : int
        Width, 2 to 8, to which weights are rounded that were trained without integers.
    binary : bool
        Expand a trained network of L levels and T steps into one of L T binary steps
        (:func:`~lmht.gen.expand_binary.expand_binary`).
    bus : {"plain", "axi", "wishbone"}
        Emit the design behind AXI4-Lite or Wishbone and AXI4-Stream, too; needs 4 or 8 bytes a beat.
    pixel_density, spike_density : optional
        What :func:`~lmht.gen.plan.expected_events` says.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    name: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    lanes: _Lanes | Annotated[tuple[_Lanes, ...], Field(strict=False)] | None = None
    lane_budget: int | None = Field(default=None, ge=1)
    device: str | None = None
    split: dict[int, int] = Field(default_factory=dict)
    fraction_bits: int | None = Field(default=None, ge=0, le=24)
    multiplier_bits: int = Field(default=MULTIPLIER_BITS, ge=1, le=24)
    leak_bits: int = Field(default=LEAK_BITS, ge=1, le=16)
    weight_bits: int = Field(default=8, ge=2, le=8)
    bytes_per_beat: int = 8
    update_lanes: int | None = Field(default=None, ge=1)
    mix_multipliers: int | None = Field(default=None, ge=1)
    tap_unroll: bool | dict[int, bool] | None = None
    skip_quiet: bool = True
    binary: bool = False
    bus: Literal["plain", "axi", "wishbone"] = "plain"
    pixel_density: _Part | None = None
    spike_density: _Part | tuple[_Part, ...] | None = None


@dataclass(frozen=True)
class _Source:
    """What is compiled: a trained network with or without its run, or integers."""

    network: Network | SpikingNetwork | IntegerNetwork
    run: RunConfig | None
    name: str


def compile_network(
    source: Network | SpikingNetwork | IntegerNetwork | str | Path,
    out_dir: str | Path,
    options: CompileOptions | None = None,
) -> CompileReport:
    """Compile a network into a build folder.

    Everything is written into a temporary folder beside `out_dir`, which replaces an earlier build at the
    end. The same input gives the same bytes.

    Parameters
    ----------
    source : Network, SpikingNetwork, IntegerNetwork or path
        A trained network, integers, or the folder of a training run.
    out_dir : path
        Folder of the build.
    options : CompileOptions, optional

    Raises
    ------
    ValueError
        If the run is damaged, a number does not fit its width, an option lies outside its range, or `out_dir`
        holds something else than a build. The message is one line.
    """
    start = time.perf_counter()
    options = options or CompileOptions()
    out_dir = Path(out_dir)
    opened = _open_source(source, options.name)
    if options.binary and isinstance(opened.network, IntegerNetwork):
        raise ValueError("binary must be off for a network of integers: only a trained network is expanded")
    network = (
        opened.network
        if isinstance(opened.network, IntegerNetwork)
        else to_integers(opened.network, options, name=opened.name)
    )
    design = design_network(network, options, name=opened.name)
    events = _expected_events(network, options)
    expectation = expect(design, events)
    layers = report_layers(design, events, expectation)
    # Here, so that the passes above work without the hardware's sources.
    from lmht.gen.write import write_design

    with replaced_folder(out_dir, is_build) as folder:
        files = write_design(folder, design, network, bus=options.bus)
        manifest = Manifest(
            lmht_version=version("lmht"),
            name=design.name,
            design_hash=design.design_hash,
            parameters=design,
            layers=layers,
            expected_cycles_per_image=round(expectation.cycles_per_frame, 3),
            source=_describe_source(opened, network),
            **files,
        )
        (folder / MANIFEST_FILE).write_bytes(manifest.to_json())
    return CompileReport(
        folder=out_dir,
        name=design.name,
        design_hash=design.design_hash,
        architecture=network.architecture,
        layers=layers,
        expansion=_describe_expansion(network),
        expected_cycles_per_image=expectation.cycles_per_frame,
        busiest_stage=expectation.busiest[0],
        seconds=time.perf_counter() - start,
    )


def to_integers(network: Network | SpikingNetwork, options: CompileOptions, *, name: str) -> IntegerNetwork:
    """Passes 1 to 3: capture (or, fully connected, fold batch norm), balance scales, quantize.

    With ``options.binary``, the binary expansion comes before the scales.
    """
    check_spike_interface(network)
    network = take_drawn_spikes(network)
    if isinstance(network, SpikingNetwork):
        folded = capture(network, weight_bits=options.weight_bits)
    else:
        folded = fold_batch_norm(network)
    meta = {}
    if options.binary:
        folded = expand_binary(folded)
        assert folded.expansion is not None, "it is expanded"
        meta = {META_EXPANSION: asdict(folded.expansion)}
    return quantize(
        balance_scales(folded),
        name=name,
        fraction_bits=_trained_fraction_bits(network)
        if options.fraction_bits is None
        else options.fraction_bits,
        multiplier_bits=options.multiplier_bits,
        leak_bits=options.leak_bits,
        meta=meta,
    )


def _trained_fraction_bits(network: Network | SpikingNetwork) -> int:
    neurons = (part for part in network.modules() if isinstance(part, LMHT))
    trained = {neuron.fraction_bits for neuron in neurons if neuron.fraction_bits is not None}
    if len(trained) > 1:
        found = " and ".join(map(str, sorted(trained)))
        raise ValueError(f"fraction_bits must be given for neurons trained with {found}")
    return trained.pop() if trained else DEFAULT_FRACTION_BITS


def design_network(network: IntegerNetwork, options: CompileOptions, *, name: str) -> DesignParameters:
    """Passes 4 and 5: choose widths, plan."""
    return plan(
        network,
        choose_widths(network),
        name=name,
        events=_expected_events(network, options),
        options=PlanOptions(
            lanes=options.lanes,
            lane_budget=options.lane_budget,
            device=options.device,
            split=options.split,
            bytes_per_beat=options.bytes_per_beat,
            update_lanes=options.update_lanes,
            mix_multipliers=options.mix_multipliers,
            tap_unroll=options.tap_unroll,
            skip_quiet=options.skip_quiet,
        ),
    )


def is_build(folder: Path) -> bool:
    """Whether `folder` holds a build, whole or damaged: only such a folder is ever replaced."""
    try:
        head = (folder / MANIFEST_FILE).read_bytes()[:200]
    except OSError:
        return False
    return MANIFEST_FORMAT.encode() in head


def _expected_events(network: IntegerNetwork, options: CompileOptions) -> list[float]:
    return expected_events(network, pixels=options.pixel_density, spikes=options.spike_density)


def _open_source(source: Network | SpikingNetwork | IntegerNetwork | str | Path, name: str | None) -> _Source:
    if isinstance(source, IntegerNetwork):
        return _Source(source, None, name or _identifier(source.name))
    if isinstance(source, Network | SpikingNetwork):
        return _Source(source, None, name or "lmht_design")
    network, run = load_checkpoint(source)
    return _Source(network, run, name or _identifier(Path(source).resolve().name))


def _identifier(text: str) -> str:
    """`text` as a Verilog identifier."""
    plain = re.sub(r"[^A-Za-z0-9_]", "_", text)
    return plain if is_identifier(plain) else f"design_{plain}"


def _describe_expansion(network: IntegerNetwork) -> ExpansionRecord | None:
    found = network.meta.get(META_EXPANSION)
    return None if found is None else ExpansionRecord(**found)


def _describe_source(source: _Source, network: IntegerNetwork) -> SourceRecord:
    run = source.run
    expansion = _describe_expansion(network)
    if run is None:
        config = source.network.config if isinstance(source.network, Network) else None
        return SourceRecord(
            architecture=network.architecture,
            network=None if config is None else config.model_dump(mode="json"),
            binary_expansion=expansion,
        )
    return SourceRecord(
        dataset=run.dataset,
        architecture=network.architecture,
        network=run.network.model_dump(mode="json"),
        training=run.training.model_dump(mode="json"),
        validation_accuracy=run.best_accuracy,
        test_accuracy=run.test_accuracy,
        weights_sha256=run.weights_sha256,
        binary_expansion=expansion,
    )
