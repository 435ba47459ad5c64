"""Walks the output pixels and lane groups of each event, one a cycle, and closes the rows that are complete."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, ShapeLike, Signal, Value, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from lmht.rtl.pipeline import delay
from lmht.rtl.pixel_walk import closed_layout, touched_layout
from lmht.rtl.row_scheduler import INPUTS, RowScheduler, levels_layout, request_ports
from lmht.rtl.tile_parameters import WEIGHT_MEMORIES, TileParameters

__all__ = [
    "FIRST_CYCLES",
    "AddressGenerator",
    "address_ports",
    "fetch_layout",
    "operation_layout",
    "touched_bits",
    "weight_row_bits",
]

FIRST_CYCLES = 2
"""Cycles from an operation to its ``first``: the bits of all pixels are wide, and their choice takes time."""


def operation_layout(parameters: TileParameters) -> data.StructLayout:
    """One cycle of the synapse lanes: add ``levels`` times a weight row to accumulator row ``row`` of ``bank``."""
    return data.StructLayout(
        {
            "projection": range(len(parameters.projections)),
            "bank": range(parameters.banks),
            "row": range(parameters.bank_rows),
            "weight_row": weight_row_bits(parameters),
            "levels": levels_layout(parameters),
        }
    )


def fetch_layout(parameters: TileParameters) -> data.StructLayout:
    """An accumulator row that an update asks for."""
    return data.StructLayout({"bank": range(parameters.banks), "row": range(parameters.bank_rows)})


def touched_bits(parameters: TileParameters) -> data.ArrayLayout:
    """A bit of each bank for every pixel (with :attr:`TileParameters.partial`: accumulator row) that an event met."""
    parts = parameters.groups if parameters.partial else 1
    return touched_layout(width=parameters.width, banks=parameters.banks, parts=parts)


def weight_row_bits(parameters: TileParameters) -> int:
    """Width of the address of the deepest weight memory."""
    return max(shape.row_bits for name, shape in parameters.memories.items() if name in WEIGHT_MEMORIES)


def address_ports(
    parameters: TileParameters, *, operation: ShapeLike, first: ShapeLike, pulses: ShapeLike
) -> dict[str, wiring.Member]:
    """Members of an address generator, :class:`AddressGenerator` or that of unrolled taps."""
    return {
        **request_ports(parameters),
        "operation": Out(operation),
        "operation_valid": Out(1),
        "first": Out(first),
        "closed": Out(closed_layout(parameters.banks)),
        "closed_valid": Out(1),
        "touched": Out(touched_bits(parameters)),
        "freed": In(parameters.banks),
        "pulses": Out(pulses),
    }


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
    ``fetch``, ``fetch_valid`` : in, :func:`fetch_layout`: in this cycle no operation is issued; ``operation`` names
        this row instead, without ``operation_valid``
    ``pulses`` : out, ``frames``, ``integrate`` (operations), ``stalls`` (an event or a closing waits for a bank)

    An event takes a cycle for each output pixel and lane group it reaches, a closing one, and a row that is fetched
    takes one from them. Events follow each other without a gap, but for those of
    :class:`~lmht.rtl.row_scheduler.RowScheduler`, which also says in which order they come. What that lets pass finds
    its banks free.
    """

    PULSES = data.StructLayout({"frames": 1, "integrate": 1, "stalls": 1})

    def __init__(self, *, parameters: TileParameters):
        self.parameters = parameters
        super().__init__(
            {
                **address_ports(
                    parameters, operation=operation_layout(parameters), first=unsigned(1), pulses=self.PULSES
                ),
                "fetch": In(fetch_layout(parameters)),
                "fetch_valid": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.scheduler = scheduler = RowScheduler(parameters=self.parameters)
        for name in INPUTS[: len(self.parameters.projections)]:
            wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(scheduler, name))
        walk = _Walk(m, self.parameters, scheduler)
        item = walk.item

        busy = Signal(self.parameters.banks)  # banks that wait for their update, or are in it
        issue = Signal()
        close = Signal()
        m.d.comb += [
            scheduler.busy.eq(busy),
            issue.eq(walk.valid & ~item.is_close & self._has_turn()),
            close.eq(walk.valid & item.is_close),
            walk.step.eq(issue),
            walk.done.eq(walk.valid & walk.at_end & (item.is_close | self._has_turn())),
        ]
        m.d.sync += busy.eq(busy & ~self.freed)
        with m.If(close):
            m.d.sync += busy.bit_select(item.bank, 1).eq(1)

        m.d.sync += [
            self.operation_valid.eq(issue),
            self.operation.projection.eq(item.projection),
            self.operation.bank.eq(Mux(self.fetch_valid, self.fetch.bank, item.bank)),
            self.operation.row.eq(Mux(self.fetch_valid, self.fetch.row, item.first.row)),
            self.operation.weight_row.eq(item.first.weight_row),
            self.operation.levels.eq(item.levels),
            self.closed_valid.eq(close),
            self.closed.bank.eq(item.bank),
            self.closed.last.eq(item.last),
            self.closed.error.eq(item.error),
            self.pulses.frames.eq(close & item.last),
            self.pulses.integrate.eq(issue),
            self.pulses.stalls.eq(~walk.valid & scheduler.waiting),
        ]
        self._touch(m, walk)
        return m

    def _has_turn(self) -> Value:
        """The memory's read port is there for an operation."""
        return ~self.fetch_valid

    def _touch(self, m: Module, walk: _Walk) -> None:
        """Read and set the bit of each operation in the cycle behind the walk, in order."""
        parameters = self.parameters
        if parameters.partial:
            index, complete = self.operation.row, self.operation_valid
        else:
            # All groups of a pixel are met by the same event, one after the other.
            index, complete = Signal(range(parameters.width), name="column"), Signal(name="group_complete")
            m.d.sync += [index.eq(walk.item.first.column), complete.eq(walk.step & walk.at_group_end)]
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
    came each time it is entered again, so that every step changes one coordinate by one.
    """

    def __init__(self, m: Module, parameters: TileParameters, scheduler: RowScheduler):
        projections = parameters.projections
        offered = scheduler.o
        self.valid = Signal(name="walk_valid")
        self.item = item = Signal(offered.payload.shape(), name="walk", reset_less=True)
        self.step = Signal(name="walk_step")
        self.done = Signal(name="walk_done")
        # What is left of each loop is counted down in the item.
        self.at_group_end = item.first.groups == 0
        at_column_end = item.first.columns == 0
        self.at_end = Signal(name="walk_at_end", reset_less=True)  # with the item: its last step
        m.d.comb += offered.ready.eq(~self.valid | self.done)

        # Where an event reaches one pixel (one row), its groups (columns) are walked one way only.
        several_rows = parameters.banks > 2
        several_pixels = several_rows or len(item.first.columns) > 0
        groups = Signal.like(item.first.groups, name="walk_groups", reset_less=True)
        columns = Signal.like(item.first.columns, name="walk_columns", reset_less=True)
        groups_back = Signal(int(several_pixels), name="walk_groups_back")
        columns_back = Signal(int(several_rows), name="walk_columns_back")
        taps = [parameters.span(index) * own.input.channels for index, own in enumerate(projections)]
        column_step = self._of_projection(
            [tap * own.stride[1] for tap, own in zip(taps, projections, strict=True)]
        )
        row_step = self._of_projection(
            [tap * own.kernel[1] * own.stride[0] for tap, own in zip(taps, projections, strict=True)]
        )
        row, column, weight_row = item.first.row, item.first.column, item.first.weight_row
        single_group = Signal(name="walk_single_group", reset_less=True)
        single_column = Signal(name="walk_single_column", reset_less=True)
        with m.If(self.step):
            m.d.sync += self.at_end.eq(
                Mux(
                    self.at_group_end,
                    single_group
                    & Mux(
                        at_column_end,
                        (item.rows == 1) & single_column,
                        (item.first.columns == 1) & (item.rows == 0),
                    ),
                    (item.first.groups == 1) & at_column_end & (item.rows == 0),
                )
            )
            with m.If(~self.at_group_end):
                sign = Mux(groups_back, -1, 1)
                m.d.sync += [
                    item.first.groups.eq(item.first.groups - 1),
                    row.eq(row + sign),
                    weight_row.eq(weight_row + sign),
                ]
            with m.Else():
                m.d.sync += [item.first.groups.eq(groups), groups_back.eq(~groups_back)]
                with m.If(~at_column_end):
                    # Towards higher tap columns the output columns go down.
                    m.d.sync += [
                        item.first.columns.eq(item.first.columns - 1),
                        column.eq(column + Mux(columns_back, 1, -1)),
                        row.eq(row + Mux(columns_back, parameters.groups, -parameters.groups)),
                        weight_row.eq(weight_row + Mux(columns_back, -column_step, column_step)),
                    ]
                with m.Else():
                    m.d.sync += [
                        item.first.columns.eq(columns),
                        columns_back.eq(~columns_back),
                        item.rows.eq(item.rows - 1),
                        item.bank.eq(Mux(item.bank == 0, parameters.banks - 1, item.bank - 1)),
                        weight_row.eq(weight_row + row_step),
                    ]
        with m.If(offered.ready):
            m.d.sync += [
                item.eq(offered.payload),
                self.valid.eq(offered.valid),
                self.at_end.eq(
                    offered.payload.is_close
                    | (
                        (offered.payload.first.groups == 0)
                        & (offered.payload.first.columns == 0)
                        & (offered.payload.rows == 0)
                    )
                ),
                single_group.eq(offered.payload.first.groups == 0),
                single_column.eq(offered.payload.first.columns == 0),
                groups.eq(offered.payload.first.groups),
                columns.eq(offered.payload.first.columns),
                groups_back.eq(0),
                columns_back.eq(0),
            ]

    def _of_projection(self, values: list[int]) -> Value | int:
        if values[0] == values[-1]:
            return values[0]
        return Mux(self.item.projection, values[1], values[0])
