"""Pages docs/results.md and docs/results-runs.md, from the records of `results.py` alone."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from results_picture import draw
from results_plan import BITS, CIFAR_NAMES, DETACHED, GRID, RULES, SECTION_5_3, TESTED_STEPS, Planned, plan
from results_records import read_records

from lmht.gen.files import write_file

__all__ = ["write"]

Record = dict[str, Any]

_NETS = {"mlp": "MLP, 784-128-10", "cnn": "CNN, `mnist-cnn`"}
_PAPER_CIFAR10 = 0.9625
_BINARY_AIMS = {"mlp": ("784-1024-1024-10", 0.98), "lenet": ("12C5-P2-64C5-P2-512-10", 0.99)}


def table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """Lines of a table, with an empty one behind it."""
    names = list(columns)
    yield f"| {' | '.join(names)} |"
    yield f"| {' | '.join('---' for _ in names)} |"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def percent(value: float | None) -> str:
    """An accuracy; a dash for what was not measured."""
    return "-" if value is None else f"{value:.2%}"


def spread(values: list[float]) -> str:
    """Mean and standard deviation of several seeds, or the one value."""
    if not values:
        return "-"
    mean = f"{statistics.mean(values):.2%}"
    return mean if len(values) == 1 else f"{mean} ± {100 * statistics.stdev(values):.2f}"


class Results:
    """Records by training, and those of a cell of the grid."""

    def __init__(self, records: dict[str, Record]):
        self.records = records

    def cell(self, kind: str, levels: int, steps: int, bits: int | None) -> list[Record]:
        """One record a seed."""
        start = f"{kind}-l{levels}t{steps}-s"
        return [
            record
            for name, record in sorted(self.records.items())
            if name.startswith(start) and name.endswith(f"-{bits or 'float'}")
        ]

    def placed(self, kind: str) -> Iterator[tuple[int, int, int, Record]]:
        """Levels, steps, bits and record of what has hardware figures, the first seed of each."""
        for levels, steps in GRID:
            for bits in (bits for bits in BITS if bits is not None):
                found = [record for record in self.cell(kind, levels, steps, bits) if "hardware" in record]
                if found:
                    yield levels, steps, bits, found[0]

    def of(self, group: str) -> list[tuple[Planned, Record]]:
        """Trainings of a group, in the plan's order."""
        found = ((planned, self.records.get(planned.name)) for planned in plan() if planned.group == group)
        return [(planned, record) for planned, record in found if record is not None]


def accuracies(results: Results, kind: str) -> Iterator[str]:
    """Accuracy by L, T and bits."""
    yield f"### {_NETS[kind]}"
    yield ""
    names = ("L", "T", *("float" if bits is None else f"{bits} bits" for bits in BITS))
    yield from table(
        names,
        (
            (
                str(levels),
                str(steps),
                *(
                    spread([r["test_accuracy"] for r in results.cell(kind, levels, steps, bits)])
                    for bits in BITS
                ),
            )
            for levels, steps in GRID
        ),
    )


def activity(results: Results, kind: str) -> Iterator[str]:
    """Spikes and synaptic operations of an image, 4-bit weights."""
    rows = []
    for levels, steps in GRID:
        found = [record["per_image"] for record in results.cell(kind, levels, steps, 4)]
        if found:
            names = ("spikes", "binary_spikes", "events", "step_events", "operations", "step_operations")
            means = (statistics.mean(record[name] for record in found) for name in names)
            rows.append((str(levels), str(steps), *(f"{mean:,.1f}" for mean in means)))
    columns = (
        "L",
        "T",
        "spikes",
        "as binary spikes",
        "events",
        "as single steps",
        "operations",
        "as single steps",
    )
    yield from table(columns, rows)


