"""What both engines take and give: frames in, one record per image, registers and tapped words out.

The engines run as programs of their own and leave three files in a folder, in the formats declared here:
``results.bin`` (:func:`image_dtype`), ``events.bin`` (:func:`event_dtype`) and ``status.json``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lmht.gen.work import channel_spans, reached_outputs
from lmht.rtl.parameters import DesignParameters
from lmht.sim.taps import TapWords, decode_words, design_taps

__all__ = [
    "EVENTS_FILE",
    "MISSING_LOGIT",
    "RESULTS_FILE",
    "STATUS_FILE",
    "Progress",
    "SimulationError",
    "SimulationRun",
    "TapState",
    "check_pauses",
    "event_dtype",
    "frame_bytes",
    "image_dtype",
    "image_span",
    "read_run",
    "stall_cycles",
]

Progress = Callable[[int, int], None]
"""Called with the images done and the images in all."""

RESULTS_FILE, EVENTS_FILE, STATUS_FILE = "results.bin", "events.bin", "status.json"

MISSING_LOGIT = np.iinfo(np.int64).min
"""Stands where no logit came."""


class SimulationError(RuntimeError):
    """An engine refused its input or died. The message is one line."""


def image_dtype(classes: int) -> np.dtype:
    """What is written for every image.

    Fields: ``logits`` (``classes`` of int64; :data:`MISSING_LOGIT` where none came), ``first_beat`` and ``result``
    (cycles in which the first input beat and the class moved, from the start of the stream), ``words`` (logits
    received), ``winner`` (class), ``error`` (the frame's flag).
    """
    return np.dtype(
        [
            ("logits", "<i8", (classes,)),
            ("first_beat", "<u8"),
            ("result", "<u8"),
            ("words", "<u4"),
            ("winner", "<u4"),
            ("error", "<u1"),
            ("padding", "<u1", (7,)),
        ]
    )


def event_dtype(parameters: DesignParameters) -> np.dtype:
    """One word that moved on a tapped stream.

    Fields: ``cycle`` (of the clock), ``payload`` (flat, in words of 64 bits, the lowest first, as many as the widest
    stream of the design needs), ``image`` and ``tap`` (its index).
    """
    widest = max(tap.layout.payload_bits for tap in design_taps(parameters))
    words = -(-widest // 64)
    return np.dtype([("cycle", "<u8"), ("payload", "<u8", (words,)), ("image", "<u4"), ("tap", "<u4")])


def image_span(images: range) -> str:
    """Images as the programs' options take them, ``first:end``."""
    return f"{images.start}:{images.stop}"


@dataclass(frozen=True)
class TapState:
    """A stream of a design that stands still: its handshake and the frames that passed."""

    valid: bool
    ready: bool
    frames: int


@dataclass(frozen=True, eq=False, kw_only=True)
class SimulationRun:
    """What one run gave, for the images whose result came.

    Parameters
    ----------
    logits : numpy.ndarray of int64, shape (images, classes)
        :data:`MISSING_LOGIT` where no logit came.
    classes : numpy.ndarray of int64, shape (images,)
    errors : numpy.ndarray of bool, shape (images,)
        The flag that travels with a frame.
    words : numpy.ndarray of int64, shape (images,)
        Logit words received; the number of classes if all is well.
    first_beat, result : numpy.ndarray of int64, shape (images,)
        Clock cycles in which the first input beat and the class moved, counted from the start of the stream.
    expected_images : int
        Images that were streamed.
    surplus : int
        Result words that came after the last image's.
    stalled : bool
        Nothing moved for longer than any frame can take; the run was ended.
    registers : mapping
        Every readable register by name after the run: counters, errors.
    cycles : int
        Cycles of the stream, loading left out.
    simulation_seconds, wall_seconds : float
        Time inside the stream's loop, and of the whole program with loading and files; the build is in neither.
    processor_seconds : float
        Time of one processor inside the stream's loop, which says the same on a busy machine (not cocotb).
    states : mapping
        Handshakes at the taps of a design that stalled (not cocotb).
    fifo_words : mapping
        The most words that were in each FIFO, by :class:`~lmht.sim.taps.FifoProbe` name (not cocotb).
    events : mapping
        Words at every tap, by its name, if asked for.
    waveform : Path or None
    """

    logits: NDArray[np.int64]
    classes: NDArray[np.int64]
    errors: NDArray[np.bool_]
    words: NDArray[np.int64]
    first_beat: NDArray[np.int64]
    result: NDArray[np.int64]
    expected_images: int
    surplus: int
    stalled: bool
    registers: Mapping[str, int]
    cycles: int
    simulation_seconds: float
    wall_seconds: float
    processor_seconds: float = 0.0
    states: Mapping[str, TapState] = field(default_factory=dict)
    fifo_words: Mapping[str, int] = field(default_factory=dict)
    events: Mapping[str, TapWords] = field(default_factory=dict)
    waveform: Path | None = None

    @property
    def images(self) -> int:
        """Results that came."""
        return len(self.logits)

    @property
    def images_per_second(self) -> float:
        """Images per second of simulation, loading left out."""
        return self.images / self.simulation_seconds if self.simulation_seconds else 0.0


def read_run(
    folder: Path, parameters: DesignParameters, images: int, wall_seconds: float, waveform: Path | None = None
) -> SimulationRun:
    """The run whose files an engine left in `folder`."""
    records = np.fromfile(folder / RESULTS_FILE, image_dtype(parameters.classes))
    status = json.loads((folder / STATUS_FILE).read_text())
    events: dict[str, TapWords] = {}
    if (folder / EVENTS_FILE).exists():
        words = np.fromfile(folder / EVENTS_FILE, event_dtype(parameters))
        for index, tap in enumerate(design_taps(parameters)):
            own = words[words["tap"] == index]
            events[tap.name] = decode_words(tap.layout, own["payload"], own["cycle"], own["image"])
    return SimulationRun(
        logits=records["logits"].copy(),
        classes=records["winner"].astype(np.int64),
        errors=records["error"].astype(bool),
        words=records["words"].astype(np.int64),
        first_beat=records["first_beat"].astype(np.int64),
        result=records["result"].astype(np.int64),
        expected_images=images,
        surplus=status["surplus"],
        stalled=status["stalled"],
        registers=status["registers"],
        cycles=status["cycles"],
        simulation_seconds=status["seconds"],
        wall_seconds=wall_seconds,
        processor_seconds=status.get("processor_seconds", 0.0),
        states={
            name: TapState(bool(valid), bool(ready), frames)
            for name, (valid, ready, frames) in status["taps"].items()
        },
        fifo_words=status.get("fifos", {}),
        events=events,
        waveform=waveform,
    )


def check_pauses(idle: float, back_pressure: float) -> None:
    """Refuse probabilities of pauses outside 0 to below 1.

    Raises
    ------
    ValueError
        If one lies outside; the message names it.
    """
    for name, value in (("idle", idle), ("back_pressure", back_pressure)):
        if not 0 <= value < 1:
            raise ValueError(f"{name} must be at least 0 and below 1, not {value}")


def frame_bytes(images: NDArray[np.uint8], parameters: DesignParameters) -> NDArray[np.uint8]:
    """Images of shape (N, C, H, W) as the frames the design takes: shape (N, bytes), in the order (y, x, channel).

    Raises
    ------
    TypeError
        If the images are not of uint8.
    ValueError
        If there is none, or their shape is not that of the design.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8:
        raise TypeError(f"images must be of uint8, not {images.dtype}")
    frame = parameters.frame
    expected = (frame.channels, frame.height, frame.width)
    if images.ndim != 4 or images.shape[1:] != expected or not len(images):
        wanted = ", ".join(map(str, expected))
        raise ValueError(f"images must have shape (N, {wanted}) with N at least 1, not {images.shape}")
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1)).reshape(len(images), -1)


def stall_cycles(parameters: DesignParameters) -> int:
    """Cycles without any transfer that no sound design reaches: a frame without a single zero passes one stage after
    the other, none of which works while another one does."""
    total = parameters.frame.frame_bytes
    for tile in parameters.tiles:
        for number, projection in enumerate(tile.projections):
            rows, columns = (int(reached_outputs(projection, axis).sum()) for axis in (0, 1))
            total += rows * columns * int(channel_spans(tile, number).sum()) + projection.input.positions
        # The memory that is read for an update answers after some cycles.
        pixel = tile.update_cycles + 4 * tile.groups + 2 * tile.channels
        total += tile.height * (tile.width * pixel + 100)
    return total + 10_000
