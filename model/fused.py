"""Window of LM-HT neurons, forward and backward, as one step of autograd instead of several per time step."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from . import native
from .window import Staircase, WindowBlock, compute_type

__all__ = ["Staircase", "fused_window"]


def fused_window(
    current: torch.Tensor, omega: torch.Tensor | None, leak: torch.Tensor, staircase: Staircase
) -> torch.Tensor:
    """Output ``θ k`` of a window of LM-HT neurons, with the gradient of Eqs. 13-16.

    Forward, for every neuron and step (Eq. 12)::

        J[t] = sum_u Ω[t, u] I[u]
        m[t] = λ v[t-1] + J[t]
        k[t] = clamp(floor(m[t] / θ), 0, L)
        v[t] = m[t] - θ k[t]

    Backward, with ``g[t]`` the gradient of the output ``θ k[t]`` and every ``v`` detached::

        dJ[t]    = g[t] where θ/2 <= m[t] <= (L + 1/2) θ, else 0
        dI[u]    = sum_t Ω[t, u] dJ[t]
        dΩ[t, u] = sum over neurons of dJ[t] I[u]
        dλ       = sum over neurons and t of dJ[t] v[t-1]

    float64 is computed in float64, everything else in float32, also under autocast; the output is rounded to the
    current's type. For the backward pass only the current is kept if Ω or λ learns (a learning λ has the membranes
    computed again), and one bit for every neuron and step if λ does not.

    Parameters
    ----------
    current : torch.Tensor, shape (T, ...)
        Input current ``I``, floating point, in the units of θ; it need not be contiguous.
    omega : torch.Tensor, shape (T, T), or None
        Mixing Ω; None for the identity.
    leak : torch.Tensor, scalar
        Membrane leak λ.
    staircase : Staircase
        Threshold, levels and initial membrane.

    Returns
    -------
    torch.Tensor, shape and type of ``current``
        ``θ k``, contiguous. Its gradient cannot be differentiated again: that raises a ``RuntimeError``.
    """
    if torch.is_grad_enabled():
        output: torch.Tensor = _FusedWindow.apply(current, omega, leak, staircase)
        return output
    return _forward(current, omega, leak, staircase, pack=False)[0]


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
        learns = learns_current or learns_omega or learns_leak
        output, bits = _forward(current, omega, leak, staircase, pack=learns and not learns_leak)
        kept = current if learns_omega or learns_leak else None
        ctx.save_for_backward(kept, omega, leak, bits)
        ctx.staircase, ctx.shape, ctx.dtype = staircase, current.shape, current.dtype
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        current, omega, leak, bits = ctx.saved_tensors
        learns_current, learns_omega, learns_leak, _ = ctx.needs_input_grad
        upstream = gradients[0].reshape(ctx.shape[0], -1)
        currents = None if current is None else current.reshape(upstream.shape)
        found = (
            torch.empty(upstream.shape, dtype=ctx.dtype, device=upstream.device) if learns_current else None
        )
        work = WindowBlock(upstream, omega, leak, ctx.staircase, compute_type(ctx.dtype))
        run = _backward_tensors
        if _suits_native(upstream, ctx.dtype):
            run = _backward_native if ctx.dtype == torch.float32 else _backward_bfloat16
        sum_omega, sum_leak = run(work, upstream, currents, bits, found, learns_omega, learns_leak)
        return (
            None if found is None else found.view(ctx.shape),
            sum_omega.to(omega.dtype) if learns_omega else None,
            sum_leak.to(leak.dtype) if learns_leak else None,
            None,
        )


def _suits_native(window: torch.Tensor, dtype: torch.dtype) -> bool:
    known = dtype in (torch.float32, torch.bfloat16)
    fits = window.is_cpu and window.dtype == dtype and known and len(window) <= native.MAX_STEPS
    return fits and native.library() is not None


def _forward(
    current: torch.Tensor, omega: torch.Tensor | None, leak: torch.Tensor, staircase: Staircase, *, pack: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Output, and if wanted the windows: step ``t`` of a neuron is bit ``t % 8`` of its byte in row ``t // 8``."""
    currents = current.reshape(current.shape[0], -1)
    steps, neurons = currents.shape
    work = WindowBlock(currents, omega, leak, staircase, compute_type(current.dtype))
    output = torch.empty((steps, neurons), dtype=current.dtype, device=current.device)
    bits = (
        torch.zeros(((steps + 7) // 8, neurons), dtype=torch.uint8, device=current.device) if pack else None
    )
    if not _suits_native(currents, current.dtype):
        for block in work.blocks():
            work.run(currents[:, block], output[:, block], None if bits is None else bits[:, block])
    elif current.dtype == torch.float32:
        mixed = work.mix_all(currents, output)
        _over_neurons(work, native.library().forward, mixed, output, bits)
    else:
        whole, mixing = currents.contiguous(), work.contiguous_omega()
        _over_neurons(work, native.library().forward_bfloat16, whole, mixing, output, bits)
    return output.view(current.shape), bits


def _over_neurons(work: WindowBlock, function: Any, *tensors: torch.Tensor | None) -> None:
    """Let a pass in C run over all neurons."""
    window, addresses = work.native_window(), [native.pointer(tensor) for tensor in tensors]
    native.over_neurons(work.neurons, lambda _, start, stop: function(window, start, stop, *addresses))


def _over_shares(
    work: WindowBlock, function: Any, learns_omega: bool, *tensors: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same of a backward pass: the sums for Ω and λ in float64, of the shares and then of all."""
    shares = native.share_count(work.neurons)
    sum_omega = torch.zeros((shares, work.steps, work.steps), dtype=torch.float64)
    sum_leak = torch.zeros(shares, dtype=torch.float64)
    window, addresses = work.native_window(), [native.pointer(tensor) for tensor in tensors]

    def run(share: int, start: int, stop: int) -> None:
        sums = (sum_omega[share].data_ptr() if learns_omega else None, sum_leak[share].data_ptr())
        function(window, start, stop, *addresses, *sums)

    native.over_neurons(work.neurons, run)
    return sum_omega.sum(dim=0), sum_leak.sum()


def _backward_native(
    work: WindowBlock,
    upstream: torch.Tensor,
    currents: torch.Tensor | None,
    bits: torch.Tensor | None,
    found: torch.Tensor | None,
    learns_omega: bool,
    learns_leak: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """``dI`` into ``found`` by the pass in C, and the sums for Ω and λ."""
    upstream = upstream.contiguous()
    mixed = None
    if learns_leak:
        assert currents is not None
        mixed = work.mix_all(currents, torch.empty_like(upstream) if found is None else found)
    currents = currents.contiguous() if learns_omega and currents is not None else None
    tensors = (mixed, bits, upstream, currents, work.contiguous_omega(), found)
    return _over_shares(work, native.library().backward, learns_omega, *tensors)


def _backward_bfloat16(
    work: WindowBlock,
    upstream: torch.Tensor,
    currents: torch.Tensor | None,
    bits: torch.Tensor | None,
    found: torch.Tensor | None,
    learns_omega: bool,
    learns_leak: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same of bfloat16; the pass in C mixes the currents itself."""
    assert learns_leak == (bits is None), "without its marks a membrane is computed again"
    whole = None if currents is None else currents.contiguous()
    tensors = (bits, upstream.contiguous(), whole, work.contiguous_omega(), found)
    return _over_shares(work, native.library().backward_bfloat16, learns_omega, *tensors)


def _backward_tensors(
    work: WindowBlock,
    upstream: torch.Tensor,
    currents: torch.Tensor | None,
    bits: torch.Tensor | None,
    found: torch.Tensor | None,
    learns_omega: bool,
    learns_leak: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """``dI`` into ``found`` by tensor operations; the sums for Ω and λ in float64, of the blocks and then of all."""
    sum_omega = torch.zeros((work.steps, work.steps), dtype=torch.float64, device=work.device)
    sum_leak = torch.zeros((), dtype=torch.float64, device=work.device)
    for block in work.blocks():
        if learns_leak:
            assert currents is not None
            gradient = work.recompute(currents[:, block], upstream[:, block])
            sum_leak += torch.dot(gradient.view(-1), work.membrane.view(-1), out=gradient.new_empty(()))
        else:
            assert bits is not None
            gradient = work.unpack(bits[:, block], upstream[:, block])
        if learns_omega:
            assert currents is not None
            part = torch.empty_like(sum_omega, dtype=work.dtype)
            sum_omega += torch.mm(gradient, currents[:, block].to(work.dtype).t(), out=part)
        if found is not None:
            work.mix_back(gradient, found[:, block])
    return sum_omega, sum_leak
