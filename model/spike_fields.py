"""How an image enters a network and how its class is read out: what the configurations of all networks say."""

from __future__ import annotations

from typing import Any, Literal, get_args

__all__ = ["ANALOG_CODINGS", "Coding", "Readout", "check_frames", "check_spike_fields", "has_output_neurons"]

Coding = Literal["direct", "constant", "bernoulli", "frames", "mean-frames"]
"""The image as currents; as the spikes of IF neurons that it drives; as spikes drawn at every step; a frame a step; the
mean of all frames as currents."""

ANALOG_CODINGS = ("direct", "mean-frames")
"""Codings whose pixels are currents, the same at every step."""

Readout = Literal["mean", "last-step", "spike-count", "first-to-spike"]
"""Mean over the steps of the last layer's currents, or those of the last step; spikes of output neurons."""


def has_output_neurons(readout: Readout) -> bool:
    """Whether the last layer has batch norm and neurons as the others do, whose spikes are read."""
    return readout in ("spike-count", "first-to-spike")


def check_spike_fields(config: Any) -> None:
    """Check what ``coding`` and ``readout`` of a network's configuration go with.

    Raises
    ------
    ValueError
        If output neurons have more than one level or thresholds that conversion has set, or a QCFS network, which has
        no steps, is to code or count spikes.
    """
    if config.activation == "qcfs":
        for field, values in (("coding", ANALOG_CODINGS), ("readout", ("mean",))):
            if getattr(config, field) not in values:
                raise ValueError(
                    f"{field} must be {' or '.join(values)} with activation qcfs, not {getattr(config, field)}"
                )
    if not has_output_neurons(config.readout):
        return
    if config.levels != 1:
        raise ValueError(f"levels must be 1 with readout {config.readout}, not {config.levels}")
    for field in ("thetas", "initial_membranes"):
        if getattr(config, field, None) is not None:
            raise ValueError(f"{field} must be None with readout {config.readout}")


def check_frames(config: Any, dataset: Any) -> None:
    """Check that a network takes the examples of a data set: images, or frames as many as it has steps or their mean.

    Raises
    ------
    ValueError
        If it does not.
    """
    of_events = ("frames", "mean-frames")
    if not dataset.has_events:
        if config.coding in of_events:
            *others, last = (each for each in get_args(Coding) if each not in of_events)
            raise ValueError(
                f"coding must be {', '.join(others)} or {last} for the images of data set {dataset.name}, "
                f"not {config.coding}"
            )
        return
    expected = "mean-frames" if dataset.frames is None else "frames"
    if config.coding not in of_events:
        raise ValueError(
            f"coding must be frames or mean-frames for data set {dataset.name}, not {config.coding}"
        )
    if config.coding != expected:
        raise ValueError(
            f"coding must be {expected} for data set {dataset.name} as it was loaded, not {config.coding}"
        )
    if dataset.frames is not None and config.steps != dataset.frames:
        raise ValueError(
            f"steps must be {dataset.frames}, the frames of data set {dataset.name}, not {config.steps}"
        )
