"""Argument checks shared by the parameter objects: a whole sentence that names field, value and
range; and the limits that many of them share."""

from __future__ import annotations

__all__ = ["LEVELS_LIMIT", "STEPS_LIMIT", "check_choice", "check_range"]

LEVELS_LIMIT = 15
"""Most threshold levels ``L`` of a neuron."""

STEPS_LIMIT = 32
"""Most time steps ``T`` of a layer, and level fields of an event."""


def check_range(name: str, value: object, low: int, high: int) -> None:
    """Refuse anything but an integer in ``low … high``.

    Raises
    ------
    TypeError
        If `value` is not an integer (booleans are not).
    ValueError
        If it lies outside the range.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if not low <= value <= high:
        raise ValueError(f"{name} must be between {low} and {high}, not {value}")


def check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    """Refuse anything that is not one of `choices`.

    Raises
    ------
    ValueError
        If `value` is none of them.
    """
    if value not in choices:
        allowed = ", ".join(map(str, choices))
        raise ValueError(f"{name} must be one of {allowed}, not {value!r}")
