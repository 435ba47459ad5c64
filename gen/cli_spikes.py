"""Options of ``lmht train`` for how spikes enter a network, are integrated, and are read out."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from lmht.gen.cli_options import MixingName, parse_leak

__all__ = ["CodingName", "IntegrationName", "LossName", "ReadoutName", "parse_integration"]


class CodingName(StrEnum):
    """Codings of the image, as in :class:`lmht.model.NetworkConfig`."""

    direct = "direct"
    constant = "constant"
    bernoulli = "bernoulli"
    frames = "frames"
    mean_frames = "mean-frames"


class ReadoutName(StrEnum):
    """Read-outs of the classes, as in :class:`lmht.model.NetworkConfig`."""

    mean = "mean"
    last_step = "last-step"
    spike_count = "spike-count"
    first_to_spike = "first-to-spike"


class LossName(StrEnum):
    """Losses, as in :class:`lmht.model.TrainingConfig`."""

    cross_entropy = "cross-entropy"
    squared_hinge = "squared-hinge"


class IntegrationName(StrEnum):
    """Names for two pairs of mixing and leak."""

    continuous = "continuous"
    discontinuous = "discontinuous"


_LEAKS = {IntegrationName.continuous: 1.0, IntegrationName.discontinuous: 0.0}


def parse_integration(
    integration: IntegrationName | None, mixing: MixingName | None, leak: str | None
) -> dict[str, Any]:
    """Mixing and leak of a configuration: as given, or those that the integration stands for; else None.

    Raises
    ------
    ValueError
        If both are given, or the leak is no number.
    """
    if integration is None:
        return {"mixing": mixing and mixing.value, "leak": None if leak is None else parse_leak(leak)}
    for name, value in (("mixing", mixing and mixing.value), ("leak", leak)):
        if value not in (None, "learned"):
            raise ValueError(f"{name} must be left out with integration {integration.value}, not {value}")
    return {"mixing": "identity", "leak": _LEAKS[integration]}
