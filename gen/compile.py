"""The compiler: a trained network to a build folder, through the passes in their order."""

from __future__ import annotations

import re
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lmht.gen.balance_scales import balance_scales
from lmht.gen.capture import capture
from lmht.gen.choose_precision import (
    DEEP_BITS,
    SHALLOW_LAYERS,
    Calibration,
    PrecisionTrial,
    choose_precision,
)
from lmht.gen.choose_widths import choose_widths
from lmht.gen.compile_options import CompileOptions
from lmht.gen.expand_binary import expand_binary
from lmht.gen.fidelity import CLASSES_FILE, TestImages, measure_classes
from lmht.gen.files import replaced_folder
from lmht.gen.fold_batch_norm import fold_batch_norm
from lmht.gen.folded import ChannelChange, FoldedNetwork
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
from lmht.rtl.parameters import DesignParameters
from lmht.rtl.verilog import is_identifier

__all__ = ["CompileOptions", "compile_network", "design_network", "fold_network", "is_build", "to_integers"]

META_EXPANSION = "binary_expansion"
"""Key of an integer network's ``meta`` under which a binary expansion leaves L and T."""

META_CHANGES = "channel_changes"
"""Key of an integer network's ``meta`` under which its clamped channels stand."""

META_TRIALS = "precision_trials"
"""Key of an integer network's ``meta`` under which the bits that were tried stand."""


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
    *,
    test: TestImages | None = None,
    calibration: Calibration | None = None,
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
    test : TestImages, optional
        Images on which the accuracy of the integers is compared with that of a trained network.
    calibration : Calibration, optional
        Images on which ``options.fidelity`` chooses the bits.

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
    if isinstance(opened.network, IntegerNetwork):
        if options.binary:
            raise ValueError(
                "binary must be off for a network of integers: only a trained network is expanded"
            )
        if options.fidelity is not None:
            raise ValueError("fidelity must not be given for a network of integers: its bits are chosen")
    network = (
        opened.network
        if isinstance(opened.network, IntegerNetwork)
        else to_integers(opened.network, options, name=opened.name, calibration=calibration)
    )
    classes = None
    if test is not None and not isinstance(opened.network, IntegerNetwork):
        classes = measure_classes(opened.network, network, test)
    design = design_network(network, options, name=opened.name)
    events = _expected_events(network, options)
    expectation = expect(design, events)
    layers = report_layers(design, events, expectation)
    # Here, so that the passes above work without the hardware's sources.
    from lmht.gen.write import write_design

    more = {} if classes is None else {CLASSES_FILE: classes.to_csv()}
    with replaced_folder(out_dir, is_build) as folder:
        files = write_design(folder, design, network, bus=options.bus, more=more)
        manifest = Manifest(
            lmht_version=version("lmht"),
            name=design.name,
            design_hash=design.design_hash,
            parameters=design,
            layers=layers,
            expected_cycles_per_image=round(expectation.cycles_per_frame, 3),
            source=_describe_source(opened, network),
            channel_changes=_describe_changes(network),
            precision_trials=_describe_trials(network),
            fidelity=None if classes is None else classes.record(),
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
        changes=_describe_changes(network),
        trials=_describe_trials(network),
        classes=classes,
        expected_cycles_per_image=expectation.cycles_per_frame,
        busiest_stage=expectation.busiest[0],
        seconds=time.perf_counter() - start,
    )


def fold_network(
    network: Network | SpikingNetwork, *, weight_bits: int = 8, binary: bool = False
) -> FoldedNetwork:
    """Passes 1 and 2: capture (or, fully connected, fold batch norm), expand if `binary`, balance scales."""
    check_spike_interface(network)
    network = take_drawn_spikes(network)
    if isinstance(network, SpikingNetwork):
        folded = capture(network, weight_bits=weight_bits)
    else:
        folded = fold_batch_norm(network)
    return balance_scales(expand_binary(folded) if binary else folded)


def to_integers(
    network: Network | SpikingNetwork,
    options: CompileOptions,
    *,
    name: str,
    calibration: Calibration | None = None,
    folded: FoldedNetwork | None = None,
) -> IntegerNetwork:
    """Passes 1 to 3: :func:`fold_network`, unless its result is given as `folded`, then quantize.

    With ``options.fidelity``, the bits are chosen before that, on the images of `calibration`.
    """
    folded = folded or fold_network(network, weight_bits=options.weight_bits, binary=options.binary)
    meta: dict[str, object] = {}
    if folded.expansion is not None:
        meta[META_EXPANSION] = asdict(folded.expansion)
    if folded.changes:
        meta[META_CHANGES] = [change.model_dump() for change in folded.changes]
    trained = _trained_fraction_bits(network)
    bits: dict[str, Any] = options.given_bits
    if options.fidelity is not None:
        if trained:
            raise ValueError(
                f"fidelity must not be given for a network that was trained with fraction_bits {trained[0]}: "
                "it has the integers that it was trained with"
            )
        if calibration is None:
            raise ValueError("fidelity needs calibration images: the training images of the run's data set")
        bits, trials = choose_precision(folded, calibration, options.fidelity, name=name)
        meta[META_TRIALS] = [trial.model_dump() for trial in trials]
    elif "fraction_bits" not in bits and trained:
        if len(trained) > 1:
            found = " and ".join(map(str, trained))
            raise ValueError(f"fraction_bits must be given for neurons trained with {found}")
        bits["fraction_bits"] = trained[0]
    elif not trained and len(folded.layers) > SHALLOW_LAYERS:
        bits = DEEP_BITS.model_dump() | bits
    return quantize(folded, name=name, meta=meta, **bits)


def _trained_fraction_bits(network: Network | SpikingNetwork) -> list[int]:
    """Fraction bits that neurons were trained with."""
    neurons = (part for part in network.modules() if isinstance(part, LMHT))
    return sorted({neuron.fraction_bits for neuron in neurons if neuron.fraction_bits is not None})


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
    if not isinstance(source, str | Path):
        check_spike_interface(source)  # which says how to unwrap it
    network, run = load_checkpoint(source)
    return _Source(network, run, name or _identifier(Path(source).resolve().name))


def _identifier(text: str) -> str:
    """`text` as a Verilog identifier."""
    plain = re.sub(r"[^A-Za-z0-9_]", "_", text)
    return plain if is_identifier(plain) else f"design_{plain}"


def _describe_expansion(network: IntegerNetwork) -> ExpansionRecord | None:
    found = network.meta.get(META_EXPANSION)
    return None if found is None else ExpansionRecord(**found)


def _describe_changes(network: IntegerNetwork) -> tuple[ChannelChange, ...]:
    return tuple(ChannelChange(**change) for change in network.meta.get(META_CHANGES, ()))


def _describe_trials(network: IntegerNetwork) -> tuple[PrecisionTrial, ...]:
    return tuple(PrecisionTrial(**trial) for trial in network.meta.get(META_TRIALS, ()))


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
