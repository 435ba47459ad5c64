"""When a source offers and when a sink is ready: one answer a cycle."""

from __future__ import annotations

import random
from collections.abc import Callable

__all__ = ["PATTERNS", "Pattern", "always", "bursts", "pattern", "randomly"]

Pattern = Callable[[], bool]
"""Called once a cycle; true: offer a word, or be ready."""


def always() -> bool:
    """In every cycle."""
    return True


def randomly(probability: float, rng: random.Random) -> Pattern:
    """With this probability in every cycle, independent of the others."""
    draw = rng.random
    return lambda: draw() < probability


def bursts(longest: int, rng: random.Random) -> Pattern:
    """Runs of 1 … `longest` cycles, on and off in turn."""
    state = {"on": True, "left": rng.randint(1, longest)}

    def step() -> bool:
        if not state["left"]:
            state["on"] = not state["on"]
            state["left"] = rng.randint(1, longest)
        state["left"] -= 1
        return bool(state["on"])

    return step


PATTERNS = ("always", "often", "half", "rarely", "bursts")
"""Names that :func:`pattern` knows."""


def pattern(name: str, rng: random.Random) -> Pattern:
    """The pattern of that name: ``always``, ``often`` (0.9), ``half``, ``rarely`` (0.1), ``bursts`` (up to 12).

    Raises
    ------
    ValueError
        If there is none.
    """
    probabilities = {"often": 0.9, "half": 0.5, "rarely": 0.1}
    if name == "always":
        return always
    if name == "bursts":
        return bursts(12, rng)
    if name in probabilities:
        return randomly(probabilities[name], rng)
    raise ValueError(f"pattern must be one of {', '.join(PATTERNS)}, not {name!r}")
