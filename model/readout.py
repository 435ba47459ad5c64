"""Read-outs: from the output of the last layer at every step to one value per class."""

from __future__ import annotations

import torch

from .spike_fields import Readout

__all__ = ["read_out"]


def read_out(output: torch.Tensor, readout: Readout) -> torch.Tensor:
    """Values of the classes, of which the largest decides.

    * ``mean``: mean over the steps of the currents. ``spike-count``: the same of the output neurons' ``θ s[t]``, that
      is, ``θ / T`` for each spike.
    * ``last-step``: the currents of the last step.
    * ``first-to-spike``: ``θ (T - t) / T`` for an output neuron whose first spike comes at step ``t``, 0 if none does.
      The gradient flows to all steps up to the first spike, weighted as they are.

    Parameters
    ----------
    output : torch.Tensor, shape (T, batch, classes)
        Currents, or ``θ s`` of output neurons of one level.
    readout : Readout
        Which of them.

    Returns
    -------
    torch.Tensor, shape (batch, classes)
        In the units of ``output``.
    """
    if readout == "last-step":
        return output[-1]
    if readout == "first-to-spike":
        steps = len(output)
        spikes = (output.detach() > 0).to(output.dtype)
        silent = (spikes.cumsum(dim=0) - spikes) == 0
        weights = torch.arange(steps, 0, -1, dtype=output.dtype, device=output.device) / steps
        return (output * silent * weights.view(-1, *[1] * (output.dim() - 1))).sum(dim=0)
    return output.mean(dim=0)
