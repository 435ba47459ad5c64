"""Walks the output pixels and lane groups of each event, one a cycle, and closes the rows that are complete."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from lmht.rtl.event_filter import synapse_request_layout
from lmht.rtl.events import EventKind
from lmht.rtl.open_rows import OpenRows, next_bank
from lmht.rtl.pipeline import delay
from lmht.rtl.pixel_walk import closed_layout, touched_layout
from lmht.rtl.select import any_of
from lmht.rtl.tile_parameters import WEIGHT_MEMORIES, TileParameters

__all__ = ["FIRST_CYCLES", "INPUTS", "AddressGenerator", "operation_layout", "touched_bits"]

FIRST_CYCLES = 2
"""Cycles from an operation to its ``first``: the bits of all pixels are wide, and their choice takes time."""

INPUTS = ("i", "residual")
"""Names of the input ports in the order of the projections."""


def operation_layout(parameters: TileParameters) -> data.StructLayout:
    """One cycle of the synapse lanes: add ``levels`` times a weight row to accumulator row ``row`` of ``bank``."""
    projections = parameters.projections
    level_bits = max(projection.input.level_bits for projection in projections)
    return data.StructLayout(
        {
            "projection": range(len(projections)),
            "bank": range(parameters.banks),
            "row": range(parameters.bank_rows),
            "weight_row": max(
                shape.row_bits for name, shape in parameters.memories.items() if name in WEIGHT_MEMORIES
            ),
            "levels": data.ArrayLayout(level_bits, parameters.neuron.input_steps),
        }
    )


def touched_bits(parameters: TileParameters) -> data.ArrayLayout:
    """A bit of each bank for every pixel (with :attr:`TileParameters.partial`: accumulator row) that an event met."""
    parts = parameters.groups if parameters.partial else 1
    return touched_layout(width=parameters.width, banks=parameters.banks, parts=parts)


class AddressGenerator(wiring.Component):
    """Issue the operations of every event, one a cycle, and close every row that no further event reaches.

    Parameters
    ----------
    parameters : TileParameters

    Members
    -------
    ``i``, ``residual`` : in streams of :func:`~lmht.rtl.event_filter.synapse_request_layout`, the second one only
        with a second projection
    ``operation``, ``operation_valid`` : out, :func:`operation_layout`; cannot be refused
    ``first`` : out, :data:`FIRST_CYCLES` cycles after its operation: nothing was added to this accumulator row yet, its
        old content counts as zero
    ``closed``, ``closed_valid`` : out, :func:`~lmht.rtl.pixel_walk.closed_layout`; in a cycle of its own, after the
        row's last operation
    ``touched`` : out, :func:`touched_bits`; complete a cycle after the row's last operation
    ``freed`` : in, one bit a bank: it has been read out and may integrate again; its ``touched`` is cleared
    ``pulses`` : out, ``frames``, ``integrate`` (operations), ``stalls`` (an operation or a closing waits for a bank)

    An event takes a cycle for each output pixel and lane group it reaches, a closing one, a row end none behind an
    event that takes longer than a cycle; events follow each other without a gap. The walk goes to and fro, so that
    every step changes one coordinate by one. Of two projections the residual one goes first, unless it is so far
    ahead that the rows it reaches are not open yet; then it waits. At its frame end it waits for the other one's.
    """

    PULSES = data.StructLayout({"frames": 1, "integrate": 1, "stalls": 1})

    def __init__(self, *, parameters: TileParameters):
        self.parameters = parameters
        super().__init__(
            {
                **{
                    name: In(stream.Signature(synapse_request_layout(parameters, projection)))
                    for projection, name in enumerate(("i", "residual")[: len(parameters.projections)])
                },
                "operation": Out(operation_layout(parameters)),
                "operation_valid": Out(1),
                "first": Out(1),
                "closed": Out(closed_layout(parameters.banks)),
                "closed_valid": Out(1),
                "touched": Out(touched_bits(parameters)),
                "freed": In(parameters.banks),
                "pulses": Out(self.PULSES),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        heads = [getattr(self, name) for name in INPUTS[: len(self.parameters.projections)]]
        walk = _Walk(m, self.parameters, heads)
        self._choose(m, walk, heads)

        busy = Signal(self.parameters.banks)  # banks that wait for their update, or are in it
        free = Signal()
        issue = Signal()
        close = Signal()
        m.d.comb += [
            free.eq(~busy.bit_select(walk.bank, 1)),
            issue.eq(walk.valid & ~walk.is_close & free),
            close.eq(walk.valid & walk.is_close & free),
            walk.step.eq(issue),
            walk.done.eq(close | (issue & walk.at_end)),
        ]
        m.d.sync += busy.eq(busy & ~self.freed)
        with m.If(close):
            m.d.sync += busy.bit_select(walk.bank, 1).eq(1)

        m.d.sync += [
            self.operation_valid.eq(issue),
            self.operation.projection.eq(walk.projection),
            self.operation.bank.eq(walk.bank),
            self.operation.row.eq(walk.row),
            self.operation.weight_row.eq(walk.weight_row),
            self.operation.levels.eq(walk.levels),
            self.closed_valid.eq(close),
            self.closed.bank.eq(walk.bank),
            self.closed.last.eq(walk.last),
            self.closed.error.eq(walk.error),
            self.pulses.frames.eq(close & walk.last),
            self.pulses.integrate.eq(issue),
            self.pulses.stalls.eq(walk.valid & ~free),
        ]
        self._touch(m, walk)
        return m

    def _choose(self, m: Module, walk: _Walk, heads: list) -> None:
        """What the walk takes next: the closing of a row, or an event whose rows are open."""
        parameters = self.parameters
        banks, height = parameters.banks, parameters.height
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
        last = rows_left == 0
        m.d.comb += [
            following_bank.eq(next_bank(base_bank, banks)),
            offer_close.eq(Mux(last, ended.all(), (past | ended).all())),
            close.eq(offer_close & walk.ready),
            frame_end.eq(close & last),
        ]
        with m.If(close):
            m.d.sync += [base_bank.eq(following_bank), rows_left.eq(Mux(last, height - 1, rows_left - 1))]

        taken: Value = offer_close
        for projection in reversed(range(len(heads))):
            head, open_rows = heads[projection], rows[projection]
            able = Signal(name=f"able_{projection}")
            m.d.comb += [
                able.eq(
                    head.valid & (head.payload.kind == EventKind.EVENT) & open_rows.fits & ~taken,
                ),
                row_ends[projection].eq(
                    head.valid & (head.payload.kind == EventKind.ROW_END) & open_rows.fits & ~offer_close
                ),
                head.ready.eq((able & walk.ready) | row_ends[projection] | frame_end),
            ]
            taken = taken | able
            with m.If(able):
                walk.offer(m, projection, head.payload, open_rows)
        m.d.comb += walk.offered.eq(taken)
        with m.If(offer_close):
            errors = any_of(head.payload.error for head in heads)
            walk.offer_close(m, bank=base_bank, last=last, error=errors & last)

    def _touch(self, m: Module, walk: _Walk) -> None:
        """Read and set the bit of each operation in the cycle behind the walk, in order."""
        parameters = self.parameters
        if parameters.partial:
            index, complete = self.operation.row, self.operation_valid
        else:
            # All groups of a pixel are met by the same event, one after the other.
            index, complete = Signal(range(parameters.width), name="column"), Signal(name="group_complete")
            m.d.sync += [index.eq(walk.column), complete.eq(walk.step & walk.at_group_end)]
        seen = Signal(parameters.banks)
        for bank in range(parameters.banks):
            bits = self.touched[bank]
            m.d.sync += seen[bank].eq(bits.bit_select(index, 1))
            with m.If(complete & (self.operation.bank == bank)):
                m.d.sync += bits.bit_select(index, 1).eq(1)
            with m.If(self.freed[bank]):
                m.d.sync += bits.eq(0)
        bank = delay(m, self.operation.bank, FIRST_CYCLES - 1, name="seen_bank")
        m.d.sync += self.first.eq(~seen.bit_select(bank, 1))


class _Walk:
    """The event at work, or the row to close: registers that hold the operation to be issued.

    Groups are the inner loop, output columns the next one, output rows the outer one. Each loop runs back the way it
    came each time it is entered again.
    """

    def __init__(self, m: Module, parameters: TileParameters, heads: list):
        self._parameters = parameters
        projections = parameters.projections
        firsts = [head.payload["first"] for head in heads]

        def widest(name: str) -> int:
            return max(len(first[name]) for first in firsts)

        operation = operation_layout(parameters)
        self._fields = fields = data.StructLayout(
            {
                "is_close": 1,
                "last": 1,
                "error": 1,
                "projection": operation["projection"].shape,
                "bank": operation["bank"].shape,
                "row": operation["row"].shape,
                "column": range(parameters.width),
                "weight_row": operation["weight_row"].shape,
                "levels": operation["levels"].shape,
                "groups_left": widest("groups"),
                "columns_left": widest("columns"),
                "rows_left": range(parameters.banks - 1),
            }
        )
        item = Signal(fields, name="walk", reset_less=True)
        self._next = Signal(fields, name="offer")
        self.offered = Signal(name="offered")
        self.valid = Signal(name="walk_valid")
        self.step = Signal(name="walk_step")
        self.done = Signal(name="walk_done")
        self.ready = Signal(name="walk_ready")
        self.is_close, self.last, self.error = item.is_close, item.last, item.error
        self.projection, self.bank, self.row, self.column = item.projection, item.bank, item.row, item.column
        self.weight_row, self.levels = item.weight_row, item.levels
        self.at_group_end = item.groups_left == 0
        at_column_end = item.columns_left == 0
        self.at_end = self.at_group_end & at_column_end & (item.rows_left == 0)
        m.d.comb += self.ready.eq(~self.valid | self.done)

        groups = Signal(fields["groups_left"].shape, name="walk_groups", reset_less=True)
        columns = Signal(fields["columns_left"].shape, name="walk_columns", reset_less=True)
        # Where an event reaches one pixel (one row), its groups (columns) are walked one way only.
        groups_back = Signal(int(bool(widest("columns")) or parameters.banks > 2), name="walk_groups_back")
        columns_back = Signal(int(parameters.banks > 2), name="walk_columns_back")
        spans = [parameters.span(index) * own.input.channels for index, own in enumerate(projections)]
        column_step = self._of_projection(
            [span * own.stride[1] for span, own in zip(spans, projections, strict=True)]
        )
        row_step = self._of_projection(
            [span * own.kernel[1] * own.stride[0] for span, own in zip(spans, projections, strict=True)]
        )
        with m.If(self.step):
            with m.If(~self.at_group_end):
                sign = Mux(groups_back, -1, 1)
                m.d.sync += [
                    item.groups_left.eq(item.groups_left - 1),
                    item.row.eq(item.row + sign),
                    item.weight_row.eq(item.weight_row + sign),
                ]
            with m.Else():
                m.d.sync += [item.groups_left.eq(groups), groups_back.eq(~groups_back)]
                with m.If(~at_column_end):
                    # Towards higher tap columns the output columns go down.
                    m.d.sync += [
                        item.columns_left.eq(item.columns_left - 1),
                        item.column.eq(item.column + Mux(columns_back, 1, -1)),
                        item.row.eq(item.row + Mux(columns_back, parameters.groups, -parameters.groups)),
                        item.weight_row.eq(item.weight_row + Mux(columns_back, -column_step, column_step)),
                    ]
                with m.Else():
                    m.d.sync += [
                        item.columns_left.eq(columns),
                        columns_back.eq(~columns_back),
                        item.rows_left.eq(item.rows_left - 1),
                        item.bank.eq(Mux(item.bank == 0, parameters.banks - 1, item.bank - 1)),
                        item.weight_row.eq(item.weight_row + row_step),
                    ]
        with m.If(self.ready):
            m.d.sync += [
                item.eq(self._next),
                self.valid.eq(self.offered),
                groups.eq(self._next.groups_left),
                columns.eq(self._next.columns_left),
                groups_back.eq(0),
                columns_back.eq(0),
            ]

    def _of_projection(self, values: list[int]) -> Value | int:
        if values[0] == values[-1]:
            return values[0]
        return Mux(self.projection, values[1], values[0])

    def offer(self, m: Module, projection: int, request: data.View, rows: OpenRows) -> None:
        """Let an event be taken next."""
        levels = request.levels
        m.d.comb += [
            self._next.projection.eq(projection),
            self._next.bank.eq(rows.bank),
            self._next.row.eq(request.first.row),
            self._next.column.eq(request.first.column),
            self._next.weight_row.eq(request.first.weight_row + rows.weight_offset),
            *(
                self._next.levels[step].eq(levels[step])
                for step in range(self._parameters.neuron.input_steps)
            ),
            self._next.groups_left.eq(request.first.groups),
            self._next.columns_left.eq(request.first.columns),
            self._next.rows_left.eq(rows.rows),
        ]

    def offer_close(self, m: Module, *, bank: Value, last: Value, error: Value) -> None:
        """Let a row be closed next."""
        m.d.comb += [
            self._next.is_close.eq(1),
            self._next.bank.eq(bank),
            self._next.last.eq(last),
            self._next.error.eq(error),
        ]
