"""The demonstration: train, compile, verify and picture the bundled handwritten digits."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from lmht.gen.build import Build
from lmht.gen.cli_options import measure_densities
from lmht.gen.compile import CompileOptions, compile_network
from lmht.gen.pictures import save_picture
from lmht.model import Dataset, NetworkConfig, default_training_config, load_checkpoint, load_dataset, train
from lmht.sim.golden import GoldenModel
from lmht.sim.report import VerifyReport
from lmht.sim.verify import verify

__all__ = ["DemoResult", "run_demo", "summary_table"]

_ARCHITECTURE, _LEVELS, _STEPS, _WEIGHT_BITS, _LANES = "64-64-10", 2, 2, 4, 8
_PAUSES = 0.3


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """What the demonstration found.

    Parameters
    ----------
    float_accuracy, quantized_accuracy : float
        On the test images, 0 to 1: the same network trained in floating point, and with integer weights.
    golden_accuracy, rtl_accuracy : float
        The integer model, and the emitted Verilog.
    harness, cocotb : VerifyReport
        Every test image without pauses, and some with random pauses at both ends.
    build : Build
    verilog_lines : int
        Lines of the emitted Verilog, memories included.
    memory_bits : int
    expected_cycles : float
        An image's cycles as the compiler expected them.
    pixels_per_image, spike_events_per_image : float
        Events into the first layer, and from all hidden layers.
    picture : Path
    seconds : float
    """

    float_accuracy: float
    quantized_accuracy: float
    golden_accuracy: float
    rtl_accuracy: float
    harness: VerifyReport
    cocotb: VerifyReport
    build: Build
    verilog_lines: int
    memory_bits: int
    expected_cycles: float
    pixels_per_image: float
    spike_events_per_image: float
    picture: Path
    seconds: float

    @property
    def equal(self) -> bool:
        """Whether everything that was compared is equal."""
        return self.harness.ok and self.cocotb.ok


def run_demo(
    out: Path,
    *,
    epochs: int | None = None,
    cocotb_images: int = 20,
    seed: int = 0,
    say: Callable[[str], object] = print,
) -> DemoResult:
    """Run all of it; files go below `out`.

    Parameters
    ----------
    out : Path
        Receives ``float/`` and ``quantized/`` (runs), ``design/`` (build) and ``demo.png``; earlier ones are
        replaced.
    epochs : int, optional
        Of both trainings; the recipe's by default.
    cocotb_images : int
    seed : int
        Of the trainings and of the pauses.
    say : callable
        Called with a line before and after each part, with the seconds since the start in front.
    """
    start = time.perf_counter()

    def tell(line: str) -> None:
        say(f"{time.perf_counter() - start:4.0f} s  {line}")

    dataset = load_dataset("digits")
    tell(
        f"handwritten digits: {len(dataset.train_images):,} for training, {len(dataset.test_images)} for test, 8 x 8"
    )
    accuracies = [
        _train(dataset, out / name, bits, epochs, seed, tell)
        for name, bits in (("float", None), ("quantized", _WEIGHT_BITS))
    ]

    network, _ = load_checkpoint(out / "quantized")
    options = measure_densities(network, dataset.train_images, CompileOptions(name="lmht_demo", lanes=_LANES))
    report = compile_network(out / "quantized", out / "design", options)
    build = Build.open(out / "design")
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in build.verilog_files)
    tell(f"compiled into {report.folder}: {lines:,} lines of Verilog, {report.memory_bits:,} memory bits")

    pixels, labels = dataset.test_images.numpy(), dataset.test_labels.numpy()
    golden = GoldenModel(build.network).run(pixels, keep_levels=True)
    tell(f"simulating {len(pixels)} images through the C++ harness (building it takes longest)")
    harness = verify(build, pixels, labels, engine="harness", seed=seed)
    tell(harness.message)
    tell(f"simulating {cocotb_images} images through the cocotb bench with random pauses at both ends")
    cocotb = verify(
        build,
        pixels[:cocotb_images],
        labels[:cocotb_images],
        engine="cocotb",
        idle=_PAUSES,
        back_pressure=_PAUSES,
        seed=seed,
    )
    tell(cocotb.message)

    picture = out / "demo.png"
    events = golden.events.double().mean(dim=0).tolist()
    save_picture(
        picture,
        pixels,
        labels,
        golden,
        harness.classes,
        dataset.classes,
        levels=_LEVELS,
        shapes=[layer.shape for layer in build.network.layers[:-1]],
    )
    return DemoResult(
        float_accuracy=accuracies[0],
        quantized_accuracy=accuracies[1],
        golden_accuracy=float((golden.predictions.numpy() == labels).mean()),
        rtl_accuracy=harness.accuracy or 0.0,
        harness=harness,
        cocotb=cocotb,
        build=build,
        verilog_lines=lines,
        memory_bits=report.memory_bits,
        expected_cycles=report.expected_cycles_per_image,
        pixels_per_image=events[0],
        spike_events_per_image=sum(events[1:]),
        picture=picture,
        seconds=time.perf_counter() - start,
    )


def _train(
    dataset: Dataset,
    folder: Path,
    bits: int | None,
    epochs: int | None,
    seed: int,
    say: Callable[[str], object],
) -> float:
    """Test accuracy of a network trained with these weight bits, or in floating point."""
    config = NetworkConfig(
        architecture=_ARCHITECTURE,
        input_shape=dataset.input_shape,
        levels=_LEVELS,
        steps=_STEPS,
        weight_bits=bits,
    )
    recipe = default_training_config(dataset.name).model_copy(
        update={"seed": seed} | ({} if epochs is None else {"epochs": epochs})
    )
    kind = "floating-point" if bits is None else f"{bits}-bit"
    say(f"training {_ARCHITECTURE}, L = {_LEVELS}, T = {_STEPS}, {kind} weights, {recipe.epochs} epochs")
    run = train(config, recipe, dataset, folder, overwrite=True)
    assert run.test_accuracy is not None
    say(f"test accuracy {run.test_accuracy:.2%}")
    return run.test_accuracy


def summary_table(result: DemoResult) -> Table:
    """The result for a terminal."""
    cycles, busiest = result.harness.cycles, result.harness.busiest
    verdict = "equal" if result.equal else "DIFFERENT"
    table = Table(
        title="From a trained network to verified Verilog",
        caption=f"{result.seconds:.0f} s in all; picture: {result.picture}",
    )
    table.add_column("what")
    table.add_column("figure", justify="right")
    table.add_column("how")
    rows = [
        ("accuracy, floating point", f"{result.float_accuracy:.2%}", "same recipe without quantization"),
        ("accuracy, quantized", f"{result.quantized_accuracy:.2%}", f"{_WEIGHT_BITS}-bit weights, PyTorch"),
        ("accuracy, golden model", f"{result.golden_accuracy:.2%}", "all integers"),
        ("accuracy, RTL", f"{result.rtl_accuracy:.2%}", "emitted Verilog in Verilator"),
        (
            "logits compared",
            f"{result.harness.logits + result.cocotb.logits:,}",
            f"{verdict}; {result.harness.images} images (C++ harness), {result.cocotb.images} (cocotb)",
        ),
    ]
    if cycles is not None and busiest is not None:
        rows += [
            (
                "cycles an image",
                f"{cycles.steady_mean:,.1f}",
                f"steady state; {result.expected_cycles:,.0f} expected",
            ),
            ("latency in cycles", f"{cycles.latency_mean:,.1f}", "from first pixel to class"),
            ("utilization", f"{busiest.utilization:.1%}", f"{busiest.stage}, {busiest.resource}"),
        ]
    rows += [
        ("events an image", f"{result.pixels_per_image:.1f}", "pixels that are not 0"),
        ("", f"{result.spike_events_per_image:.1f}", "hidden neurons that spike"),
        ("memories", f"{result.memory_bits:,}", "bits: weights, constants"),
        ("Verilog", f"{result.verilog_lines:,}", "lines"),
    ]
    for row in rows:
        table.add_row(*row)
    return table
