"""What the configurations of all networks say about QCFS, and which values go with it."""

from __future__ import annotations

from typing import Any

from .neurons import default_threshold

__all__ = ["check_qcfs_fields", "first_threshold", "staircase_levels"]

_ALLOWED: dict[str, tuple[object, ...]] = {
    "mixing": ("learned", "uniform"),
    "leak": ("learned", 1.0),
    "initial_membrane": (0.0,),
    "thetas": (None,),
    "initial_membranes": (None,),
}


def check_qcfs_fields(config: Any) -> None:
    """Check the fields of a network's configuration that ``activation`` decides about.

    Raises
    ------
    ValueError
        If ``quanta`` is given without QCFS, or another field has a value with which conversion is not exact.
    """
    if config.activation == "lmht":
        if config.quanta is not None:
            raise ValueError(f"quanta must be None with activation lmht, not {config.quanta}")
        return
    for field, values in _ALLOWED.items():
        if (value := getattr(config, field)) not in values:
            shown = " or ".join(str(each) for each in values)
            raise ValueError(f"{field} must be {shown} with activation qcfs, not {value}")


def first_threshold(config: Any) -> float:
    """Threshold θ with the default filled in; with ``qcfs``, the upper end at the start."""
    default = 2.0 if config.activation == "qcfs" else default_threshold(config.levels)
    return default if config.theta is None else config.theta


def staircase_levels(config: Any) -> int:
    """Steps Q of the QCFS staircase with the default, L T, filled in."""
    return config.levels * config.steps if config.quanta is None else config.quanta
