"""Checks of constructor arguments, with messages that name the field, the value and the allowed range."""

import math
from collections.abc import Sequence

import numpy as np
import torch

__all__ = ["check_choice", "check_integer", "check_number", "check_positive"]


def _plain(value: object) -> object:
    """A number of NumPy or PyTorch (a scalar, or an array without dimensions) as Python's; all else as it is."""
    has_no_dimensions = isinstance(value, np.ndarray | torch.Tensor) and value.ndim == 0
    return value.item() if has_no_dimensions or isinstance(value, np.generic) else value


def check_integer(field: str, value: object, minimum: int, maximum: int | None = None) -> int:
    """Return ``value`` as an ``int`` if it is one in ``minimum..maximum`` (no upper end if ``maximum`` is None).

    Raises
    ------
    TypeError
        If ``value`` is not an integer of Python, NumPy or PyTorch (a ``bool`` is not one here).
    ValueError
        If ``value`` lies outside the range.
    """
    value = _plain(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{field} must be an integer, not {value!r}")
    if maximum is None:
        if value < minimum:
            raise ValueError(f"{field} must be at least {minimum}, not {value}")
    elif not minimum <= value <= maximum:
        raise ValueError(f"{field} must be between {minimum} and {maximum}, not {value}")
    return value


def check_number(field: str, value: object) -> float:
    """Return ``value`` as a ``float`` if it is a finite real number.

    Raises
    ------
    TypeError
        If ``value`` is neither an integer nor a real number of Python, NumPy or PyTorch (a ``bool`` is neither here).
    ValueError
        If ``value`` is infinite or not a number.
    """
    value = _plain(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{field} must be a number, not {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{field} must be finite, not {value}")
    return float(value)


def check_positive(field: str, value: object) -> float:
    """Return ``value`` as a ``float`` if it is a finite number above 0; errors as :func:`check_number`."""
    number = check_number(field, value)
    if number <= 0:
        raise ValueError(f"{field} must be above 0, not {number}")
    return number


def check_choice(field: str, value: object, choices: Sequence[str]) -> str:
    """Return ``value`` if it is one of the strings ``choices``.

    Raises
    ------
    TypeError
        If ``value`` is not a string.
    ValueError
        If ``value`` is none of ``choices``.
    """
    if not isinstance(value, str):
        raise TypeError(f"{field} must be a string, not {value!r}")
    if value not in choices:
        raise ValueError(f"{field} must be one of {', '.join(choices)}, not {value}")
    return value
