"""Emit a network of the zoo at its full width: time, memory, lint, and the report of memories and cycles.

Weights are fresh: neither the time nor the memories depend on them. Cycles follow from densities of events that are
assumed, and say so. Writes ``docs/results-full-width.md`` and ``docs/results-full-width.json``; nets may be measured
one call after the other.

    python scripts/full_width.py resnet18
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from lmht.gen.build import Build
from lmht.gen.compile import CompileOptions, compile_network
from lmht.gen.files import write_file
from lmht.model.conv_config import NET_NAMES, ConvNetworkConfig
from lmht.model.zoo import build_network
from lmht.sim.runner import LINT_WAIVERS
from lmht.sim.toolchain import toolchain_environment, verilator_command

SECONDS, GIBIBYTES = 60, 4
"""Targets of emitting ResNet-18."""


def processor_seconds() -> float:
    """Of this process and its children that have ended."""
    parts = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in parts)


class PeakMemory(threading.Thread):
    """Largest sum of the resident sets of this process and its children, looked at every few milliseconds."""

    INTERVAL = 0.02

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.bytes = 0
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(self.INTERVAL):
            self.bytes = max(self.bytes, sum(map(self._resident, self._processes())))

    def stop(self) -> float:
        """GiB."""
        self._ended.set()
        self.join()
        return self.bytes / 2**30

    @staticmethod
    def _processes() -> list[str]:
        """This process, its children and theirs."""
        processes = [str(os.getpid())]
        for process in processes:
            for children in Path(f"/proc/{process}/task").glob("*/children"):
                with contextlib.suppress(OSError):
                    processes += children.read_text().split()
        return processes

    @staticmethod
    def _resident(process: str) -> int:
        try:
            return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * resource.getpagesize()
        except OSError:  # it has just ended
            return 0


def emit(net: str, lanes: int, density: float) -> dict[str, Any]:
    """Compile one network, from its module on, and lint what was written. For a process of its own."""
    torch.manual_seed(0)
    network = build_network(ConvNetworkConfig(net=net, input_shape=(3, 32, 32), classes=10)).eval()
    options = CompileOptions(name=net, lanes=lanes, pixel_density=1.0, spike_density=density)
    with tempfile.TemporaryDirectory(prefix="lmht-full-width-") as name:
        folder = Path(name) / net
        memory = PeakMemory()
        memory.start()
        before, start = processor_seconds(), time.perf_counter()
        report = compile_network(network, folder, options)
        seconds, cpu = time.perf_counter() - start, processor_seconds() - before
        build = Build.open(folder)
        sources = [str(path) for path in build.verilog_files]
        command = verilator_command("--lint-only", "-Wall", *(f"-Wno-{waiver}" for waiver in LINT_WAIVERS))
        command += ["-Wno-DECLFILENAME", "--top-module", net, *sources]
        linted = subprocess.run(
            command, env=toolchain_environment(), capture_output=True, text=True, check=False
        )
        layers = build.manifest.layers
        return {
            "lanes": lanes,
            "density": density,
            "seconds": round(seconds, 1),
            "cpu_seconds": round(cpu, 1),
            "gibibytes": round(memory.stop(), 2),
            "verilog_bytes": sum(path.stat().st_size for path in build.verilog_files),
            "lint": "clean" if linted.returncode == 0 else linted.stderr.splitlines()[0],
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "memory_bits": sum(layer.memory_bits for layer in layers),
            "accumulator_bits": sum(layer.accumulator_memory_bits for layer in layers),
            "map_accumulator_bits": sum(layer.map_accumulator_bits for layer in layers),
            "fifo_words": sum(layer.fifo_words for layer in layers),
            "cycles": round(report.expected_cycles_per_image, 1),
            "busiest": report.busiest_stage,
            "layers": [
                {
                    "layer": layer.notation,
                    "tiles": f"{layer.tiles} x {layer.lanes}",
                    "update": f"{layer.update_lanes} x {layer.mix_multipliers}",
                    "memory_bits": layer.memory_bits,
                    "rows": f"{layer.kept_rows} of {layer.shape[1]}",
                    "accumulator_bits": layer.accumulator_memory_bits,
                    "map_accumulator_bits": layer.map_accumulator_bits,
                    "fifo_words": layer.fifo_words,
                    "events": round(layer.expected_events),
                    "integration": round(layer.integration_cycles),
                    "update_cycles": round(layer.update_cycles),
                    "encoder": round(layer.encoder_cycles),
                    "utilization": round(layer.utilization, 3),
                }
                for layer in layers
            ],
        }


def page(networks: dict[str, dict[str, Any]]) -> str:
    """The whole page."""
    lines = [
        "# Networks at full width",
        "",
        "Written by `python scripts/full_width.py NET`: from the PyTorch module, for images of 3 x 32 x 32, to",
        "Verilog, memory images, header and manifest. Weights are fresh; cycles are what the compiler estimates for",
        "the part of the neurons that is said to spike.",
        "",
        "| network | weights and other parameters | time | processor time | memory | Verilog | lint |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for net, one in networks.items():
        lines.append(
            f"| {net}, {one['lanes']} lanes | {one['parameters']:,} | {one['seconds']} s | {one['cpu_seconds']} s | "
            f"{one['gibibytes']} GiB | {one['verilog_bytes'] / 1e6:.1f} MB | {one['lint']} |"
        )
    for net, one in networks.items():
        lines += ["", *_report(net, one)]
    return "\n".join(lines) + "\n"


def _report(net: str, one: dict[str, Any]) -> Iterable[str]:
    yield f"## {net}"
    yield ""
    yield (
        f"{one['cycles']:,.0f} cycles an image where all pixels and {one['density']:.0%} of the neurons send events, "
        f"most of them in {one['busiest']}. {one['memory_bits']:,} bits of loadable memory; accumulators "
        f"{one['accumulator_bits']:,} bits, {one['map_accumulator_bits']:,} if whole maps were kept; "
        f"FIFOs of {one['fifo_words']:,} words in all."
    )
    yield ""
    yield (
        "| layer | tiles x lanes | update lanes x multipliers | loadable bits | rows kept | accumulator bits | "
        "of a whole map | FIFO words | events in | integrate | update | encode | utilization |"
    )
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for row in one["layers"]:
        yield (
            f"| {row['layer']} | {row['tiles']} | {row['update']} | {row['memory_bits']:,} | {row['rows']} | "
            f"{row['accumulator_bits']:,} | {row['map_accumulator_bits']:,} | {row['fifo_words'] or '-'} | "
            f"{row['events']:,} | {row['integration']:,} | {row['update_cycles']:,} | {row['encoder']:,} | "
            f"{row['utilization']:.0%} |"
        )


def main() -> None:
    """Read the command line and emit every network."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("nets", nargs="+", metavar="NET", choices=NET_NAMES, help=", ".join(NET_NAMES))
    parser.add_argument("--lanes", type=int, default=64, help="lanes of the slowest layer")
    parser.add_argument("--density", type=float, default=0.2, help="part of the neurons that spike")
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    options = parser.parse_args()

    path = options.docs / "results-full-width.json"
    networks: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}
    for net in options.nets:
        # A fresh process: its memory is that of this network alone.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            networks[net] = one = pool.apply(emit, (net, options.lanes, options.density))
        print(
            f"{net}: {one['seconds']} s ({one['cpu_seconds']} s of processor time), {one['gibibytes']} GiB, "
            f"lint {one['lint']}",
            flush=True,
        )
        write_file(path, (json.dumps(networks, indent=1) + "\n").encode())
        write_file(options.docs / "results-full-width.md", page(networks).encode())
    resnet = networks.get("resnet18")
    if resnet and (
        resnet["lint"] != "clean" or resnet["seconds"] > SECONDS or resnet["gibibytes"] > GIBIBYTES
    ):
        sys.exit(f"error: resnet18 must be clean and take at most {SECONDS} s and {GIBIBYTES} GiB")


if __name__ == "__main__":
    main()