def hardware(results: Results, kind: str) -> Iterator[str]:
    """What L, T and bits cost in RTL."""
    rows = []
    for levels, steps in GRID:
        whole = results.cell(kind, levels, steps, None)
        for bits in BITS[1:]:
            done = [r for r in results.cell(kind, levels, steps, bits) if "hardware" in r]
            if not done:
                continue
            figures = [record["hardware"] for record in done]

            def mean(name: str, figures: list[Record] = figures) -> float:
                return statistics.mean(figure[name] for figure in figures)

            logits = sum(figure["logits"] for figure in figures)
            rows.append(
                (
                    *(str(value) for value in (levels, steps, bits)),
                    spread([r["test_accuracy"] for r in whole]),
                    spread([r["test_accuracy"] for r in done]),
                    spread([figure["accuracy"] for figure in figures]),
                    f"{logits:,}" if all(figure["equal"] for figure in figures) else "**DIFFERENT**",
                    f"{mean('cycles_per_image'):,.0f}",
                    f"{mean('weight_words_read'):,.0f}",
                    f"{mean('weight_bits_read') / 1000:,.1f}",
                    f"{mean('memory_bits') / 1000:,.0f}",
                )
            )
    yield f"### {_NETS[kind]}: hardware"
    yield ""
    columns = (
        *("L", "T", "bits", "float", "PyTorch", "RTL, 500 images", "logits equal", "cycles an image"),
        *("weight words read", "weight kbit read", "memory kbit"),
    )
    yield from table(columns, rows)


def section_5_3(results: Results) -> Iterator[str]:
    """L T = 8, trained directly and from QCFS of 8 levels."""
    rows = []
    for kind, label in _NETS.items():
        for levels, steps in SECTION_5_3:
            hybrid = results.records.get(f"hybrid-{kind}-q8-l{levels}t{steps}")
            direct = [
                [r["test_accuracy"] for r in results.cell(kind, levels, steps, bits)] for bits in (None, 4)
            ]
            rows.append(
                (
                    label,
                    str(levels),
                    str(steps),
                    *map(spread, direct),
                    percent(hybrid and hybrid["test_accuracy"]),
                )
            )
    yield from table(("network", "L", "T", "direct, float", "direct, 4 bits", "hybrid, 4 bits"), rows)


def marked(what: str, rule: str) -> str:
    """A name in a table, with a mark if its training detached the membrane."""
    return f"{what}, detached" if rule else what


def hybrid_rows(results: Results) -> Iterator[tuple[str, ...]]:
    """Before conversion, before and after fine-tuning."""
    for planned, record in results.of("hybrid"):
        found = record["conversion"]
        yield (
            _NETS[planned.name.split("-")[1]],
            *(str(planned.network[name]) for name in ("quanta", "levels", "steps")),
            percent(found["source_test_accuracy"]),
            percent(found["test_accuracy"]),
            percent(record["test_accuracy"]),
        )


def binary_rows(results: Results) -> Iterator[tuple[str, ...]]:
    """The second paper's variants, by steps; with a detached membrane the network of one step is the same."""
    for kind, (shape, aim) in _BINARY_AIMS.items():
        for integration, rule in (("discontinuous", ""), ("continuous", ""), ("continuous", DETACHED)):
            start = f"binary-{kind}-{integration}-t"
            tested = results.records.get(f"{start}1", {}).get("tested_steps", {})
            found = {
                steps: tested.get(str(steps))
                or results.records.get(f"{start}{steps}{rule if steps > 1 else ''}", {}).get("test_accuracy")
                for steps in TESTED_STEPS
            }
            missed = [str(steps) for steps, value in found.items() if value is not None and value < aim]
            met = "met" if None not in found.values() else "met so far"
            verdict = f"**missed** at T = {', '.join(missed)}" if missed else met
            yield (shape, marked(integration, rule), *map(percent, found.values()), f"{aim:.0%}: {verdict}")


def binary_hardware(results: Results) -> Iterator[tuple[str, ...]]:
    """The second paper's variants in RTL."""
    for planned, record in results.of("binary"):
        if "hardware" not in record:
            continue
        _, kind, integration, steps, *rule = planned.name.split("-")
        figures = record["hardware"]
        yield (
            _BINARY_AIMS[kind][0],
            marked(integration, "".join(rule)),
            steps[1:],
            percent(figures["accuracy"]),
            f"{figures['logits']:,}" if figures["equal"] else "**DIFFERENT**",
            f"{figures['cycles_per_image']:,.0f}",
            f"{figures['weight_words_read']:,.0f}",
        )


