"""Words of the streams as Python values: packed and unpacked by the layouts that the hardware itself uses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from amaranth.lib import data

from lmht.rtl.events import EventKind, EventLayout

__all__ = ["Event", "EventCodec", "StructCodec", "layout_fields"]


@dataclass(frozen=True, slots=True)
class Event:
    """One word of an event stream. Tokens carry no coordinates or levels; `error` is that of ``FRAME_END``."""

    kind: EventKind = EventKind.EVENT
    y: int = 0
    x: int = 0
    channel: int = 0
    levels: tuple[int, ...] = ()
    error: bool = False


class EventCodec:
    """Packs and unpacks the flat payload of an event stream.

    Parameters
    ----------
    layout : EventLayout

    Raises
    ------
    ValueError
        By :meth:`pack`, if a field does not fit.
    """

    def __init__(self, layout: EventLayout):
        self.layout = layout
        fields = layout.fields()
        self._struct = StructCodec(
            fields, signed=[f"level{step}" for step in range(layout.steps)] if layout.signed else ()
        )
        self._levels = tuple(f"level{step}" for step in range(layout.steps))

    def pack(self, event: Event) -> int:
        """The word for `event`; missing levels are 0."""
        if len(event.levels) > self.layout.steps:
            raise ValueError(f"levels must be at most {self.layout.steps} numbers, not {len(event.levels)}")
        values = dict(zip(self._levels, event.levels, strict=False))
        return self._struct.pack(
            {
                "kind": event.kind.value,
                "error": int(event.error),
                "y": event.y,
                "x": event.x,
                "channel": event.channel,
                **values,
            }
        )

    def unpack(self, word: int) -> Event:
        """The event in `word`. What means nothing is left out: coordinates and levels of a token, other errors.

        Raises
        ------
        ValueError
            If its kind is none.
        """
        values = self._struct.unpack(word)
        kind = EventKind(values["kind"])
        if kind is not EventKind.EVENT:
            return Event(kind=kind, error=kind is EventKind.FRAME_END and bool(values["error"]))
        return Event(
            y=values["y"],
            x=values["x"],
            channel=values["channel"],
            levels=tuple(values[name] for name in self._levels),
        )

    def pack_all(self, events: Iterable[Event]) -> list[int]:
        return [self.pack(event) for event in events]

    def unpack_all(self, words: Iterable[int]) -> list[Event]:
        return [self.unpack(word) for word in words]


class StructCodec:
    """Packs and unpacks a flat vector of named bit fields.

    Parameters
    ----------
    fields : mapping or StructLayout
        ``{name: (offset, width)}`` in bits, or the layout itself (see :func:`layout_fields`).
    signed : iterable of str
        Fields in two's complement; for a layout, those of signed shape are found by themselves.

    Raises
    ------
    ValueError
        By :meth:`pack`, if a value does not fit or a name is unknown.
    """

    def __init__(self, fields: Mapping[str, tuple[int, int]] | data.Layout, signed: Iterable[str] = ()):
        signed_names = set(signed)
        if isinstance(fields, data.Layout):
            signed_names |= _signed_fields(fields)
            fields = layout_fields(fields)
        self.fields = dict(fields)
        self._signed = frozenset(signed_names)

    def pack(self, values: Mapping[str, int]) -> int:
        """The word for `values`; fields that are missing are 0."""
        word = 0
        for name, value in values.items():
            if name not in self.fields:
                raise ValueError(f"there is no field {name}; the fields are {', '.join(self.fields)}")
            offset, width = self.fields[name]
            low, high = (-(1 << width) >> 1, (1 << width) >> 1) if name in self._signed else (0, 1 << width)
            if not low <= value < max(high, low + 1):
                raise ValueError(f"{name} must be between {low} and {high - 1}, not {value}")
            word |= (value & ((1 << width) - 1)) << offset
        return word

    def unpack(self, word: int) -> dict[str, int]:
        """All fields of `word`."""
        values = {}
        for name, (offset, width) in self.fields.items():
            value = (word >> offset) & ((1 << width) - 1)
            if name in self._signed and value >> (width - 1):
                value -= 1 << width
            values[name] = value
        return values


def layout_fields(layout: data.Layout, prefix: str = "") -> dict[str, tuple[int, int]]:
    """Bit positions of all leaf fields, ``{name: (offset, width)}``; ``a[1][0]`` is named ``a__1__0``."""
    return {name: (offset, width) for name, (offset, width, _) in _leaves(layout, prefix, 0).items()}


def _signed_fields(layout: data.Layout) -> set[str]:
    return {name for name, (_, _, signed) in _leaves(layout, "", 0).items() if signed}


def _leaves(layout: data.Layout, prefix: str, start: int) -> dict[str, tuple[int, int, bool]]:
    leaves: dict[str, tuple[int, int, bool]] = {}
    for key, field in layout:
        name, offset = f"{prefix}{key}", start + field.offset
        if isinstance(field.shape, data.Layout):
            leaves.update(_leaves(field.shape, f"{name}__", offset))
        else:
            shape = field.shape
            signed = bool(getattr(shape, "signed", False))
            leaves[name] = (offset, field.width, signed)
    return leaves
