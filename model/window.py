"""One window of neurons as tensor operations, a block of neurons at a time: what they compute, and its gradient."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from . import native

__all__ = ["Staircase", "WindowBlock", "compute_type"]

# On a CPU this many neurons are worked on at a time, so that what one step needs of them stays in the caches and yet
# is worth sharing out among cores. Blocks are nearly equal in size, none small: the matrix product of a few columns
# rounds in another order than that of many.
BLOCK_NEURONS = 65536


@dataclass(frozen=True)
class Staircase:
    """The neurons' output ``θ k`` as a function of their membrane, and how gradients pass through both.

    Attributes
    ----------
    theta : float
        Firing threshold θ.
    levels : int
        Threshold levels L.
    initial_membrane : float
        Membrane ``v[-1]`` before the first step, absolute as ``theta`` is, not a multiple of it.
    detach : bool
        Whether no gradient passes through ``v[t-1]``.
    """

    theta: float
    levels: int
    initial_membrane: float = 0.0
    detach: bool = True

    def fire(self, membrane: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """``θ clamp(floor(m / θ), 0, L)`` into ``out``, rounded after every operation."""
        return torch.div(membrane, self.theta, out=out).floor_().clamp_(0, self.levels).mul_(self.theta)

    def window(self, dtype: torch.dtype) -> tuple[float, float]:
        """First and last ``m`` of that type through which the surrogate gradient passes, θ/2 and (L + 1/2) θ."""
        low, high = torch.tensor([self.theta / 2, (self.levels + 0.5) * self.theta], dtype=dtype).tolist()
        return low, high


def compute_type(dtype: torch.dtype) -> torch.dtype:
    """Type that a window of ``dtype`` is computed in: float32, or float64 for itself."""
    return torch.promote_types(dtype, torch.float32)


class WindowBlock:
    """Buffers for one block of neurons, of shape (T, block) or (block), and what is computed in them.

    Sums, products and roundings are those of the plain loop, in its order. Only operations with ``out`` are used:
    autocast leaves these alone.
    """

    def __init__(
        self,
        window: torch.Tensor,
        omega: torch.Tensor | None,
        leak: torch.Tensor,
        staircase: Staircase,
        dtype: torch.dtype,
    ) -> None:
        self.steps, self.neurons = window.shape
        self.staircase = staircase
        self.omega = None if omega is None else omega.detach().to(dtype)
        self.leak = leak.detach().to(dtype)
        self.dtype, self.device = dtype, window.device
        pieces = math.ceil(self.neurons / BLOCK_NEURONS) if window.is_cpu else 1
        self.width = math.ceil(self.neurons / max(1, pieces))

    def _make(self, *rows: int) -> torch.Tensor:
        return torch.empty((*rows, self.width), dtype=self.dtype, device=self.device)

    def blocks(self) -> Iterator[slice]:
        """Blocks that together are all neurons; the buffers shrink for the last one."""
        width = self.width
        for start in range(0, self.neurons, width or 1):
            count = min(width, self.neurons - start)
            if start == 0 or count < width:
                self.width = count
                self.mixed, self.membrane = self._make(self.steps), self._make(self.steps)
                self.charged, self.fired = self._make(), self._make()
                # 0 and 1 as bytes: PyTorch multiplies with these faster than with Booleans, and much faster than it
                # chooses between two tensors.
                self.inside = self.mixed.new_empty(self.mixed.shape, dtype=torch.uint8)
            yield slice(start, start + count)

    def native_window(self, **layout: int) -> native.Window:
        """Constants for the passes in C++, with ``current_apart`` and ``upstream_apart`` where a pass takes them."""
        rule = self.staircase
        low, high = rule.window(self.dtype)
        self.native_omega = None if self.omega is None else self.omega.contiguous()
        return native.Window(
            leak=self.leak.item(),
            theta=rule.theta,
            levels=rule.levels,
            initial=rule.initial_membrane,
            low=low,
            high=high,
            threads=torch.get_num_threads(),
            detaches=rule.detach,
            neurons=self.neurons,
            omega=native.pointer(self.native_omega),
            **layout,
        )

    def mix(self, currents: torch.Tensor) -> torch.Tensor:
        """``J = Ω I``."""
        currents = currents.to(self.dtype)
        return currents if self.omega is None else torch.mm(self.omega, currents, out=self.mixed)

    def charge(self, mixed: torch.Tensor, before: torch.Tensor | None, out: torch.Tensor) -> torch.Tensor:
        """``m[t] = λ v[t-1] + J[t]`` into ``out``; ``before`` is None at the first step."""
        if before is None:
            return torch.add(mixed, self.leak * self.staircase.initial_membrane, out=out)
        return torch.mul(before, self.leak, out=out).add_(mixed)

    def run(self, currents: torch.Tensor, output: torch.Tensor, bits: torch.Tensor | None) -> None:
        """Fire all steps into ``output``, and mark the windows in ``bits``."""
        mixed = self.mix(currents)
        direct = output.dtype == self.dtype
        membrane, before = self.charged, None
        for t in range(self.steps):
            self.charge(mixed[t], before, membrane)
            if bits is not None:
                self._mark(membrane, bits[t // 8], t % 8)
            fired = self.staircase.fire(membrane, output[t] if direct else self.fired)
            if not direct:
                output[t].copy_(fired)
            before = membrane.sub_(fired)

    def _mark(self, membrane: torch.Tensor, bits: torch.Tensor, place: int) -> None:
        """Set the bit where the membrane is inside the window: where clamping to the window changes nothing."""
        low, high = self.staircase.window(self.dtype)
        inside = torch.eq(torch.clamp(membrane, low, high, out=self.fired), membrane)
        bits.bitwise_or_(inside.view(torch.uint8).mul_(1 << place))

    def unpack(self, bits: torch.Tensor, upstream: torch.Tensor) -> torch.Tensor:
        """``dJ`` from the marks of the forward pass."""
        for t in range(self.steps):
            torch.bitwise_and(bits[t // 8], 1 << (t % 8), out=self.inside[t]).ne_(0)
        return self.pass_back(upstream)

    def pass_back(self, upstream: torch.Tensor) -> torch.Tensor:
        """``dJ`` from ``inside``, last step first: the upstream gradient there; else λ dJ[t+1], 0 if v is detached."""
        for t in reversed(range(self.steps)):
            passed = torch.mul(upstream[t], self.inside[t], out=self.mixed[t])
            if not self.staircase.detach and t + 1 < self.steps:
                carried = torch.mul(self.mixed[t + 1], self.leak, out=self.charged)
                passed.add_(carried.mul_(self.inside[t].bitwise_xor(1)))
        return self.mixed

    def recompute(self, currents: torch.Tensor, upstream: torch.Tensor) -> torch.Tensor:
        """``dJ``, from the membranes computed again; leaves ``v[t-1]`` of all steps in ``membrane``."""
        mixed = self.mix(currents)
        low, high = self.staircase.window(self.dtype)
        self.membrane[0].fill_(self.staircase.initial_membrane)
        for t in range(self.steps):
            charged = self.charge(mixed[t], self.membrane[t] if t else None, self.charged)
            torch.eq(torch.clamp(charged, low, high, out=self.fired), charged, out=self.inside[t])
            if t + 1 < self.steps:
                torch.sub(charged, self.staircase.fire(charged, self.fired), out=self.membrane[t + 1])
        return self.pass_back(upstream)

    def mix_back(self, gradient: torch.Tensor, out: torch.Tensor) -> None:
        """``dI = Ω^T dJ`` into ``out``."""
        if self.omega is None:
            out.copy_(gradient)
        elif out.dtype == self.dtype:
            torch.mm(self.omega.t(), gradient, out=out)
        else:
            out.copy_(torch.mm(self.omega.t(), gradient, out=self.membrane))
