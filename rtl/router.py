"""Event router: merges streams, copies them to several tiles, and aligns their row and frame ends."""

from __future__ import annotations

from collections.abc import Iterable

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from lmht.rtl.checks import check_range
from lmht.rtl.events import EventKind, EventLayout
from lmht.rtl.parameters import MemoryShape
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

    A route changes at once, for the head too: a destination that has taken it keeps it.

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
            Signal(self.destinations, name=f"route_{source}", init=(1 << self.destinations) - 1)
            for source in range(self.sources)
        ]
        for source, route in enumerate(routes):
            with m.If(self.load_routes.enable & (self.load_routes.row == source)):
                m.d.sync += route.eq(self.load_routes.data)
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
        for source, port in enumerate(self.i):
            m.submodules[f"skid_{source}"] = skid = Skid(payload=self.layout.payload)
            wiring.connect(m, wiring.flipped(port), skid.i)
            heads.append(skid.o)
        # Destinations that have taken the head already.
        served = [Signal(self.destinations, name=f"served_{source}") for source in range(self.sources)]
        takes = [Signal(self.destinations, name=f"takes_{source}") for source in range(self.sources)]
        misaligned = Signal(self.destinations)
        for destination in range(self.destinations):
            waiting = [
                head.valid & ~done[destination] & route[destination]
                for head, done, route in zip(heads, served, routes, strict=True)
            ]
            taken, flag = self._arbitrate(m, destination, heads, waiting, [r[destination] for r in routes])
            m.d.comb += [take[destination].eq(bit) for take, bit in zip(takes, taken, strict=True)]
            m.d.comb += misaligned[destination].eq(flag)
        for head, done, take, route in zip(heads, served, takes, routes, strict=True):
            m.d.comb += head.ready.eq(~(route & ~done & ~take).any())
            m.d.sync += done.eq(Mux(head.valid & ~head.ready, done | take, 0))
        m.d.sync += self.errors.misaligned.eq(misaligned.any())

    def _arbitrate(
        self, m: Module, destination: int, heads: list, waiting: list[Value], routed: list[Value]
    ) -> tuple[Value, Value]:
        """Output register of one destination. Returns which heads it takes, and whether they differ."""
        sources = self.sources
        o = self.o[destination]

        def bits(name: str, values: Iterable[Value]) -> Signal:
            signal = Signal(sources, name=f"{name}_{destination}")
            m.d.comb += signal.eq(Cat(values))
            return signal

        kinds = [head.payload.kind.as_value() for head in heads]
        pairs = list(zip(waiting, kinds, strict=True))
        requests = bits("requests", [head & (kind == EventKind.EVENT) for head, kind in pairs])
        row_ends = bits("row_ends", [head & (kind == EventKind.ROW_END) for head, kind in pairs])
        frame_ends = bits("frame_ends", [head & kind[1] for head, kind in pairs])
        free = Signal(name=f"free_{destination}")
        m.d.comb += free.eq(~o.valid | o.ready)

        behind = Signal(sources, name=f"behind_{destination}")
        chosen = bits("chosen", self._turn(requests, behind))
        aligned = Signal(name=f"aligned_{destination}")
        any_row_end = Signal(name=f"any_row_end_{destination}")
        m.d.comb += [
            aligned.eq(~(Cat(routed) & ~(row_ends | frame_ends)).any() & Cat(routed).any()),
            any_row_end.eq(row_ends.any()),
        ]
        mixed = free & aligned & any_row_end & frame_ends.any()
        frame_flag = Signal(name=f"frame_flag_{destination}")
        end_error = any_of(end & head.payload.error for end, head in zip(frame_ends, heads, strict=True))

        with m.If(free):
            m.d.sync += [
                o.valid.eq(requests.any() | aligned),
                o.payload.eq(one_hot_mux(chosen, [head.payload.as_value() for head in heads])),
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
