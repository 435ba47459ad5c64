"""How fast the neurons' passes train beside those of an older commit: both in turn, in a process each.

OLD is the Python of an environment in which the older commit is installed. What it has no name for (the gradient
through the membrane, before there was one) is compared with what it did in its place. Times are the processor's, which
vary least on a machine that does other things, too:

    python scripts/speed_since.py OLD
"""

from __future__ import annotations

import argparse
import inspect
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from lmht.model import LMHT, QCFS, NetworkConfig
from lmht.model.memory import keep_freed_memory
from lmht.model.zoo import build_network

SHAPE = (16, 64, 16, 16)
"""Of a step: a window of 8 fits into what memory allocation keeps for the next pass."""
PASSES = 10
"""Passes of a turn, of which the fastest counts."""


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    title: str
    neurons: dict[str, Any]
    net: str | None = None
    half: bool = False


LEARNED = {"levels": 2}
LIF = {"levels": 1, "mixing": "identity", "leak": 0.75}
IF = {"levels": 1, "mixing": "identity", "leak": 1.0}
LEAKY = {"levels": 1, "mixing": "identity"}
FIXED = {"levels": 2, "mixing": "uniform", "leak": 1.0}
CASES = (
    *(Case(f"LM-HT, Ω and λ learned, T = {t}", LEARNED | {"steps": t}) for t in (2, 4, 8)),
    Case("the same in bfloat16, T = 4", LEARNED | {"steps": 4}, half=True),
    Case("LM-HT, uniform Ω, λ = 1, T = 4", FIXED | {"steps": 4}),
    Case("QCFS, L = 4", {}),
    *(
        Case(f"{name}, T = 4, {'detached' if detach else 'Eq. 5'}", neurons | {"steps": 4, "detach": detach})
        for name, neurons in (("IF", IF), ("LIF, λ = 0.75", LIF), ("LIF, λ learned", LEAKY))
        for detach in (True, False)
    ),
    Case("update of 784-128-10, LM-HT, T = 4, 128 images", LEARNED | {"steps": 4}, "784-128-10"),
)


def make_pass(case: Case) -> Callable[[], None]:
    """Forward and backward of the neurons alone, or an update of a network."""
    torch.manual_seed(1)
    known = inspect.signature(LMHT).parameters
    fields = {name: value for name, value in case.neurons.items() if name in known}
    if case.net is not None:
        return make_update(case.net, fields)
    neurons = LMHT(**fields) if fields else QCFS(levels=4)
    with torch.no_grad():
        for parameter in neurons.parameters():
            parameter.add_(torch.rand_like(parameter))
    shape = (fields["steps"], *SHAPE) if fields else SHAPE
    dtype = torch.bfloat16 if case.half else torch.float32
    current, upstream = torch.randn(shape).to(dtype).requires_grad_(), torch.randn(shape).to(dtype)

    def run() -> None:
        current.grad = None
        neurons.zero_grad()
        neurons(current).backward(upstream)

    return run


def make_update(net: str, fields: dict[str, Any]) -> Callable[[], None]:
    """Forward, loss, backward and SGD."""
    config = NetworkConfig(architecture=net, **fields)
    network = build_network(config).train()
    images, labels = torch.rand(128, *config.input_shape), torch.randint(10, (128,))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)

    def run() -> None:
        loss = F.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return run


def serve() -> None:
    """In the process of one commit: a case's number comes in, the processor seconds of its pass go out."""
    torch.set_num_threads(1)
    keep_freed_memory()
    passes: dict[int, Callable[[], None]] = {}
    for line in sys.stdin:
        number = int(line)
        if number not in passes:
            passes.clear()
            passes[number] = make_pass(CASES[number])
            passes[number]()
        seconds = []
        for _ in range(PASSES):
            start = time.process_time()
            passes[number]()
            seconds.append(time.process_time() - start)
        print(min(seconds), flush=True)


def take_turn(process: subprocess.Popen[str], number: int) -> float:
    """Milliseconds of a pass in that process."""
    assert process.stdin is not None
    assert process.stdout is not None
    print(number, file=process.stdin, flush=True)
    return float(process.stdout.readline()) * 1e3


def main() -> None:
    """Read the command line and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("old", metavar="OLD", help="Python of the older commit's environment")
    parser.add_argument("--pairs", type=int, default=25)
    options = parser.parse_args()
    environment = {**os.environ, "SPEED_SINCE": "serve"}
    old, new = (
        subprocess.Popen(
            [python, "-P", __file__],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for python in (options.old, sys.executable)
    )
    print(f"1 thread, {options.pairs} pairs, medians, milliseconds of the processor\n")
    print("| forward and backward | before | now | now / before |\n| --- | --- | --- | --- |")
    for number, case in enumerate(CASES):
        pairs = []
        for turn in range(options.pairs):
            # Who begins alternates, too.
            both = [(old, 0), (new, 1)][:: 1 if turn % 2 else -1]
            took = {place: take_turn(process, number) for process, place in both}
            pairs.append((took[0], took[1]))
        before, now = (statistics.median(pair[place] for pair in pairs) for place in (0, 1))
        ratio = statistics.median(pair[1] / pair[0] for pair in pairs)
        print(f"| {case.title} | {before:.2f} | {now:.2f} | {ratio:.2f} |", flush=True)
    for process in (old, new):
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


if __name__ == "__main__":
    if os.environ.get("SPEED_SINCE") == "serve":
        serve()
    else:
        main()