def cifar_rows(results: Results) -> Iterator[tuple[str, ...]]:
    """ResNet-18 in several kinds of neurons; dashes for what is not trained yet."""
    for label, name in CIFAR_NAMES.items():
        record = results.records.get(name)
        if record is None:
            yield (label, *["-"] * 4)
            continue
        operations = record.get("per_image", {})
        gap = 100 * (_PAPER_CIFAR10 - record["test_accuracy"])
        yield (
            label,
            percent(record["test_accuracy"]),
            f"{gap:.2f} points",
            *(f"{operations[name]:,.0f}" if operations else "-" for name in ("binary_spikes", "operations")),
        )


def rule_rows(results: Results) -> Iterator[tuple[str, ...]]:
    """LIF trained by both rules."""
    for label, name in RULES.items():
        record = results.records.get(name)
        spikes = record and record["per_image"]["binary_spikes"]
        yield (
            label,
            percent(record and record["test_accuracy"]),
            "-" if spikes is None else f"{spikes:,.0f}",
        )


def recipe(record: Record) -> str:
    """Fields of a recipe in a few words."""
    training = record["training"]
    words = [f"{training.get('epochs', 20)} epochs", f"{training.get('optimizer', 'adamw')}"]
    words.append(f"rate {training.get('learning_rate', 1e-3):g}")
    for name in ("loss", "augment", "precision"):
        if name in training:
            words.append(training[name])
    return ", ".join(words)


def runs_page(results: Results) -> Iterator[str]:
    """Every run with seed, commit, recipe and figures."""
    yield "# Every training behind results.md"
    yield ""
    yield "Written by `python scripts/results.py page` from the runs' own records, which are in `results.json`"
    yield "with all fields of network and recipe that differ from the defaults. A commit that ends in `-dirty`"
    yield "had changed files; one with * was entered afterwards, since the training ran in an installed copy, whose"
    yield "files were compared with that commit's. Spikes and synaptic operations are means over 500 test images;"
    yield "those of weights in floating point are of these weights rounded to 8 bits. Names that end in `-detached`"
    yield "are networks without mixing whose membrane was detached in training ([MODEL.md](MODEL.md), Learning)."
    yield ""
    rows = []
    for planned in plan():
        record = results.records.get(planned.name)
        if record is None:
            continue
        commit = (record["commit"] or "-").replace("-dirty", "")[:10]
        commit += "-dirty" if (record["commit"] or "").endswith("-dirty") else ""
        commit += "*" if record.get("commit_entered") else ""
        figures = record.get("per_image", {})
        rows.append(
            (
                planned.name,
                str(record["training"].get("seed", 0)),
                commit,
                recipe(record) + (f", from {record['start']}" if record["start"] else ""),
                percent(record["test_accuracy"]),
                *(f"{figures[name]:,.1f}" if figures else "-" for name in ("spikes", "operations")),
            )
        )
    columns = ("training", "seed", "commit", "recipe", "test accuracy", "spikes", "synaptic operations")
    yield from table(columns, rows)


