"""Window of LM-HT neurons, forward and backward, as one step of autograd instead of several per time step."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from . import native
from .window import Staircase, WindowBlock, compute_type

__all__ = ["Staircase", "backward_window", "forward_window", "fused_window", "in_rows"]


def fused_window(
    current: torch.Tensor, omega: torch.Tensor | None, leak: torch.Tensor, staircase: Staircase
) -> torch.Tensor:
    """Output ``θ k`` of a window of LM-HT neurons, with the gradient of Eqs. 13-16 or, not detached, of Eq. 5.

    Forward, for every neuron and step (Eq. 12)::

        J[t] = sum_u Ω[t, u] I[u]
        m[t] = λ v[t-1] + J[t]
        k[t] = clamp(floor(m[t] / θ), 0, L)
        v[t] = m[t] - θ k[t]

    Backward, with ``g[t]`` the gradient of the output ``θ k[t]``, ``dJ[T] = 0``, and 0 for λ in the first line if the
    staircase detaches ``v``::

        dJ[t]    = g[t] where θ/2 <= m[t] <= (L + 1/2) θ, else λ dJ[t+1]
        dI[u]    = sum_t Ω[t, u] dJ[t]
        dΩ[t, u] = sum over neurons of dJ[t] I[u]
        dλ       = sum over neurons and t of dJ[t] v[t-1]

    float64 is computed in float64, everything else in float32, also under autocast; the output is rounded to the
    current's type. For the backward pass only the current is kept if Ω or λ learns, from which the membranes are
    computed again, and otherwise one bit for every neuron and step.

    Parameters
    ----------
    current : torch.Tensor, shape (T, ...)
        Input current ``I``, floating point, in the units of θ; it need not be contiguous.
    omega : torch.Tensor, shape (T, T), or None
        Mixing Ω; None for the identity.
    leak : torch.Tensor, scalar
        Membrane leak λ.
    staircase : Staircase
        Threshold, levels, initial membrane, and whether ``v`` is detached.

    Returns
    -------
    torch.Tensor, shape and type of ``current``
        ``θ k``, contiguous. Its gradient cannot be differentiated again: that raises a ``RuntimeError``.
    """
    if torch.is_grad_enabled():
        output: torch.Tensor = _FusedWindow.apply(current, omega, leak, staircase)
        return output
    return forward_window(current, omega, leak, staircase)[0]


class _FusedWindow(torch.autograd.Function):
    """Autograd's view of the window."""

    @staticmethod
    def forward(
        ctx: Any,
        current: torch.Tensor,
        omega: torch.Tensor | None,
        leak: torch.Tensor,
        staircase: Staircase,
    ) -> torch.Tensor:
        learns_current, learns_omega, learns_leak, _ = ctx.needs_input_grad
        recomputes = learns_omega or learns_leak
        packs = learns_current and not recomputes
        output, bits = forward_window(current, omega, leak, staircase, pack=packs)
        ctx.save_for_backward(current if recomputes else None, omega, leak, bits)
        ctx.staircase, ctx.shape, ctx.dtype = staircase, current.shape, current.dtype
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        current, omega, leak, bits = ctx.saved_tensors
        learns_current, learns_omega, learns_leak, _ = ctx.needs_input_grad
        currents = None if current is None else in_rows(current)
        found, sum_omega, sum_leak = backward_window(
            in_rows(gradients[0]), currents, bits, omega, leak, ctx.staircase, ctx.dtype
        )
        return (
            found.view(ctx.shape) if learns_current else None,
            sum_omega.to(omega.dtype) if learns_omega else None,
            sum_leak.to(leak.dtype) if learns_leak else None,
            None,
        )


def in_rows(window: torch.Tensor) -> torch.Tensor:
    """Neurons of each step in one row, of shape (T, N); copied only where those of a step lie apart."""
    if window[:1].is_contiguous():
        return window.as_strided((len(window), window[0].numel()), (window.stride(0), 1))
    rows = window.reshape(len(window), -1)
    return rows if rows.stride(1) == 1 else rows.contiguous()


