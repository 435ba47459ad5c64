"""What `results.py` trains: every network of docs/results.md, with its recipe."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

__all__ = [
    "BITS",
    "CIFAR",
    "CIFAR_NAMES",
    "DETACHED",
    "GRID",
    "RULES",
    "SECTION_5_3",
    "TESTED_STEPS",
    "Planned",
    "find",
    "plan",
]

GRID = ((1, 1), (1, 2), (1, 4), (1, 8), (2, 1), (2, 2), (2, 4), (4, 1), (4, 2))
"""Levels L and steps T of the tables."""

SECTION_5_3 = ((1, 8), (2, 4), (4, 2))
"""Those with L T = 8."""

BITS = (None, 8, 4, 2)
"""Widths of weights; None is floating point."""

TESTED_STEPS = (1, 2, 4, 8)
"""Steps of the networks with binary activations."""

DETACHED = "-detached"
"""End of the names of trainings without mixing whose membrane is detached, as all were before ``LMHT.detach``."""


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One training.

    Parameters
    ----------
    name : str
        Of its folder and record.
    group : str
        Table of the page.
    network, training : dict
        Fields of the configurations that differ from the defaults of data set and network.
    dataset : str
    start : str or None
        Name of the training whose weights this one begins with.
    fine_tuning : dict or None
        Fields of the fine-tuning's recipe; with it the method is hybrid.
    tested_steps : tuple of int
        Steps with which a network without memory between steps is tested besides its own.
    """

    name: str
    group: str
    network: dict[str, Any]
    training: dict[str, Any]
    dataset: str = "mnist"
    start: str | None = None
    fine_tuning: dict[str, Any] | None = None
    tested_steps: tuple[int, ...] = field(default=())


def _detached(planned: Planned) -> Planned:
    return replace(planned, name=planned.name + DETACHED, network=planned.network | {"detach": True})


# Epochs of each width; all but the floating-point weights begin with those.
_EPOCHS = {"mlp": {None: 10, 8: 1, 4: 3, 2: 5}, "cnn": {None: 3, 8: 1, 4: 1, 2: 2}}
_NETS = {"mlp": "784-128-10", "cnn": "mnist-cnn"}
_BATCH = {"mlp": {"batch_size": 128}, "cnn": {"batch_size": 256, "learning_rate": 8e-3}}
_TUNING = {"learning_rate": 1e-3, "warmup_epochs": 0.0}


def _seeds(kind: str, levels: int, steps: int) -> range:
    return range(3 if kind == "mlp" or (levels, steps) == (2, 2) else 1)


def _grid(kind: str) -> Iterator[Planned]:
    for levels, steps in GRID:
        for seed in _seeds(kind, levels, steps):
            first = f"{kind}-l{levels}t{steps}-s{seed}"
            for bits in BITS:
                yield Planned(
                    name=f"{first}-{bits or 'float'}",
                    group=kind,
                    network={"net": _NETS[kind], "levels": levels, "steps": steps, "weight_bits": bits},
                    training={"epochs": _EPOCHS[kind][bits], "seed": seed}
                    | _BATCH[kind]
                    | (_TUNING if bits else {}),
                    start=f"{first}-float" if bits else None,
                )


def _hybrid() -> Iterator[Planned]:
    for kind in _NETS:
        for quanta, windows in {4: ((2, 1), (2, 2), (4, 1)), 8: ((2, 2), (2, 4), (4, 2))}.items():
            for levels, steps in windows:
                yield Planned(
                    name=f"hybrid-{kind}-q{quanta}-l{levels}t{steps}",
                    group="hybrid",
                    network={
                        "net": _NETS[kind],
                        "levels": levels,
                        "steps": steps,
                        "weight_bits": 4,
                        "activation": "qcfs",
                        "quanta": quanta,
                    },
                    training={"epochs": _EPOCHS[kind][None]} | _BATCH[kind],
                    fine_tuning={"epochs": 3, "learning_rate": 1e-3},
                )


def _binary() -> Iterator[Planned]:
    # A single step of random spikes is noisy: the convolutions need longer to meet their aim there.
    nets = {"mlp": ("784-1024-1024-10", 8, 8), "lenet": ("lenet", 12, 5)}
    for kind, (net, random_epochs, direct_epochs) in nets.items():
        for integration, leak, steps, epochs in (
            ("discontinuous", 0.0, (1,), random_epochs),
            ("continuous", 1.0, TESTED_STEPS, direct_epochs),
        ):
            for count in steps:
                made = Planned(
                    name=f"binary-{kind}-{integration}-t{count}",
                    group="binary",
                    network={
                        "net": net,
                        "levels": 1,
                        "steps": count,
                        "weight_bits": 8,
                        "mixing": "identity",
                        "leak": leak,
                        "coding": "bernoulli" if leak == 0 else "direct",
                    },
                    training={
                        "epochs": epochs,
                        "batch_size": 128,
                        "learning_rate": 2e-3,
                        "loss": "squared-hinge",
                        "precision": "bfloat16",
                    },
                    tested_steps=TESTED_STEPS if leak == 0 else (),
                )
                if count == 1:
                    # One step has nothing to carry a gradient to.
                    yield made
                    continue
                # bfloat16 pays only on processors that have it.
                yield replace(made, training=made.training | {"precision": "float32"})
                yield _detached(made)


_LIF = {"levels": 1, "steps": 4, "mixing": "identity"}

CIFAR = {
    "LM-HT, L = 2, T = 2": {"levels": 2, "steps": 2},
    "quantized ANN, Q = 4": {"levels": 4, "steps": 1, "activation": "qcfs", "quanta": 4},
    "LIF, T = 4": _LIF,
    "LIF, T = 4, membrane detached": _LIF | {"detach": True},
}
"""Those that are compared on CIFAR-10."""

CIFAR_NAMES = {
    label: "cifar10-"
    + label.split(",")[0].lower().replace(" ", "-")
    + (DETACHED if neurons.get("detach") else "")
    for label, neurons in CIFAR.items()
}
"""Names of their trainings."""

RULES = {"Eq. 5": "rules-vgg11-lif", "detached": "rules-vgg11-lif" + DETACHED}
"""The two rules of LIF, in a network that a processor without bfloat16 trains in an hour."""


def _cifar() -> Iterator[Planned]:
    for label, neurons in CIFAR.items():
        yield Planned(
            name=CIFAR_NAMES[label],
            group="cifar10",
            dataset="cifar10",
            network={"net": "resnet18", "width": 0.25, "weight_bits": 8, **neurons},
            training={"epochs": 16, "precision": "bfloat16"},
        )


def _rules() -> Iterator[Planned]:
    made = Planned(
        name=RULES["Eq. 5"],
        group="rules",
        dataset="cifar10",
        network={"net": "vgg11", "width": 0.25, "weight_bits": 8, **_LIF},
        training={"epochs": 3, "precision": "float32"},
    )
    yield from (made, _detached(made))


def plan() -> list[Planned]:
    """All trainings, each behind the one that it begins with."""
    return [*_grid("mlp"), *_grid("cnn"), *_binary(), *_hybrid(), *_cifar(), *_rules()]


def find(name: str) -> Planned:
    """The training of that name."""
    return next(planned for planned in plan() if planned.name == name)
