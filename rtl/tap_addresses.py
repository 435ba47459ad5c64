"""Address generator that integrates all taps of an event at once, for one group of lanes a cycle."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring

from lmht.rtl.address_generator import AddressGenerator, address_ports, weight_row_bits
from lmht.rtl.event_address import column_banks, lookup
from lmht.rtl.pipeline import delay
from lmht.rtl.row_scheduler import INPUTS, RowScheduler, levels_layout, rows_up
from lmht.rtl.select import any_of
from lmht.rtl.tile_parameters import TileParameters

__all__ = ["TapAddressGenerator", "tap_operation_layout"]


def tap_operation_layout(parameters: TileParameters) -> data.StructLayout:
    """One cycle of the tap lanes: all taps of an event that meet an output pixel, for one group of lanes.

    ``rows``: for every bank whether the event reaches its output row, and through which kernel row; ``columns``: for
    every column bank whether it reaches a column there, through which tap column, and the accumulator row of that
    column and group. Every pair of a row and a column that it reaches is a pixel.
    """
    kernels = [projection.kernel for projection in parameters.projections]
    row = data.StructLayout({"reached": 1, "kernel_row": range(max(rows for rows, _ in kernels))})
    column = data.StructLayout(
        {
            "reached": 1,
            "tap": range(max(columns for _, columns in kernels)),
            "row": range(parameters.bank_rows),
        }
    )
    return data.StructLayout(
        {
            "projection": range(len(parameters.projections)),
            "weight_row": weight_row_bits(parameters),
            "levels": levels_layout(parameters),
            "rows": data.ArrayLayout(row, parameters.banks),
            "columns": data.ArrayLayout(column, column_banks(parameters)),
        }
    )


class TapAddressGenerator(wiring.Component):
    """Issue one operation for every event and group of lanes, and close every row that no further event reaches.

    Parameters
    ----------
    parameters : TileParameters
        With ``tap_unroll``.

    Members
    -------
    ``operation``, ``operation_valid`` : out, :func:`tap_operation_layout`; cannot be refused
    ``first`` : out, for every bank one bit for each column bank, ``FIRST_CYCLES`` cycles after the operation
    and the others of :class:`~lmht.rtl.address_generator.AddressGenerator`; ``touched`` is complete 2 cycles after the
    row's last operation

    An event takes a cycle for each group of lanes it meets, a closing one.
    """

    PULSES = AddressGenerator.PULSES

    def __init__(self, *, parameters: TileParameters):
        self.parameters = parameters
        super().__init__(
            address_ports(
                parameters,
                operation=tap_operation_layout(parameters),
                first=data.ArrayLayout(column_banks(parameters), parameters.banks),
                pulses=self.PULSES,
            )
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        parameters = self.parameters
        banks = parameters.banks
        m.submodules.scheduler = scheduler = RowScheduler(parameters=parameters)
        for name in INPUTS[: len(parameters.projections)]:
            wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(scheduler, name))

        offered = scheduler.o
        item = Signal(offered.payload.shape(), reset_less=True)
        item_valid = Signal()
        reached = Signal(banks, reset_less=True)
        busy = Signal(banks)  # banks that wait for their update, or are in it
        issue = Signal()
        close = Signal()
        last_group = item.first.groups == 0
        m.d.comb += [
            scheduler.busy.eq(busy),
            issue.eq(item_valid & ~item.is_close),
            close.eq(item_valid & item.is_close),
            offered.ready.eq(~item_valid | close | (issue & last_group)),
        ]
        m.d.sync += busy.eq((busy & ~self.freed) | Mux(close, reached, 0))
        with m.If(issue):
            m.d.sync += [
                item.first.groups.eq(item.first.groups - 1),
                item.first.row.eq(item.first.row + 1),
                item.first.weight_row.eq(item.first.weight_row + 1),
            ]
        with m.If(offered.ready):
            m.d.sync += [
                item.eq(offered.payload),
                item_valid.eq(offered.valid),
                # A closing reaches its own row only.
                reached.eq(
                    Cat(
                        rows_up(offered.payload.bank, bank, banks) <= offered.payload.rows
                        for bank in range(banks)
                    )
                ),
            ]

        m.d.sync += [
            self.operation_valid.eq(issue),
            self.operation.projection.eq(item.projection),
            self.operation.weight_row.eq(item.first.weight_row),
            self.operation.levels.eq(item.levels),
            self.closed_valid.eq(close),
            self.closed.bank.eq(item.bank),
            self.closed.last.eq(item.last),
            self.closed.error.eq(item.error),
            self.pulses.frames.eq(close & item.last),
            self.pulses.integrate.eq(issue),
            self.pulses.stalls.eq(~item_valid & scheduler.waiting),
        ]
        for bank in range(banks):
            up = rows_up(item.bank, bank, banks)
            m.d.sync += [
                self.operation.rows[bank].reached.eq(reached[bank]),
                self.operation.rows[bank].kernel_row.eq(
                    item.kernel_row + self._strides(item.projection, 0, up)
                ),
            ]
        places = []
        for column_bank in range(column_banks(parameters)):
            left = self._columns_left(item.first.column_bank, column_bank)
            target = self.operation.columns[column_bank]
            m.d.sync += [
                target.reached.eq(left <= item.first.columns),
                target.tap.eq(item.first.tap + self._strides(item.projection, 1, left)),
                target.row.eq(item.first.row - left * parameters.groups),
            ]
            place: Value = target.row
            if not parameters.partial:
                place = Signal(range(parameters.width), name=f"column_{column_bank}", reset_less=True)
                m.d.sync += place.eq(item.first.column - left)
            places.append(place)
        # All groups of a pixel are met by the same event, one after the other.
        complete = Signal()
        m.d.sync += complete.eq(issue if parameters.partial else issue & last_group)
        self._touch(m, places, complete)
        return m

    def _columns_left(self, rightmost: Value, column_bank: int) -> Value:
        """How far to the left of the rightmost column that an event reaches the one in `column_bank` lies."""
        banks = column_banks(self.parameters)
        return lookup([(other - column_bank) % banks for other in range(banks)], rightmost)

    def _strides(self, projection: Value, axis: int, steps: Value) -> Value:
        """Taps between output pixels that lie `steps` apart."""
        shifts = [own.stride[axis].bit_length() - 1 for own in self.parameters.projections]
        if shifts[0] == shifts[-1]:
            return steps << shifts[0]
        return Mux(projection, steps << shifts[1], steps << shifts[0])

    def _touch(self, m: Module, places: list[Value], complete: Value) -> None:
        """Read and set the bits of each operation in order, two cycles behind the walk."""
        parameters = self.parameters
        groups = parameters.groups if parameters.partial else 1
        # Which bits of a row: one a column bank, unless it has none.
        at = Signal(len(self.touched[0]), reset_less=True)
        banks_of_bits = [position // groups % len(places) for position in range(len(at))]
        m.d.sync += [
            at[position].eq(self.operation.columns[bank].reached & (places[bank] == position))
            for position, bank in enumerate(banks_of_bits)
        ]
        setting = delay(m, complete, 1, name="setting", reset_less=False)
        for bank in range(parameters.banks):
            bits = self.touched[bank]
            in_row = delay(m, self.operation.rows[bank].reached, 1, name=f"in_row_{bank}")
            with m.If(setting & in_row):
                m.d.sync += bits.eq(bits | at)
            with m.If(self.freed[bank]):
                m.d.sync += bits.eq(0)
            m.d.sync += self.first[bank].eq(
                Cat(
                    ~any_of(
                        bits[position] & at[position]
                        for position, other in enumerate(banks_of_bits)
                        if other == column_bank
                    )
                    for column_bank in range(len(places))
                )
            )
