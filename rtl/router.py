"""Event router: merges streams, copies them to several tiles, and aligns their row and frame ends."""

from __future__ import annotations

from collections.abc import Iterable

from amaranth.hdl import Cat, Module, Mux, ResetSignal, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from lmht.rtl.checks import check_range
from lmht.rtl.events import EventKind, EventLayout
from lmht.rtl.memory_shape import MemoryShape
from lmht.rtl.ports import LoadSignature
from lmht.rtl.select import any_of, first_of, one_hot_mux
from lmht.rtl.skid import Skid

__all__ = ["EventRouter"]


class EventRouter(wiring.Component):
    """Send the events of N sources to M destinations.

    Parameters
    ----------
    layout : EventLayout
        Of every link.
    sources, destinations : int
        N and M, 1 … 16.

    Members
    -------
    ``i`` : N in streams of `layout`
    ``o`` : M out streams of `layout`
    ``load_routes`` : in, row = source, bit d = goes to destination d; all ones after reset
    ``pulses`` : out, ``events_in`` (sum over sources), ``events_out`` (sum over destinations), ``stalls`` (an
    output valid and not ready, at least one)
    ``errors`` : out, ``misaligned``

    A destination takes events from the sources routed to it in turn (round robin); it takes a token when all
    of them have one at their heads. If one of those is ``ROW_END``, that is what it takes, and only those
    heads are used up; where the heads differ this is flagged ``misaligned`` and the destination's
    ``FRAME_END`` has ``error`` set. Else it takes ``FRAME_END`` with the OR of their ``error``. A head leaves
    when every destination of its route has taken it; destinations do not wait for each other beyond that. A
    source without a destination is swallowed. Nothing is lost, duplicated or invented, and no source waits
    for more than one event of each other one.

    A new route holds for the words that arrive from then on.

    Latency 2 cycles (1 for one source and one destination, a plain stream register), one word a cycle and
    destination.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of its type or outside its range.
    """

    ERRORS = data.StructLayout({"misaligned": 1})

    def __init__(self, *, layout: EventLayout, sources: int, destinations: int):
        if not isinstance(layout, EventLayout):
            raise TypeError(f"layout must be an EventLayout, not {layout!r}")
        check_range("sources", sources, 1, 16)
        check_range("destinations", destinations, 1, 16)
        self.layout = layout
        self.sources = sources
        self.destinations = destinations
        self.PULSES = self.pulses_layout(sources, destinations)
        routes = MemoryShape(width=destinations, depth=sources)
        super().__init__(
            {
                "i": In(layout.signature).array(sources),
                "o": Out(layout.signature).array(destinations),
                "load_routes": In(LoadSignature(routes)),
                "pulses": Out(self.PULSES),
                "errors": Out(self.ERRORS),
            }
        )

    @staticmethod
    def pulses_layout(sources: int, destinations: int) -> data.StructLayout:
        """Layout of ``pulses`` of a router of that size."""
        return data.StructLayout(
            {"events_in": bits_for(sources), "events_out": bits_for(destinations), "stalls": 1}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        routes = [
            Signal(
                self.destinations, name=f"route_{source}", init=(1 << self.destinations) - 1, reset_less=True
            )
            for source in range(self.sources)
        ]
        for source, route in enumerate(routes):
            with m.If(self.load_routes.enable & (self.load_routes.row == source)):
                m.d.sync += route.eq(self.load_routes.data)
            # Loaded, so a soft reset, which is inserted around the stages, must not touch it; the hard one does.
            with m.If(ResetSignal()):
                m.d.sync += route.eq(route.init)
        if self.sources == self.destinations == 1:
            self._connect_single(m, routes[0])
        else:
            self._connect(m, routes)
        self._count(m)
        return m

    def _connect_single(self, m: Module, route: Signal) -> None:
        """One source and one destination: the tokens of a single stream are always aligned."""
        m.submodules.skid = skid = Skid(payload=self.layout.payload)
        m.d.comb += [
            skid.i.valid.eq(self.i[0].valid & route[0]),
            skid.i.payload.eq(self.i[0].payload),
            self.i[0].ready.eq(skid.i.ready),
        ]
        wiring.connect(m, skid.o, wiring.flipped(self.o[0]))

    def _connect(self, m: Module, routes: list[Signal]) -> None:
        heads = []
        for source, (port, route) in enumerate(zip(self.i, routes, strict=True)):
            m.submodules[f"head_{source}"] = head = _Head(layout=self.layout, destinations=self.destinations)
            wiring.connect(m, wiring.flipped(port), head.i)
            m.d.comb += head.route.eq(route)
            heads.append(head)
        misaligned = Signal(self.destinations)
        for destination in range(self.destinations):
            routed = Cat(route[destination] for route in routes)
            taken, flag = self._arbitrate(m, destination, heads, routed)
            m.d.comb += [head.take[destination].eq(bit) for head, bit in zip(heads, taken, strict=True)]
            m.d.comb += misaligned[destination].eq(flag)
        m.d.sync += self.errors.misaligned.eq(misaligned.any())

    def _arbitrate(
        self, m: Module, destination: int, heads: list[_Head], routed: Value
    ) -> tuple[Signal, Value]:
        """Output register of one destination. Returns which heads it takes, and whether they differ."""
        sources = self.sources
        o = self.o[destination]

        def bits(name: str, values: Iterable[Value]) -> Signal:
            signal = Signal(sources, name=f"{name}_{destination}")
            m.d.comb += signal.eq(Cat(values))
            return signal

        requests = bits("requests", [head.wanted[destination] & head.is_event for head in heads])
        row_ends = bits("row_ends", [head.wanted[destination] & head.is_row_end for head in heads])
        frame_ends = bits("frame_ends", [head.wanted[destination] & head.is_frame_end for head in heads])
        free = Signal(name=f"free_{destination}")
        m.d.comb += free.eq(~o.valid | o.ready)

        behind = Signal(sources, name=f"behind_{destination}")
        chosen = bits("chosen", self._turn(requests, behind))
        aligned = Signal(name=f"aligned_{destination}")
        any_row_end = Signal(name=f"any_row_end_{destination}")
        m.d.comb += [
            aligned.eq(~(routed & ~(row_ends | frame_ends)).any() & (row_ends | frame_ends).any()),
            any_row_end.eq(row_ends.any()),
        ]
        mixed = free & aligned & any_row_end & frame_ends.any()
        frame_flag = Signal(name=f"frame_flag_{destination}")
        end_error = any_of(end & head.word.error for end, head in zip(frame_ends, heads, strict=True))

        with m.If(free):
            m.d.sync += [
                o.valid.eq(requests.any() | aligned),
                o.payload.eq(one_hot_mux(chosen, [head.word.as_value() for head in heads])),
            ]
            with m.If(requests.any()):
                m.d.sync += behind.eq(Cat(chosen[:source].any() for source in range(sources)))
            with m.If(aligned):
                m.d.sync += [
                    o.payload.kind.eq(Mux(any_row_end, EventKind.ROW_END, EventKind.FRAME_END)),
                    o.payload.error.eq(~any_row_end & (end_error | frame_flag)),
                    frame_flag.eq(any_row_end & (frame_flag | frame_ends.any())),
                ]
        tokens = Mux(any_row_end, row_ends, frame_ends) & aligned.replicate(sources)
        return bits("taken", (chosen | tokens) & free.replicate(sources)), mixed

    def _turn(self, requests: Value, behind: Value) -> Value:
        """The source whose turn it is: the first behind the last one chosen, else the first of all."""
        preferred = requests & behind
        return Mux(preferred.any(), first_of(preferred), first_of(requests))

    def _count(self, m: Module) -> None:
        """Pulses, in two steps: the words seen, then their sums."""
        arrived = Signal(self.sources)
        left = Signal(self.destinations)
        m.d.sync += [
            arrived.eq(Cat(p.valid & p.ready & (p.payload.kind == EventKind.EVENT) for p in self.i)),
            left.eq(Cat(p.valid & p.ready & (p.payload.kind == EventKind.EVENT) for p in self.o)),
            self.pulses.events_in.eq(sum(arrived)),
            self.pulses.events_out.eq(sum(left)),
            self.pulses.stalls.eq(any_of(p.valid & ~p.ready for p in self.o)),
        ]


class _Head(wiring.Component):
    """Two-word buffer of a source, with what the destinations ask about its first word in registers.

    Members
    -------
    ``i`` : in stream of `layout`
    ``route`` : in, destinations of a word that arrives now
    ``take`` : in, destinations that take the head in this cycle
    ``wanted`` : out, destinations that have not taken the head yet; 0 without a head
    ``word`` : out, the head
    ``is_event``, ``is_row_end``, ``is_frame_end`` : out, its kind
    """

    def __init__(self, *, layout: EventLayout, destinations: int):
        self._entry = data.StructLayout(
            {
                "route": destinations,
                "is_event": 1,
                "is_row_end": 1,
                "is_frame_end": 1,
                "word": layout.payload,
            }
        )
        super().__init__(
            {
                "i": In(layout.signature),
                "route": In(destinations),
                "take": In(destinations),
                "wanted": Out(destinations),
                "word": Out(layout.payload),
                "is_event": Out(1),
                "is_row_end": Out(1),
                "is_frame_end": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        arriving = Signal(self._entry)
        waiting = Signal(self._entry, reset_less=True)
        has_waiting = Signal()
        kind = self.i.payload.kind.as_value()
        m.d.comb += [
            self.i.ready.eq(~has_waiting),
            arriving.word.eq(self.i.payload),
            arriving.route.eq(self.route),
            arriving.is_event.eq(kind == EventKind.EVENT),
            arriving.is_row_end.eq(kind == EventKind.ROW_END),
            # A word of unknown kind must not stop the others: it counts as the end of its frame.
            arriving.is_frame_end.eq(kind[1]),
        ]
        following = Signal(self._entry)
        m.d.comb += following.eq(Mux(has_waiting, waiting, arriving))
        with m.If(~has_waiting):
            m.d.sync += waiting.eq(arriving)
        m.d.sync += self.wanted.eq(self.wanted & ~self.take)
        with m.If(~(self.wanted & ~self.take).any()):
            m.d.sync += [
                self.wanted.eq(following.route & (has_waiting | self.i.valid).replicate(len(self.wanted))),
                self.word.eq(following.word),
                self.is_event.eq(following.is_event),
                self.is_row_end.eq(following.is_row_end),
                self.is_frame_end.eq(following.is_frame_end),
                has_waiting.eq(0),
            ]
        with m.Elif(self.i.valid):
            m.d.sync += has_waiting.eq(1)
        return m
