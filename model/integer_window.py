"""Window of LM-HT neurons with the roundings of the hardware, to train with."""

from __future__ import annotations

import math

import torch

from .surrogate import RoundHalfUp, SurrogateStaircase
from .window import Staircase, compute_type

__all__ = ["LEAK_BITS", "MULTIPLIER_BITS", "integer_window"]

LEAK_BITS = 8
"""``FL`` of NUMERICS.md: fraction bits of the leak."""

MULTIPLIER_BITS = 12
"""``GB``: bits of a mixing multiplier."""


def integer_window(
    current: torch.Tensor,
    omega: torch.Tensor | None,
    leak: torch.Tensor,
    staircase: Staircase,
    fraction_bits: int,
) -> torch.Tensor:
    """Output ``θ k`` of a window whose mixing, leak and membrane are rounded as steps 2 to 5 of NUMERICS.md round them.

    Everything is in units of ``θ 2^-F``, in which membranes are whole numbers: ``J`` is rounded half up, the leak to
    ``round(λ 2^FL)``, its product with the membrane half up, ``v[-1]`` to the nearest. Ω is rounded with as many
    fraction bits as let its largest entry fit into ``GB`` bits; in hardware the scale of the weights is part of that
    multiplier, so that channels of a smaller scale have fewer bits. The gradient is that of
    :func:`lmht.model.fused.fused_window`, with every rounding passed straight through.

    Parameters
    ----------
    current : torch.Tensor, shape (T, ...)
        Input current ``I`` in the units of θ.
    omega : torch.Tensor, shape (T, T), or None
        Mixing Ω, at least 0; None for the identity.
    leak : torch.Tensor, scalar
        Membrane leak λ.
    staircase : Staircase
        Threshold, levels, initial membrane, and whether ``v`` is detached.
    fraction_bits : int
        ``F``, at least 0. Exact as long as membranes, times ``2^FL`` with a leak, stay below ``2^24`` of these units.

    Returns
    -------
    torch.Tensor, shape and type of ``current``
        ``θ k``.
    """
    theta_units = float(2**fraction_bits)
    scale = theta_units / staircase.theta
    with torch.autocast(current.device.type, enabled=False):
        units = current.to(compute_type(current.dtype)) * scale
        if omega is not None:
            grid = _multiplier_grid(omega)
            rounded = RoundHalfUp.apply(omega.to(units.dtype) * grid) / grid
            units = (rounded @ units.reshape(len(units), -1)).view(units.shape)
        units = RoundHalfUp.apply(units)
        steps = RoundHalfUp.apply(leak.to(units.dtype) * 2**LEAK_BITS)
        membrane = torch.full_like(units[0], round(staircase.initial_membrane * scale))
        outputs = []
        for step_current in units.unbind(0):
            charged = RoundHalfUp.apply(steps * membrane / 2**LEAK_BITS) + step_current
            output = SurrogateStaircase.apply(charged, theta_units, staircase.levels)
            membrane = charged - output
            if staircase.detach:
                membrane = membrane.detach()
            outputs.append(output / scale)
        return torch.stack(outputs).to(current.dtype)


def _multiplier_grid(omega: torch.Tensor) -> float:
    """The largest power of two with which every entry of Ω, times it, fits into a multiplier."""
    largest = omega.detach().abs().max().item()
    if largest == 0:
        return 1.0
    grid = 2.0 ** math.floor(math.log2((2**MULTIPLIER_BITS - 0.5) / largest))
    return grid if math.floor(largest * grid + 0.5) < 2**MULTIPLIER_BITS else grid / 2