def _suits_native(window: torch.Tensor, dtype: torch.dtype) -> bool:
    fits = window.is_cpu and window.dtype == dtype
    return fits and native.library(len(window), dtype) is not None


def forward_window(
    current: torch.Tensor,
    omega: torch.Tensor | None,
    leak: torch.Tensor,
    staircase: Staircase,
    *,
    pack: bool = False,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Output, and if wanted the windows: step ``t`` of a neuron is bit ``t % 8`` of its byte in row ``t // 8``."""
    currents = in_rows(current)
    steps, neurons = currents.shape
    work = WindowBlock(currents, omega, leak, staircase, compute_type(current.dtype))
    output = torch.empty((steps, neurons), dtype=current.dtype, device=current.device)
    bits = (
        torch.zeros(((steps + 7) // 8, neurons), dtype=torch.uint8, device=current.device) if pack else None
    )
    if _suits_native(currents, current.dtype):
        window = work.native_window(current_apart=currents.stride(0))
        passes = native.library(steps, current.dtype)
        passes.forward(window, *map(native.pointer, (currents, output, bits)))
    else:
        for block in work.blocks():
            work.run(currents[:, block], output[:, block], None if bits is None else bits[:, block])
    return output.view(current.shape), bits


def backward_window(
    upstream: torch.Tensor,
    currents: torch.Tensor | None,
    bits: torch.Tensor | None,
    omega: torch.Tensor | None,
    leak: torch.Tensor,
    staircase: Staircase,
    dtype: torch.dtype,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """``dI`` of that type, of shape (T, N), and the sums for Ω and λ in float64.

    ``upstream`` and ``currents`` are rows. Without ``currents``, ``bits`` of the forward pass say where the gradient
    passes, and there are no sums (0). The sum for Ω holds where there is an Ω.
    """
    found = torch.empty(upstream.shape, dtype=dtype, device=upstream.device)
    work = WindowBlock(upstream, omega, leak, staircase, compute_type(dtype))
    run = _backward_native if _suits_native(upstream, dtype) else _backward_tensors
    return found, *run(work, upstream, currents, bits, found)


def _backward_native(
    work: WindowBlock,
    upstream: torch.Tensor,
    currents: torch.Tensor | None,
    bits: torch.Tensor | None,
    found: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """``dI`` into ``found`` by the passes in C++, and the sums for Ω and λ if the current was kept."""
    steps, passes = work.steps, native.library(work.steps, found.dtype)
    totals = torch.zeros((native.share_count(work.neurons), steps * steps + 1), dtype=torch.float64)
    if currents is None:
        window = work.native_window(upstream_apart=upstream.stride(0))
        passes.backward_marks(window, *map(native.pointer, (bits, upstream, found)))
    else:
        window = work.native_window(current_apart=currents.stride(0), upstream_apart=upstream.stride(0))
        passes.backward(window, *map(native.pointer, (currents, upstream, found, totals)))
    sums = totals.sum(dim=0)
    return sums[:-1].view(steps, steps), sums[-1]


def _backward_tensors(
    work: WindowBlock,
    upstream: torch.Tensor,
    currents: torch.Tensor | None,
    bits: torch.Tensor | None,
    found: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """``dI`` into ``found`` by tensor operations; the sums for Ω and λ in float64, of the blocks and then of all."""
    sum_omega = torch.zeros((work.steps, work.steps), dtype=torch.float64, device=work.device)
    sum_leak = torch.zeros((), dtype=torch.float64, device=work.device)
    for block in work.blocks():
        if currents is not None:
            gradient = work.recompute(currents[:, block], upstream[:, block])
            sum_leak += torch.dot(gradient.view(-1), work.membrane.view(-1), out=gradient.new_empty(()))
            part = torch.empty_like(sum_omega, dtype=work.dtype)
            sum_omega += torch.mm(gradient, currents[:, block].to(work.dtype).t(), out=part)
        else:
            assert bits is not None
            gradient = work.unpack(bits[:, block], upstream[:, block])
        work.mix_back(gradient, found[:, block])
    return sum_omega, sum_leak
