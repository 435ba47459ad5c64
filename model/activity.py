"""Activity of a network in training: the mean spike level of its neurons, through which gradients flow."""

from __future__ import annotations

from types import TracebackType

import torch
from torch import nn

from .neurons import LMHT

__all__ = ["ActivityMeter"]


class ActivityMeter:
    """Keeps what the LM-HT neurons of a network fired in its last pass; a context manager.

    Inside the ``with`` block every neuron has a hook, outside it none; :meth:`mean_level` is for after it.

    Parameters
    ----------
    network : torch.nn.Module
        Network or part of one.

    Raises
    ------
    ValueError
        If it has no LM-HT neurons.
    """

    def __init__(self, network: nn.Module) -> None:
        self._neurons = [part for part in network.modules() if isinstance(part, LMHT)]
        if not self._neurons:
            raise ValueError("activity_penalty must be 0 for a network without LM-HT neurons")
        self._outputs: list[tuple[torch.Tensor, float]] = []
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> ActivityMeter:
        self._hooks = [neuron.register_forward_hook(self._keep) for neuron in self._neurons]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self._hooks:
            hook.remove()

    def _keep(self, neuron: LMHT, _: object, output: torch.Tensor) -> None:
        self._outputs.append((output, neuron.theta))

    def mean_level(self) -> torch.Tensor:
        """Mean level ``k``, from 0 to L, over all neurons, steps and images of the passes in the block; a scalar.

        Every neuron counts the same, whichever layer it is in. The gradient with respect to an output ``θ k`` is
        ``1 / (θ n)`` with ``n`` outputs in all, and goes on through the neurons' surrogate.

        Raises
        ------
        RuntimeError
            If no neuron ran in the block.
        """
        if not self._outputs:
            raise RuntimeError("the network must run inside the block before its mean level is asked for")
        # Sums in float32, whatever type the outputs have.
        sums = [output.sum(dtype=torch.float32) / theta for output, theta in self._outputs]
        return torch.stack(sums).sum() / sum(output.numel() for output, _ in self._outputs)
