"""Codecs and patterns of the stream agents."""

from __future__ import annotations

import random

import pytest
from amaranth.hdl import signed
from amaranth.lib import data
from hypothesis import given
from hypothesis import strategies as st

from lmht.rtl.events import EventKind, EventLayout
from lmht.sim.codecs import Event, EventCodec, StructCodec, layout_fields
from lmht.sim.patterns import PATTERNS, pattern

sizes = st.integers(1, 40)


@st.composite
def layouts(draw: st.DrawFn) -> EventLayout:
    return EventLayout(
        height=draw(sizes),
        width=draw(sizes),
        channels=draw(sizes),
        steps=draw(st.integers(1, 8)),
        level_bits=draw(st.integers(1, 24)),
        signed=draw(st.booleans()),
    )


@st.composite
def layouts_with_events(draw: st.DrawFn) -> tuple[EventLayout, Event]:
    layout = draw(layouts())
    half = 1 << layout.level_bits - 1
    level = st.integers(-half, half - 1) if layout.signed else st.integers(0, 2 * half - 1)
    return layout, Event(
        y=draw(st.integers(0, layout.height - 1)),
        x=draw(st.integers(0, layout.width - 1)),
        channel=draw(st.integers(0, layout.channels - 1)),
        levels=tuple(draw(st.lists(level, min_size=layout.steps, max_size=layout.steps))),
    )


@given(layouts_with_events())
def test_event_round_trip(case: tuple[EventLayout, Event]) -> None:
    layout, event = case
    codec = EventCodec(layout)
    word = codec.pack(event)
    assert word < 1 << layout.payload_bits
    assert codec.unpack(word) == event


@given(layouts_with_events())
def test_event_packs_as_the_hardware_does(case: tuple[EventLayout, Event]) -> None:
    layout, event = case
    fields = {"kind": event.kind, "error": 0, "y": event.y, "x": event.x, "channel": event.channel}
    constant = layout.payload.const({**fields, "levels": list(event.levels)})
    assert EventCodec(layout).pack(event) == constant.as_bits()


@pytest.mark.parametrize("error", [False, True])
def test_token_round_trip(error: bool) -> None:
    codec = EventCodec(EventLayout(channels=3, level_bits=4))
    token = Event(kind=EventKind.FRAME_END, error=error)
    assert codec.unpack(codec.pack(token)) == token


def test_token_leaves_out_what_means_nothing() -> None:
    codec = EventCodec(EventLayout(channels=3, level_bits=4))
    noisy = Event(kind=EventKind.ROW_END, channel=2, levels=(5,), error=True)
    assert codec.unpack(codec.pack(noisy)) == Event(kind=EventKind.ROW_END)


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="3 is not a valid EventKind"):
        EventCodec(EventLayout(channels=3, level_bits=4)).unpack(3)


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (Event(channel=4), "^channel must be between 0 and 3, not 4$"),
        (Event(y=1), "^y must be between 0 and 0, not 1$"),
        (Event(levels=(-9,)), "^level0 must be between -8 and 7, not -9$"),
        (Event(levels=(8,)), "^level0 must be between -8 and 7, not 8$"),
        (Event(levels=(0, 0)), "^levels must be at most 1 numbers, not 2$"),
    ],
)
def test_what_does_not_fit_is_refused(event: Event, message: str) -> None:
    codec = EventCodec(EventLayout(channels=3, level_bits=4, signed=True))
    with pytest.raises(ValueError, match=message):
        codec.pack(event)


NESTED = data.StructLayout({"a": 3, "b": data.ArrayLayout(data.ArrayLayout(signed(4), 2), 2), "none": 0})


def test_layout_fields_of_a_nested_layout() -> None:
    assert layout_fields(NESTED) == {
        "a": (0, 3),
        "b__0__0": (3, 4),
        "b__0__1": (7, 4),
        "b__1__0": (11, 4),
        "b__1__1": (15, 4),
        "none": (19, 0),
    }


@given(st.integers(0, 7), st.lists(st.integers(-8, 7), min_size=4, max_size=4))
def test_struct_round_trip(a: int, b: list[int]) -> None:
    codec = StructCodec(NESTED)
    names = ("b__0__0", "b__0__1", "b__1__0", "b__1__1")
    values = {"a": a, **dict(zip(names, b, strict=True)), "none": 0}
    assert codec.unpack(codec.pack(values)) == values


def test_struct_refuses_an_unknown_field() -> None:
    with pytest.raises(ValueError, match=r"^there is no field b; the fields are a$"):
        StructCodec({"a": (0, 1)}).pack({"b": 0})


@pytest.mark.parametrize("name", PATTERNS)
def test_pattern_repeats_with_its_seed_and_does_not_stop(name: str) -> None:
    first, second = (pattern(name, random.Random(5)) for _ in range(2))
    answers = [first() for _ in range(500)]
    assert answers == [second() for _ in range(500)]
    assert any(answers)


def test_unknown_pattern_is_refused() -> None:
    message = r"^pattern must be one of always, often, half, rarely, bursts, not 'seldom'$"
    with pytest.raises(ValueError, match=message):
        pattern("seldom", random.Random(1))
