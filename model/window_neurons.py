"""LM-HT neurons for networks that merge time into the batch: convolutions and norms then see plain 4-D tensors."""

from __future__ import annotations

from typing import Any

import torch

from .memory_order import in_memory_order
from .neurons import LMHT

__all__ = ["WindowLMHT"]


class WindowLMHT(LMHT):
    """LM-HT neurons whose window of T steps is merged into the batch; step ``t`` of image ``b`` is row ``t B + b``.

    Everything around the neurons stays as in an ordinary network: ``nn.Conv2d``, ``nn.BatchNorm2d``, pooling and
    ``nn.Linear`` take the merged rows for a larger batch, which gives one set of weights and of batch statistics
    to all steps. Before the first neurons there is no time yet: the rows are the B images, computed once.

    Constructor, equations and gradient are those of :class:`LMHT`.

    Attributes
    ----------
    batch : int or None
        Number B of images, from which the rows of a current are told apart; :class:`SpikingNetwork` sets it at
        every call.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.batch: int | None = None

    def forward(self, current: torch.Tensor) -> torch.Tensor:
        """Run the window.

        Parameters
        ----------
        current : torch.Tensor, shape (T B, ...) or (B, ...)
            Input current ``I``, in the units of ``theta``; with B rows that of an analog image, the same at all
            steps.

        Returns
        -------
        torch.Tensor, shape (T B, ...)
            ``θ k``, in the memory format of ``current``.

        Raises
        ------
        ValueError
            If ``batch`` is not set, or ``current`` has another number of rows.
        """
        return self._over_steps(super().forward, current)

    def forward_plain(self, current: torch.Tensor) -> torch.Tensor:
        """What :meth:`forward` does, step by step: the reference that it is tested with."""
        return self._over_steps(super().forward_plain, current)

    def _over_steps(self, run: Any, current: torch.Tensor) -> torch.Tensor:
        batch = self._check_rows(current)

        def over_window(rows: torch.Tensor) -> torch.Tensor:
            if rows.shape[0] == batch:
                window = rows.expand(self.steps, *rows.shape)
            else:
                window = rows.unflatten(0, (self.steps, batch))
            output: torch.Tensor = run(window).flatten(0, 1)
            return output

        if self.rounded is None:
            return in_memory_order(over_window, current)
        # The roundings of channels are for channels in their own place.
        format_ = torch.channels_last if current.dim() == 4 else torch.contiguous_format
        return over_window(current).contiguous(memory_format=format_)

    def _check_rows(self, current: torch.Tensor) -> int:
        if self.batch is None:
            raise ValueError(
                "batch must be set before currents come; a SpikingNetwork around the module does that"
            )
        rows = current.shape[0] if current.dim() else 0
        if rows not in (self.batch, self.steps * self.batch):
            raise ValueError(
                f"current must have {self.batch} rows, or {self.steps * self.batch} after other neurons "
                f"(T = {self.steps}), not shape {tuple(current.shape)}"
            )
        return self.batch
