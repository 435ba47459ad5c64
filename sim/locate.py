"""Where a fault happened: the words at every tap against what the golden model says travels there.

The taps are walked in the order of the data path. The first that differs names the component in front of it, since
everything it received has been found right before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmht.gen.integer import IntegerNetwork
from lmht.rtl.parameters import DesignParameters
from lmht.sim.golden import GoldenModel
from lmht.sim.simulation import SimulationRun, TapState
from lmht.sim.taps import Tap, TapWords, design_taps

__all__ = ["Fault", "locate", "stall_text"]

IntArray = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """The first place where a design departs from the golden model.

    Parameters
    ----------
    stage : str
        Component that is at fault.
    image : int
    what : str
        One sentence, in the field's words.
    layer, neuron, step, expected, found : int or None
        Where a value is wrong: layer whose output it is (-1 for a pixel), neuron (channel; for a pixel its index in the
        frame), time step, and both values.
    """

    stage: str
    image: int
    what: str
    layer: int | None = None
    neuron: int | None = None
    step: int | None = None
    expected: int | None = None
    found: int | None = None


def locate(
    parameters: DesignParameters,
    network: IntegerNetwork,
    pixels: NDArray[np.uint8],
    image: int,
    run: SimulationRun,
) -> Fault | None:
    """Find the fault from the words that one image left at the taps.

    Parameters
    ----------
    parameters : DesignParameters
    network : IntegerNetwork
    pixels : numpy.ndarray of uint8, shape (C, H, W)
        The image.
    image : int
        Its index in the run.
    run : SimulationRun
        A run that observed it.

    Returns
    -------
    Fault or None
        None if every word at every tap is right.
    """
    values = _link_values(parameters, network, pixels)
    blocked: set[str] = set()
    for tap in design_taps(parameters):
        words = run.events[tap.name].of_image(image)
        link = tap.layer if tap.layer is not None else _link_before(parameters, tap)
        stage = tap.stage if tap.port == "o" else tap.peer[0]
        state = run.states.get(tap.name)
        if _blocked(state):
            blocked.add(stage)
        # Words behind one that waits cannot have come; whoever lets it wait shows up further on.
        excused = run.stalled and stage in blocked
        fault = _compare(tap, stage, image, link, values[link], words, _own(parameters, tap), excused)
        if fault is not None:
            return fault
    return None


def _link_values(
    parameters: DesignParameters, network: IntegerNetwork, pixels: NDArray[np.uint8]
) -> dict[int, IntArray]:
    """Golden values on every link, by the layer that sends them: shape (positions, steps)."""
    frame = np.ascontiguousarray(pixels.transpose(1, 2, 0)).reshape(-1, 1).astype(np.int64)
    values = {-1: frame}
    result = GoldenModel(network).run(pixels[None], keep_levels=True)
    for layer, levels in enumerate(result.levels or []):
        values[layer] = levels[:, 0].numpy().astype(np.int64).T
    values[len(parameters.layers) - 1] = result.logits.numpy().T
    return values


def _link_before(parameters: DesignParameters, tap: Tap) -> int:
    """Layer that feeds an input tap."""
    for tile in parameters.tiles:
        if tile.name == tap.stage:
            return tile.layer - 1
    return len(parameters.layers) - 1


def _own(parameters: DesignParameters, tap: Tap) -> slice:
    """Positions that may travel at a tap: a tile's slice of channels, everything elsewhere."""
    for tile in parameters.tiles:
        if tile.name == tap.stage and tap.port == "o":
            return slice(tile.channel_offset, tile.channel_offset + tile.channels)
    return slice(0, tap.layout.positions)


def _blocked(state: TapState | None) -> bool:
    return state is not None and state.valid and not state.ready


def _compare(
    tap: Tap,
    stage: str,
    image: int,
    link: int,
    values: IntArray,
    words: TapWords,
    own: slice,
    excused: bool,
) -> Fault | None:
    """The first thing at one tap that is not as expected."""
    events = words.events
    positions, levels = words.position[events], words.levels[events]
    wanted = np.zeros_like(values)
    wanted[own] = values[own]
    sends = np.zeros(len(values), bool)
    sends[own] = values[own].any(axis=1) | tap.layout.signed  # a classifier sends every logit

    def fault(what: str, position: int | None = None, step: int = 0, found: int = 0) -> Fault:
        if position is None:
            return Fault(stage=stage, image=image, what=what)
        return Fault(
            stage=stage,
            image=image,
            what=what,
            layer=link,
            neuron=position,
            step=step,
            expected=int(wanted[position, step]),
            found=found,
        )

    def name(position: int) -> str:
        return _name(tap, link, position)

    counts = np.bincount(positions, minlength=len(values))
    outside = np.flatnonzero(counts[len(values) :])
    if len(outside):
        return fault(f"sent an event outside the layer at {tap.name}")
    for position, found in zip(positions.tolist(), levels, strict=True):
        wrong = np.flatnonzero(found != wanted[position])
        if len(wrong):
            step = int(wrong[0])
            kind = "logit" if tap.layout.signed else "level"
            what = f"{name(position)} has {kind} {found[step]} instead of {wanted[position, step]} at step {step}"
            return fault(what, position, step, int(found[step]))
    for position in np.flatnonzero(counts > 1).tolist():
        return fault(f"the event of {name(position)} came {counts[position]} times at {tap.name}", position)
    if excused:
        return None
    lost = np.flatnonzero(sends & (counts == 0)).tolist()
    if lost:
        step = int(np.flatnonzero(wanted[lost[0]])[0]) if wanted[lost[0]].any() else 0
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        return fault(f"the event of {name(lost[0])}{more} is missing at {tap.name}", lost[0], step)
    if words.row_ends != tap.layout.height - 1:
        return fault(f"{words.row_ends} row tokens instead of {tap.layout.height - 1} at {tap.name}")
    if words.frame_ends != 1:
        return fault(f"the frame token is missing at {tap.name}")
    if words.error[-1]:
        return fault(f"the frame is flagged as damaged at {tap.name}")
    return None


def _name(tap: Tap, link: int, position: int) -> str:
    if link >= 0:
        return f"layer {link}, neuron {position}"
    layout = tap.layout
    pixel, channel = divmod(position, layout.channels)
    y, x = divmod(pixel, layout.width)
    return f"pixel y {y}, x {x}, channel {channel}"


def stall_text(states: Mapping[str, TapState]) -> str:
    """Which streams wait, for the message about a design that stands still."""
    waiting = [name for name, state in states.items() if _blocked(state)]
    return f"words wait at {', '.join(waiting)}" if waiting else "no word waits anywhere"
