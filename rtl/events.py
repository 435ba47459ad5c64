"""The event stream: what travels between all parts, declared once.

Every link carries packed events: one neuron's levels of all time steps in one word (`docs/architecture.md`).
The same :class:`EventLayout` gives the Amaranth payload, the bit positions for cocotb and C++, and the ranges that
an :class:`~lmht.rtl.event_filter.EventFilter` checks.

A source sends the events of row 0, ``ROW_END``, the events of row 1, ``ROW_END``, … and after the events of the last
row one ``FRAME_END``, which closes every row that is still open: a frame of ``height`` rows has ``height - 1``
``ROW_END`` tokens. Events between two tokens come in any order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from amaranth.hdl import Shape, signed, unsigned
from amaranth.lib import data, stream
from amaranth.utils import bits_for

from lmht.rtl.checks import STEPS_LIMIT, check_range

if TYPE_CHECKING:
    from enum import Enum  # what Amaranth's is, but for the shape
else:
    from amaranth.lib.enum import Enum

__all__ = ["EventKind", "EventLayout"]


class EventKind(Enum, shape=2):
    """What a word on an event stream is."""

    EVENT = 0
    ROW_END = 1
    FRAME_END = 2


@dataclass(frozen=True, kw_only=True)
class EventLayout:
    """Shape of the feature map on a link and of the words that carry it.

    Parameters
    ----------
    height, width, channels : int
        Feature map, 1 … 65,536 each. Coordinates count from 0; a coordinate field of a size-1 dimension has 0 bits.
    steps : int
        Level fields in an event, 1 … 32. A link that carries an analog image or logits has one.
    level_bits : int
        Bits of one level field.
    max_level : int or None
        Largest legal level; ``None`` where every pattern of ``level_bits`` bits is legal (logits).
    signed : bool
        Levels are two's complement (logits only).

    Raises
    ------
    ValueError
        If a number lies outside its range.
    """

    height: int = 1
    width: int = 1
    channels: int
    steps: int = 1
    level_bits: int
    max_level: int | None = None
    signed: bool = False

    def __post_init__(self) -> None:
        for name in ("height", "width", "channels"):
            check_range(name, getattr(self, name), 1, 65536)
        check_range("steps", self.steps, 1, STEPS_LIMIT)
        check_range("level_bits", self.level_bits, 1, 64)
        if self.max_level is not None:
            check_range("max_level", self.max_level, 1, 2**self.level_bits - 1)

    @classmethod
    def for_levels(
        cls, *, height: int = 1, width: int = 1, channels: int, steps: int, max_level: int
    ) -> EventLayout:
        """Layout of a link that carries spikes (or pixels) of ``0 … max_level``."""
        return cls(
            height=height,
            width=width,
            channels=channels,
            steps=steps,
            level_bits=bits_for(max_level),
            max_level=max_level,
        )

    @property
    def positions(self) -> int:
        """Number of distinct ``(y, x, channel)``, the inputs of a Linear layer on this link."""
        return self.height * self.width * self.channels

    @property
    def level_shape(self) -> Shape:
        return signed(self.level_bits) if self.signed else unsigned(self.level_bits)

    @property
    def payload(self) -> data.StructLayout:
        """Payload of the stream.

        Members: ``kind`` (:class:`EventKind`), ``error`` (1 bit, meaningful with ``FRAME_END``: something of this frame
        was dropped on the way), ``y``, ``x``, ``channel`` (just wide enough for the largest coordinate) and ``levels``
        (``steps`` fields; index 0 is time step 0).
        """
        return data.StructLayout(
            {
                "kind": EventKind,
                "error": 1,
                "y": range(self.height),
                "x": range(self.width),
                "channel": range(self.channels),
                "levels": data.ArrayLayout(self.level_shape, self.steps),
            }
        )

    @property
    def signature(self) -> stream.Signature:
        """Stream signature with this payload, seen from its source."""
        return stream.Signature(self.payload)

    def fields(self) -> dict[str, tuple[int, int]]:
        """Bit positions as ``{name: (offset, width)}`` in the flat payload, for test benches and C++.

        Levels are named ``level0`` … ``level{steps-1}``.
        """
        layout = self.payload
        positions = {
            name: (layout[name].offset, layout[name].width) for name in ("kind", "error", "y", "x", "channel")
        }
        start = layout["levels"].offset
        for step in range(self.steps):
            positions[f"level{step}"] = (start + step * self.level_bits, self.level_bits)
        return positions

    @property
    def payload_bits(self) -> int:
        """Width of the flat payload in bits."""
        return self.payload.size
