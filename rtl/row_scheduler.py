"""Decides what is integrated next: an event of one of the projections, or the closing of a row that is complete."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from lmht.rtl.event_address import first_operation_layout, is_flat, lookup
from lmht.rtl.event_filter import synapse_request_layout
from lmht.rtl.events import EventKind
from lmht.rtl.open_rows import OpenRows, next_bank
from lmht.rtl.select import any_of
from lmht.rtl.tile_parameters import TileParameters

__all__ = ["INPUTS", "RowScheduler", "levels_layout", "request_ports", "rows_up", "scheduled_layout"]

INPUTS = ("i", "residual")
"""Names of the input ports in the order of the projections."""


def levels_layout(parameters: TileParameters) -> data.ArrayLayout:
    """Levels of an event of any projection."""
    bits = max(projection.input.level_bits for projection in parameters.projections)
    return data.ArrayLayout(bits, parameters.neuron.input_steps)


def scheduled_layout(parameters: TileParameters) -> data.StructLayout:
    """An event, or with ``is_close`` the closing of the row in ``bank``: ``last`` of its frame, ``error`` of the frame.

    An event reaches the row in ``bank``, the lowest one, through ``kernel_row``, and ``rows`` rows above it;
    ``first`` are the fields of :func:`~lmht.rtl.event_address.first_operation_layout`, with ``weight_row`` that of
    ``kernel_row`` (without ``tap_unroll``).
    """
    projections = range(len(parameters.projections))
    firsts = [first_operation_layout(parameters, projection) for projection in projections]
    return data.StructLayout(
        {
            "is_close": 1,
            "last": 1,
            "error": 1,
            "projection": projections,
            "bank": range(parameters.banks),
            "rows": range(parameters.banks - 1),
            "kernel_row": range(max(projection.kernel[0] for projection in parameters.projections)),
            "first": data.StructLayout(
                {name: max(first[name].width for first in firsts) for name in firsts[0].members}
            ),
            "levels": levels_layout(parameters),
        }
    )


def request_ports(parameters: TileParameters) -> dict[str, wiring.Member]:
    """Members through which the filters' words come in: ``i``, and ``residual`` with a second projection."""
    return {
        name: In(stream.Signature(synapse_request_layout(parameters, projection)))
        for projection, name in enumerate(INPUTS[: len(parameters.projections)])
    }


def rows_up(lowest: Value, bank: int, banks: int) -> Value:
    """How many rows above `lowest`, the bank of the lowest row that an event reaches, the row of `bank` lies."""
    return lookup([(other - bank) % banks for other in range(banks)], lowest)


