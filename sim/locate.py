"""Where a fault happened: the words at every tap against what the golden model says travels there.

The taps are walked in the order of the data path. The first that differs names the component in front of it, since
everything it received has been found right before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmht.rtl.parameters import DesignParameters
from lmht.rtl.projection import IMAGE
from lmht.sim.golden import GoldenModel
from lmht.sim.golden_projection import pool_levels
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
    layer, y, x, channel, neuron, step, expected, found : int or None
        Where a value is wrong: layer whose output it is (-1 for a pixel), its place in the map (behind the pooling that
        the layer does itself) and in the flat order ``(y, x, channel)``, time step, and both values.
    """

    stage: str
    image: int
    what: str
    layer: int | None = None
    y: int | None = None
    x: int | None = None
    channel: int | None = None
    neuron: int | None = None
    step: int | None = None
    expected: int | None = None
    found: int | None = None


def locate(
    parameters: DesignParameters,
    model: GoldenModel,
    pixels: NDArray[np.uint8],
    image: int,
    run: SimulationRun,
) -> Fault | None:
    """Find the fault from the words that one image left at the taps.

    Parameters
    ----------
    parameters : DesignParameters
    model : GoldenModel
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
    values = _link_values(parameters, model, pixels)
    blocked: set[str] = set()
    for tap in design_taps(parameters):
        words = run.events[tap.name].of_image(image)
        stage = tap.stage if tap.sends else tap.peer[0]
        state = run.states.get(tap.name)
        if _blocked(state):
            blocked.add(stage)
        # Words behind one that waits cannot have come; whoever lets it wait shows up further on.
        excused = run.stalled and stage in blocked
        fault = _compare(tap, stage, image, values[tap.source], words, _own(parameters, tap), excused)
        if fault is not None:
            return fault
    return None


def _link_values(
    parameters: DesignParameters, model: GoldenModel, pixels: NDArray[np.uint8]
) -> dict[int, IntArray]:
    """Golden values on every link, by the source that sends them: shape (positions, steps)."""
    result = model.run(pixels[None], keep_levels=True)
    values = {IMAGE: np.ascontiguousarray(pixels.transpose(1, 2, 0)).reshape(-1, 1).astype(np.int64)}
    for tiles, flat in zip(parameters.layers, result.levels or [], strict=False):
        tile = tiles[0]
        levels = flat[:, 0].unflatten(1, (tile.height, tile.width, tile.layer_channels))
        pooled = pool_levels(levels, tile.pooling, tile.neuron.levels or 0)
        values[tile.layer] = pooled.flatten(1).numpy().astype(np.int64).T
    return values | {len(parameters.layers) - 1: result.logits.numpy().T}


def _own(parameters: DesignParameters, tap: Tap) -> NDArray[np.bool_]:
    """Positions that may travel at a tap: those of a tile's slice of channels, everything elsewhere."""
    own = np.ones((tap.layout.height * tap.layout.width, tap.layout.channels), dtype=bool)
    for tile in parameters.tiles:
        if tap.sends and tile.name == tap.stage:
            own[:, : tile.channel_offset] = False
            own[:, tile.channel_offset + tile.channels :] = False
    return own.reshape(-1)


def _blocked(state: TapState | None) -> bool:
    return state is not None and state.valid and not state.ready


def _compare(
    tap: Tap,
    stage: str,
    image: int,
    values: IntArray,
    words: TapWords,
    own: NDArray[np.bool_],
    excused: bool,
) -> Fault | None:
    """The first thing at one tap that is not as expected."""
    events = words.events
    positions, levels = words.position[events], words.levels[events]
    wanted = np.where(own[:, None], values, 0)
    # A classifier sends every logit.
    sends = own & (values.any(axis=1) | tap.layout.signed)

    def fault(what: str, position: int | None = None, step: int = 0, found: int = 0) -> Fault:
        if position is None:
            return Fault(stage=stage, image=image, what=what)
        y, x, channel = _coordinates(tap, position)
        return Fault(
            stage=stage,
            image=image,
            what=what,
            layer=tap.source,
            y=y,
            x=x,
            channel=channel,
            neuron=position,
            step=step,
            expected=int(wanted[position, step]),
            found=found,
        )

    counts = np.bincount(positions, minlength=len(values))
    if counts[len(values) :].any():
        return fault(f"sent an event outside the layer at {tap.name}")
    wrong = np.argwhere(levels != wanted[positions])
    if len(wrong):
        event, step = wrong[0].tolist()
        position, found = int(positions[event]), int(levels[event, step])
        kind = "logit" if tap.layout.signed else "level"
        what = f"{_name(tap, position)} has {kind} {found} instead of {wanted[position, step]} at step {step}"
        return fault(what, position, step, found)
    for position in np.flatnonzero(counts > 1).tolist():
        return fault(
            f"the event of {_name(tap, position)} came {counts[position]} times at {tap.name}", position
        )
    if excused:
        return None
    lost = np.flatnonzero(sends & (counts == 0)).tolist()
    if lost:
        step = int(np.flatnonzero(wanted[lost[0]])[0]) if wanted[lost[0]].any() else 0
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        return fault(f"the event of {_name(tap, lost[0])}{more} is missing at {tap.name}", lost[0], step)
    if words.row_ends != tap.layout.height - 1:
        return fault(f"{words.row_ends} row tokens instead of {tap.layout.height - 1} at {tap.name}")
    if words.frame_ends != 1:
        return fault(f"the frame token is missing at {tap.name}")
    stray = _misplaced(tap, words)
    if stray is not None:
        return fault(
            f"the event of {_name(tap, stray)} came between the wrong row tokens at {tap.name}", stray
        )
    if words.error[-1]:
        return fault(f"the frame is flagged as damaged at {tap.name}")
    return None


def _misplaced(tap: Tap, words: TapWords) -> int | None:
    """Position of the first event that does not lie in the row that the tokens before it say."""
    tokens = ~words.events
    row: IntArray = np.cumsum(tokens) - tokens
    y = words.position // (tap.layout.width * tap.layout.channels)
    wrong = np.flatnonzero(words.events & (y != row))
    return int(words.position[wrong[0]]) if len(wrong) else None


def _coordinates(tap: Tap, position: int) -> tuple[int, int, int]:
    """Row, column and channel."""
    pixel, channel = divmod(position, tap.layout.channels)
    return *divmod(pixel, tap.layout.width), channel


def _name(tap: Tap, position: int) -> str:
    y, x, channel = _coordinates(tap, position)
    place = f"y {y}, x {x}, channel {channel}"
    if tap.source == IMAGE:
        return f"pixel {place}"
    if tap.layout.height * tap.layout.width == 1:
        return f"layer {tap.source}, neuron {channel}"
    return f"layer {tap.source}, {place}"


def stall_text(states: Mapping[str, TapState]) -> str:
    """Which streams wait, for the message about a design that stands still."""
    waiting = [name for name, state in states.items() if _blocked(state)]
    return f"words wait at {', '.join(waiting)}" if waiting else "no word waits anywhere"
