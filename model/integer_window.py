"""Window of LM-HT neurons with the roundings of the hardware, to train with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from .surrogate import RoundHalfUp, StraightThrough, SurrogateStaircase
from .window import Staircase, compute_type

__all__ = ["LEAK_BITS", "RoundedMixing", "integer_window"]

LEAK_BITS = 8
"""``FL`` of NUMERICS.md: fraction bits of the leak."""


@dataclass(frozen=True, eq=False)
class RoundedMixing:
    """What the integers of a layer mix instead of Ω, and how far their other numbers in front of ``J`` are off.

    Attributes
    ----------
    factors : torch.Tensor, shape (T, T_in, N)
        For every channel Ω as its multipliers stand for it; ``T_in`` is T, or 1 for currents that are the same at
        every step.
    offset : torch.Tensor, shape (T, N)
        ``B[t, n]`` less what the factors make of the bias, in units of ``θ 2^-F``.
    excess : callable, or None
        Without arguments gives what the rounded gains of a residual branch add to the current too much, in units of
        ``θ 2^-F``, rows as the current's.
    """

    factors: torch.Tensor
    offset: torch.Tensor
    excess: Callable[[], torch.Tensor] | None = None

    def mix(self, units: torch.Tensor) -> torch.Tensor:
        """``sum_u factors[t, u] I[u] + offset[t]`` of currents in units of ``θ 2^-F``, shape (T, B, ...).

        The N channels are the third dimension, or that is made of them, channel after channel.
        """
        if self.excess is not None:
            units = units + self.excess().to(units).reshape(-1, *units.shape[1:])
        factors, offset = (part.to(units)[..., None] for part in (self.factors, self.offset))
        window = units.reshape(*units.shape[:2], offset.shape[1], -1)[: factors.shape[1]]
        mixed = [
            sum((row[step] * window[step] for step in range(1, len(window))), row[0] * window[0] + constant)
            for row, constant in zip(factors, offset, strict=True)
        ]
        return torch.stack(mixed).view(units.shape)


def integer_window(
    current: torch.Tensor,
    omega: torch.Tensor | None,
    leak: torch.Tensor,
    staircase: Staircase,
    fraction_bits: int,
    rounded: RoundedMixing | None = None,
) -> torch.Tensor:
    """Output ``θ k`` of a window whose mixing, leak and membrane are rounded as steps 2 to 5 of NUMERICS.md round them.

    Everything is in units of ``θ 2^-F``, in which membranes are whole numbers: ``J`` is rounded half up, the leak to
    ``round(λ 2^FL)``, its product with the membrane half up, ``v[-1]`` to the nearest. The gradient is that of
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
    rounded : RoundedMixing, optional
        Roundings of multipliers and bias, which depend on the weights in front of the neurons; None leaves these as
        they are.

    Returns
    -------
    torch.Tensor, shape and type of ``current``
        ``θ k``.
    """
    theta_units = float(2**fraction_bits)
    scale = theta_units / staircase.theta
    with torch.autocast(current.device.type, enabled=False):
        units = current.to(compute_type(current.dtype)) * scale
        mixed = units
        if omega is not None:
            mixed = (omega.to(units.dtype) @ units.reshape(len(units), -1)).view(units.shape)
        if rounded is not None:
            mixed = StraightThrough.apply(mixed, rounded.mix(units.detach()))
        mixed = RoundHalfUp.apply(mixed)
        exact = leak.to(units.dtype) * 2**LEAK_BITS
        steps = StraightThrough.apply(exact, exact.round())
        initial = round(staircase.initial_membrane / staircase.theta * theta_units)
        membrane = torch.full_like(mixed[0], initial)
        outputs = []
        for step_current in mixed.unbind(0):
            charged = RoundHalfUp.apply(steps * membrane / 2**LEAK_BITS) + step_current
            output = SurrogateStaircase.apply(charged, theta_units, staircase.levels)
            membrane = charged - output
            if staircase.detach:
                membrane = membrane.detach()
            outputs.append(output / scale)
        return torch.stack(outputs).to(current.dtype)