class RowScheduler(wiring.Component):
    """Keep the window of open output rows, and let pass what fits in it.

    Parameters
    ----------
    parameters : TileParameters

    Members
    -------
    ``i``, ``residual`` : in streams of :func:`~lmht.rtl.event_filter.synapse_request_layout`, the second one only
        with a second projection
    ``busy`` : in, one bit a bank: it waits for its update, or is in it; set at the latest in the second cycle after a
        closing was taken
    ``waiting`` : out, an event or a closing waits for a bank, and nothing else can go
    ``o`` : out stream of :func:`scheduled_layout`. Rows close from top to bottom, each behind the last event that
        reaches it; their banks follow each other in turn, over frame ends, too. All banks that an event reaches,
        and that of a row that closes, are not ``busy``

    A row closes when every projection has ended the last row of its map that reaches it; a frame's end closes all that
    are left. Of two projections the residual one goes first, unless it is so far ahead that the rows it reaches
    are not open yet, or that the bank of one of them is ``busy``; then it waits, and the other one goes on. At its
    frame's end it waits for the other one's.

    Latency: none; ``o`` may change until it is taken. Throughput: one event a cycle, two cycles for each row end and
    for each closing: in the second one it is found what the new window lets pass.
    """

    def __init__(self, *, parameters: TileParameters):
        self.parameters = parameters
        super().__init__(
            {
                **request_ports(parameters),
                "busy": In(parameters.banks),
                "waiting": Out(1),
                "o": Out(stream.Signature(scheduled_layout(parameters))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        parameters = self.parameters
        banks, height = parameters.banks, parameters.height
        heads = [getattr(self, name) for name in INPUTS[: len(parameters.projections)]]
        base_bank = Signal(range(banks))
        following_bank = Signal(range(banks))
        rows_left = Signal(range(height), init=height - 1)  # below the base
        offer_close = Signal()
        close = Signal()
        frame_end = Signal()
        row_ends = [Signal(name=f"row_end_{projection}") for projection in range(len(heads))]
        rows = [
            OpenRows(
                m,
                parameters=parameters,
                projection=projection,
                following_bank=following_bank,
                row_end=row_end,
                close=close,
                frame_end=frame_end,
            )
            for projection, row_end in enumerate(row_ends)
        ]
        ended = Cat(head.valid & (head.payload.kind == EventKind.FRAME_END) for head in heads)
        past = Cat(open_rows.past for open_rows in rows)
        last = Signal(init=height == 1)
        # Whether what comes next must wait for a bank, and what the window reaches, is found a cycle ahead: in the
        # first cycle of a new window nothing passes.
        changed = Signal(init=1)
        close_blocked = Signal()
        blocked = Signal(len(heads))
        m.d.sync += close_blocked.eq(self.busy.bit_select(base_bank, 1))
        for projection, open_rows in enumerate(rows):
            m.d.sync += blocked[projection].eq(
                any_of(
                    self.busy[bank] & (rows_up(open_rows.bank, bank, banks) <= open_rows.rows_now)
                    for bank in range(banks)
                )
            )
        want_close = Signal()
        m.d.comb += [
            following_bank.eq(next_bank(base_bank, banks)),
            want_close.eq(~changed & Mux(last, ended.all(), (past | ended).all())),
            offer_close.eq(want_close & ~close_blocked),
            close.eq(offer_close & self.o.ready),
            frame_end.eq(close & last),
        ]
        m.d.sync += changed.eq(close | any_of(row_ends))
        with m.If(close):
            m.d.sync += [
                base_bank.eq(following_bank),
                rows_left.eq(Mux(last, height - 1, rows_left - 1)),
                last.eq(Mux(last, height == 1, rows_left == 1)),
            ]

        taken: Value = want_close
        waits = Signal(len(heads))
        for projection in reversed(range(len(heads))):
            head, open_rows = heads[projection], rows[projection]
            able = Signal(name=f"able_{projection}")
            fits = head.valid & (head.payload.kind == EventKind.EVENT) & open_rows.fits & ~changed
            m.d.comb += [
                able.eq(fits & ~blocked[projection] & ~taken),
                waits[projection].eq(fits & blocked[projection]),
                row_ends[projection].eq(
                    head.valid
                    & (head.payload.kind == EventKind.ROW_END)
                    & open_rows.fits
                    & ~changed
                    & ~want_close
                ),
                head.ready.eq((able & self.o.ready) | row_ends[projection] | frame_end),
            ]
            taken = taken | able
            with m.If(able):
                self._offer(m, projection, open_rows)
        m.d.comb += [
            self.o.valid.eq((taken & ~want_close) | offer_close),
            self.waiting.eq((waits.any() & ~taken) | (want_close & close_blocked)),
        ]
        with m.If(want_close):
            m.d.comb += [
                self.o.payload.is_close.eq(1),
                self.o.payload.bank.eq(base_bank),
                self.o.payload.last.eq(last),
                self.o.payload.error.eq(last & any_of(head.payload.error for head in heads)),
            ]
        return m

    def _offer(self, m: Module, projection: int, rows: OpenRows) -> None:
        """The event at the head of a projection."""
        request, o = getattr(self, INPUTS[projection]).payload, self.o.payload
        m.d.comb += [
            o.projection.eq(projection),
            o.bank.eq(rows.bank),
            o.rows.eq(rows.rows),
            o.kernel_row.eq(rows.kernel_row),
            *(o.first[name].eq(request.first[name]) for name in o.first.shape().members),
            *(o.levels[step].eq(request.levels[step]) for step in range(self.parameters.neuron.input_steps)),
        ]
        if self.parameters.tap_unroll:
            if is_flat(self.parameters, projection):
                m.d.comb += o.kernel_row.eq(request.first.kernel_row)
        else:
            m.d.comb += o.first.weight_row.eq(request.first.weight_row + rows.weight_offset)
