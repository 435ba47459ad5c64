"""Planted faults, to show that benches and ``verify`` notice: streams that go wrong on demand, layers built wrongly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import IntEnum
from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from lmht.rtl.parameters import DesignParameters

__all__ = ["Fault", "Saboteur", "build_wrongly"]


class Fault(IntEnum):
    """What goes wrong at one word of the stream."""

    NONE = 0
    DROP = 1
    DUPLICATE = 2
    CORRUPT = 3  # the payload's highest bit is wrong
    VALID_FALLS = 4  # offered, taken back, offered again
    PAYLOAD_CHANGES = 5  # the word held back is another one than the word taken
    DROP_TOKEN = 6  # a word whose two lowest bits are not 0, such as ROW_END
    DUPLICATE_TOKEN = 7
    HANG = 8  # nothing passes from there on


class Saboteur(wiring.Component):
    """A component with one output stream in which word number `nth` goes wrong.

    Parameters
    ----------
    inner : Component
    port : str
        Output stream, a member of the inner component; of an array, the first stream.
    nth : int
        Words (for the token faults: tokens) that pass before the fault, up to 255.

    Members
    -------
    ``fault`` : in, a :class:`Fault`; constant during a run
    and those of the inner component.
    """

    def __init__(self, *, inner: wiring.Component, port: str = "o", nth: int = 2):
        self._inner = inner
        self._port = port
        self._nth = nth
        super().__init__({**dict(inner.signature.members), "fault": In(4)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.inner = self._inner
        for name, member in self._inner.signature.members.items():
            pairs = _pairs(getattr(self, name), getattr(self._inner, name))
            if name == self._port:
                self._sabotage(m, *pairs.pop(0))
            for outside, inside in pairs:
                if member.is_signature:
                    wiring.connect(m, wiring.flipped(outside), inside)
                elif member.flow == In:
                    m.d.comb += inside.eq(outside)
                else:
                    m.d.comb += outside.eq(inside)
        return m

    def _sabotage(self, m: Module, outside: Any, inside: Any) -> None:
        """Pass the stream on until the fault's turn."""
        fault = self.fault
        word = Signal(len(inside.payload.as_value()))
        is_token = Signal()
        counts = Signal()
        passed = Signal(8)
        done = Signal()
        taken_back = Signal()
        m.d.comb += [
            word.eq(inside.payload),
            is_token.eq(word[:2] != 0),
            outside.valid.eq(inside.valid),
            outside.payload.eq(word),
            inside.ready.eq(outside.ready),
        ]
        with m.Switch(fault):
            with m.Case(Fault.DROP_TOKEN, Fault.DUPLICATE_TOKEN):
                m.d.comb += counts.eq(is_token)
            with m.Case(Fault.CORRUPT):
                m.d.comb += counts.eq(~is_token)
            with m.Default():
                m.d.comb += counts.eq(1)
        with m.If(inside.valid & inside.ready & counts & (passed != 255)):
            m.d.sync += passed.eq(passed + 1)
        with m.If(inside.valid & counts & (passed >= self._nth) & ~done):  # noqa: SIM117
            with m.Switch(fault):
                with m.Case(Fault.DROP, Fault.DROP_TOKEN):
                    m.d.comb += [outside.valid.eq(0), inside.ready.eq(1)]
                    m.d.sync += done.eq(1)
                with m.Case(Fault.DUPLICATE, Fault.DUPLICATE_TOKEN):
                    m.d.comb += inside.ready.eq(0)
                    m.d.sync += done.eq(outside.ready)
                with m.Case(Fault.CORRUPT):
                    m.d.comb += outside.payload.eq(word ^ 1 << len(word) - 1)
                    m.d.sync += done.eq(outside.ready)
                with m.Case(Fault.VALID_FALLS):
                    m.d.comb += outside.valid.eq(~taken_back)
                    m.d.sync += [taken_back.eq(~outside.ready), done.eq(taken_back)]
                    with m.If(taken_back):
                        m.d.comb += inside.ready.eq(0)
                with m.Case(Fault.PAYLOAD_CHANGES):  # noqa: SIM117
                    with m.If(~outside.ready):
                        m.d.comb += outside.payload.eq(word ^ 1 << len(word) - 1)
                        m.d.sync += done.eq(1)
                with m.Case(Fault.HANG):
                    m.d.comb += [outside.valid.eq(0), inside.ready.eq(0)]


def build_wrongly(
    design: DesignParameters,
    layer: int,
    *,
    tile: Mapping[str, Any] | None = None,
    projection: Mapping[str, Any] | None = None,
) -> DesignParameters:
    """The design as if the hardware of a layer had been made from other parameters; its hash stays.

    Parameters
    ----------
    design : DesignParameters
    layer : int
    tile, projection : mapping, optional
        Fields of its TileParameters, and of its first ProjectionParameters, to change. Maps and memories must keep
        their shapes, as nothing else is built otherwise.
    """
    wrong = tuple(
        replace(
            part,
            projections=(replace(part.projections[0], **(projection or {})), *part.projections[1:]),
            **(tile or {}),
        )
        for part in design.layers[layer]
    )
    other = replace(design, layers=(*design.layers[:layer], wrong, *design.layers[layer + 1 :]))
    if [part.memories for part in wrong] != [part.memories for part in design.layers[layer]]:
        raise ValueError(f"the memories of layer {layer} must keep their shapes")
    other.__dict__["design_hash"] = design.design_hash
    return other


def _pairs(outside: Any, inside: Any) -> list[tuple[Any, Any]]:
    """Members of two equal interfaces side by side, arrays taken apart."""
    if isinstance(inside, list | tuple):
        return [pair for both in zip(outside, inside, strict=True) for pair in _pairs(*both)]
    return [(outside, inside)]