def page(results: Results) -> Iterator[str]:
    """The page with all tables."""
    yield "# Results"
    yield ""
    yield "Written by `python scripts/results.py page` from records of trainings (`python scripts/results.py"
    yield "train mlp cnn hybrid binary cifar10 --data-dir DIR`) and of simulations (`... hardware mlp cnn binary"
    yield "--data-dir DIR`); every training with its seed, commit and recipe is in"
    yield "[results-runs.md](results-runs.md)."
    yield ""
    yield "## MNIST: levels, steps and bits"
    yield ""
    yield "Accuracy on the 10,000 test images. Integer weights begin with those in floating point and are"
    yield "trained on for the few epochs that results-runs.md lists, rounded as in hardware. Where there are"
    yield "three seeds: mean ± standard deviation in points. Weights of 2 bits are -1, 0 and 1 times the largest"
    yield "of their channel ([NUMERICS.md](NUMERICS.md)), and a few epochs are short for them."
    yield ""
    for kind in _NETS:
        yield from accuracies(results, kind)
    yield "## MNIST: spikes and synaptic operations"
    yield ""
    yield "4-bit weights, means over 500 test images and the seeds, of one image. A spike of level k is k"
    yield 'binary spikes. An event carries the levels of all steps, and one operation adds them all; "as single'
    yield 'steps" is what events of single steps would cost.'
    yield ""
    for kind, label in _NETS.items():
        yield f"### {label}: activity"
        yield ""
        yield from activity(results, kind)
    yield "## MNIST: what it costs in hardware"
    yield ""
    yield "Each network compiled with 16 lanes for its slowest layer and simulated on 500 test images; every"
    yield 'logit is compared with the golden model. "float" and "PyTorch" are accuracies on 10,000 images,'
    yield "before rounding and of the integer weights. A weight word holds one weight for every lane of a tile"
    yield "and is read once for an operation, as the design's own counters say. Figures of several seeds are"
    yield "means of those simulated."
    yield ""
    yield "![Test accuracy over the bits of weights that an image reads](images/results.png)"
    yield ""
    for kind in _NETS:
        yield from hardware(results, kind)
    yield "## L T = 8 (section 5.3 of the paper)"
    yield ""
    yield "The same product as more levels or as more steps; hybrid is QCFS of 8 levels, converted and fine-tuned."
    yield ""
    yield from section_5_3(results)
    yield "## Hybrid training"
    yield ""
    yield "QCFS with Q levels, the converted network before any fine-tuning, and after it; 4-bit weights, seed 0."
    yield "With L T = Q conversion loses nothing; otherwise what the CNN keeps differs much from training to training."
    yield ""
    columns = ("network", "Q", "L", "T", "QCFS", "converted", "fine-tuned")
    yield from table(columns, hybrid_rows(results))
    yield "## Binary activations (the second paper)"
    yield ""
    yield "L = 1, 8-bit weights, squared hinge loss, seed 0. Discontinuous integration is trained with one step"
    yield "of Bernoulli spikes and tested with T; continuous integration takes the image as currents and is"
    yield "trained with each T, with the gradient through time ([MODEL.md](MODEL.md), Learning); the older rows"
    yield 'marked "detached" had no gradient from step to step. A single step is the same by both rules. A dash is a'
    yield "training that is still to be done."
    yield ""
    steps = (f"T = {steps}" for steps in TESTED_STEPS)
    yield from table(("network", "integration", *steps, "at least"), binary_rows(results))
    yield "The same networks in RTL, 500 test images; with discontinuous integration a design of one step takes"
    yield "frames of spikes that were drawn as for the accuracy in PyTorch."
    yield ""
    columns = (
        "network",
        "integration",
        "T",
        "accuracy of 500",
        "logits equal",
        "cycles an image",
        "weight words read",
    )
    yield from table(columns, binary_hardware(results))
    yield "## CIFAR-10"
    yield ""
    yield from cifar_text(results)
    columns = ("neurons", "test accuracy", "below the paper's 96.25 %", "binary spikes", "operations")
    yield from table(columns, cifar_rows(results))
    yield "LIF with a detached membrane is not the paper's baseline: no gradient crosses from step to step. A dash"
    yield "is a training that is still to be done."
    yield ""
    if any(name in results.records for name in RULES.values()):
        yield "The two rules in a small network: VGG-11 at width 0.25, LIF, T = 4, 8-bit weights, seed 0, trained in"
        yield "float32 for as few epochs as [results-runs.md](results-runs.md) says, far from converged."
        yield ""
        yield from table(("gradient", "test accuracy", "binary spikes"), rule_rows(results))


def cifar_text(results: Results) -> Iterator[str]:
    """What the comparison is, from its records."""
    found = results.of("cifar10")
    if not found:
        return
    _, record = found[0]
    network = record["network"]
    yield f"ResNet-18 at width {network.get('width', 1):g} with 8-bit weights, {recipe(record)}, seed 0: the"
    yield "same recipe for all. The images are CIFAR-10 in JPEG files of quality 75. Two CPU cores allow"
    yield "neither the full width nor the paper's 300 epochs, and the gap says so; `lmht train --recipe cifar10"
    yield "--device cuda --precision bfloat16 --data-dir DIR --out runs/cifar10` is the full run."
    yield ""


def write(docs: Path) -> None:
    """Write both pages, and the picture."""
    results = Results(read_records(docs))
    cells = {label: list(results.placed(kind)) for kind, label in _NETS.items()}
    draw(docs / "images" / "results.png", {label: found for label, found in cells.items() if found})
    for name, lines in (("results", page(results)), ("results-runs", runs_page(results))):
        write_file(docs / f"{name}.md", "\n".join(lines).encode())
