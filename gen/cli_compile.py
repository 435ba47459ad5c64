"""``lmht compile``: a run folder in, Verilog and memory images out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lmht.gen.cli_options import (
    DataDir,
    make_console,
    measure_densities,
    parse_lanes,
    parse_split,
    parse_unroll,
)
from lmht.rtl.checks import STEPS_LIMIT

if TYPE_CHECKING:
    from lmht.gen.choose_precision import Calibration
    from lmht.gen.compile import CompileOptions
    from lmht.gen.fidelity import TestImages

__all__ = ["check_spiking", "compile_run"]

_MEASURED_IMAGES = 200


def compile_run(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder that `lmht train` wrote.")],
    out: Annotated[Path, typer.Option(help="Folder of the build; an earlier build there is replaced.")],
    lanes: Annotated[
        str | None,
        typer.Option(
            help="Synapse lanes: N for the slowest layer (the others follow), or N,N,... each.  [default: 16]"
        ),
    ] = None,
    lane_budget: Annotated[
        int | None, typer.Option(help="Lanes of all layers together, spread so that none waits for another.")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="Fill a device as far as it pays: ecp5-25k, ecp5-45k, ecp5-85k or ice40up5k."),
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option(metavar="LAYER:TILES", help="Cut a layer into tiles; may be repeated.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the top module.  [default: the run's]")] = None,
    fraction_bits: Annotated[
        int | None,
        typer.Option(
            help="Fraction bits of the membrane, 0 to 24.  [default: those of the training, or 8; 16 above 4 layers]"
        ),
    ] = None,
    multiplier_bits: Annotated[
        int | None, typer.Option(help="Bits of the mixing multipliers, 1 to 24.  [default: 12; 17]")
    ] = None,
    leak_bits: Annotated[
        int | None, typer.Option(help="Fraction bits of the leak, 1 to 16.  [default: 8; 16]")
    ] = None,
    gain_bits: Annotated[
        int | None, typer.Option(help="Bits of the gains of residual branches, 1 to 20.  [default: 10; 13]")
    ] = None,
    fidelity: Annotated[
        float | None,
        typer.Option(
            help="Choose all these bits, layer by layer, so that this part of the calibration images gets the class "
            "that it has in PyTorch; 1 for every image."
        ),
    ] = None,
    calibration_images: Annotated[
        int, typer.Option(min=1, help="Training images on which --fidelity chooses.")
    ] = 500,
    bytes_per_beat: Annotated[int, typer.Option(help="Pixels per input beat: 1, 2, 4, 8 or 16.")] = 8,
    bus: Annotated[
        Literal["plain", "axi", "wishbone"], typer.Option(help="Emit the design behind this bus, too.")
    ] = "plain",
    update_lanes: Annotated[
        int | None, typer.Option(help="Neurons updated at a time.  [default: as needed]")
    ] = None,
    mix_multipliers: Annotated[
        int | None, typer.Option(help="Multipliers per update lane.  [default: as needed]")
    ] = None,
    tap_unroll: Annotated[
        list[str] | None,
        typer.Option(
            metavar="on|off|auto|LAYER:on|LAYER:off",
            help="Integrate all taps of an event in one cycle; auto: with a budget, where it pays.  [default: auto]",
        ),
    ] = None,
    skip_quiet: Annotated[
        bool,
        typer.Option(
            help="Spend no arithmetic on pixels that no event has touched: skip them, or send their constant events."
        ),
    ] = True,
    binary: Annotated[
        bool,
        typer.Option(
            "--binary",
            help=f"Run L levels and T steps as L x T binary steps, {STEPS_LIMIT} at most, to compare both.",
        ),
    ] = False,
    data_dir: DataDir = None,
    test_images: Annotated[
        int,
        typer.Option(min=0, help="Test images on which the integers are compared with PyTorch; 0 for none."),
    ] = 1000,
    pixel_density: Annotated[
        float | None, typer.Option(help="Part of the pixels that are not 0.  [default: measured]")
    ] = None,
    spike_density: Annotated[
        float | None, typer.Option(help="Part of the maps sent on that spikes.  [default: measured]")
    ] = None,
) -> None:
    """Turn a trained network into Verilog, memory images, a C header and a manifest.

    Prints every layer with its widths in bits, the rows of its map that are kept, FIFOs and memories; and how the
    pipeline is balanced: the cycles that every part of it is expected to work for an image. The expectation and
    the sizes of the less busy layers follow from how many pixels and neurons send events; this is measured on
    training images where the data set is at hand, and 20 % and 35 % otherwise.

    Where test images are at hand, the accuracy of the integers stands beside that of the network in PyTorch; more than
    half a point of difference is a warning. `--fidelity` chooses the bits of membranes, multipliers, leaks and gains on
    training images, the cheapest first.

    \b
    Examples:
      lmht compile runs/mnist --lanes 16 --out build/mnist
      lmht compile runs/mnist --lanes 16,4 --split 0:3 --out build/mnist-three-tiles
      lmht compile runs/cifar --lane-budget 512 --out build/cifar
      lmht compile runs/mnist-cnn --device ecp5-45k --out build/mnist-cnn
      lmht compile runs/cifar --data-dir DIR --fidelity 0.999 --out build/cifar
      lmht compile runs/mnist --binary --out build/mnist-binary
    """
    from lmht.gen.compile import CompileOptions, compile_network
    from lmht.gen.fidelity import find_warning
    from lmht.gen.report import report_tables

    options = CompileOptions(
        name=name,
        lanes=None if lanes is None else parse_lanes(lanes),
        lane_budget=lane_budget,
        device=device,
        split=parse_split(split or ()),
        fraction_bits=fraction_bits,
        multiplier_bits=multiplier_bits,
        leak_bits=leak_bits,
        gain_bits=gain_bits,
        fidelity=fidelity,
        bytes_per_beat=bytes_per_beat,
        bus=bus,
        update_lanes=update_lanes,
        mix_multipliers=mix_multipliers,
        tap_unroll=parse_unroll(tap_unroll or ()),
        skip_quiet=skip_quiet,
        binary=binary,
        pixel_density=pixel_density,
        spike_density=spike_density,
    )
    check_spiking(run)
    options, test, calibration = _look_at_images(options, run, data_dir, test_images, calibration_images)
    report = compile_network(run, out, options, test=test, calibration=calibration)
    make_console().print(report_tables(report))
    if report.classes is None:
        typer.echo("accuracy of the integers: not compared with PyTorch, since no test images are at hand")
    elif (warning := find_warning(report.classes)) is not None:
        typer.echo(f"warning: {warning}", err=True)


def check_spiking(run: Path) -> None:
    """Refuse a QCFS network, which has no hardware."""
    from lmht.model.checkpoint import read_run_config

    if read_run_config(run).network.activation == "qcfs":
        raise ValueError(
            f"{run}: activation must be lmht, not qcfs: `lmht convert` makes a spiking network of it"
        )


def _look_at_images(
    options: CompileOptions, run: Path, data_dir: Path | None, test_images: int, calibration_images: int
) -> tuple[CompileOptions, TestImages | None, Calibration | None]:
    """The options with densities measured on training images, where they are not given; the test images that are
    compared; and the calibration images, if the options need them. All without the images if they are not at hand."""
    from lmht.gen.choose_precision import Calibration
    from lmht.gen.fidelity import TestImages
    from lmht.gen.spike_interface import check_spike_interface, draw_frames
    from lmht.model import DataError, load_checkpoint, load_dataset
    from lmht.model.evaluation import BATCH_SIZE, classify

    network, record = load_checkpoint(run)
    check_spike_interface(network)
    if data_dir is None and record.dataset != "digits":
        return options, None, None
    measured = options.pixel_density is None or options.spike_density is None
    try:
        dataset = load_dataset(record.dataset, data_dir, coding=record.network.coding)
    except DataError:
        if measured or options.fidelity is not None:
            raise
        return options, None, None
    coding = record.network.coding
    if measured:
        images = draw_frames(dataset.train_images[:_MEASURED_IMAGES], coding)
        options = measure_densities(network, images, options)
    test = None
    if test_images:
        test = TestImages(dataset.test_images, dataset.test_labels, test_images, coding)
    calibration = None
    if options.fidelity is not None:
        # Whole batches, so that random spikes are the same in both.
        images = dataset.train_images[: -(-calibration_images // BATCH_SIZE) * BATCH_SIZE]
        calibration = Calibration(
            draw_frames(images, coding)[:calibration_images], classify(network, images)[:calibration_images]
        )
    return options, test, calibration
