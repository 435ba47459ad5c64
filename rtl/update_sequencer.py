"""Reads a closed bank and feeds its neurons to the neuron array, while the other bank integrates."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from lmht.rtl.address_generator import bank_layout
from lmht.rtl.parameters import TileParameters
from lmht.rtl.synapse_lanes import READ_CYCLES, accumulator_row_layout, accumulators_layout

__all__ = ["UpdateSequencer", "update_row_layout"]


def update_row_layout(parameters: TileParameters) -> data.StructLayout:
    """One update row: the accumulators of `update_lanes` neurons; ``last`` row of the frame, ``error`` of the frame."""
    return data.StructLayout(
        {
            "last": 1,
            "error": 1,
            "accumulators": data.ArrayLayout(accumulators_layout(parameters), parameters.update_lanes),
        }
    )


class UpdateSequencer(wiring.Component):
    """Turn closed banks into streams of update rows, in ascending order of neurons.

    Parameters
    ----------
    parameters : TileParameters

    Members
    -------
    ``closed``, ``closed_valid`` : in, :data:`~lmht.rtl.address_generator.bank_layout`, when the bank may be read
    ``freed`` : out, one bit a bank: all of it has been read
    ``reading``, ``read_bank``, ``read_group``, ``read_enable``, ``read_data`` : the bank's read port
        (:class:`~lmht.rtl.synapse_lanes.SynapseLanes`)
    ``o`` : out stream of :func:`update_row_layout`, ``update_rows`` a frame

    Banks close in turn (0, 1, 0, …). While the rows of one accumulator row leave, the next one is fetched, so that
    the stream runs at one update row a cycle if an accumulator row holds at least 4 of them. The bank is released when
    its last accumulator row has been taken, before the last update rows leave.
    """

    def __init__(self, *, parameters: TileParameters):
        self.parameters = parameters
        super().__init__(
            {
                "closed": In(bank_layout),
                "closed_valid": In(1),
                "freed": Out(2),
                "reading": Out(1),
                "read_bank": Out(1),
                "read_group": Out(range(parameters.groups)),
                "read_enable": Out(1),
                "read_data": In(accumulator_row_layout(parameters)),
                "o": Out(stream.Signature(update_row_layout(parameters))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        parameters = self.parameters
        slots = parameters.row_slots

        # What is known of each bank from its closing to its release.
        pending = Signal(2)
        notes = Signal(data.ArrayLayout(bank_layout, 2), reset_less=True)
        for bank in range(2):
            with m.If(self.closed_valid & (self.closed.bank == bank)):
                m.d.sync += [pending[bank].eq(1), notes[bank].eq(self.closed)]

        # Fetch side: `age` counts the cycles since `read_group` was set, until the row is there.
        bank = Signal()
        age = Signal(range(READ_CYCLES + 1))
        fetched = Signal()
        take = Signal()  # the fetched row moves to the shift register
        last_group = Signal()
        m.d.comb += [
            self.reading.eq(pending.bit_select(bank, 1)),
            self.read_bank.eq(bank),
            fetched.eq(age == READ_CYCLES),
            self.read_enable.eq(~fetched),
            last_group.eq(self.read_group == parameters.groups - 1),
        ]
        with m.If(self.reading & ~fetched):
            m.d.sync += age.eq(age + 1)
        with m.If(take):
            m.d.sync += [age.eq(0), self.read_group.eq(self.read_group + 1)]
            with m.If(last_group):
                m.d.comb += self.freed.bit_select(bank, 1).eq(1)
                m.d.sync += [self.read_group.eq(0), bank.eq(~bank), pending.bit_select(bank, 1).eq(0)]

        # Shift side: slot 0 is on the output.
        row = Signal(
            data.ArrayLayout(self.o.payload["accumulators"].shape(), slots),
            reset_less=True,
        )
        left = Signal(range(slots + 1))  # slots still to leave
        in_last_group = Signal()
        error = Signal()
        final_slots = parameters.update_rows - (parameters.groups - 1) * slots
        m.d.comb += [
            self.o.valid.eq(left != 0),
            self.o.payload.accumulators.eq(row[0]),
            self.o.payload.last.eq(in_last_group & (left == 1)),
            self.o.payload.error.eq(error),
        ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += left.eq(left - 1)
            for slot in range(slots - 1):
                m.d.sync += row[slot].eq(row[slot + 1])
        m.d.comb += take.eq(self.reading & fetched & ((left == 0) | ((left == 1) & self.o.ready)))
        with m.If(take):
            m.d.sync += [
                row.as_value().eq(Mux(notes[bank].empty, 0, self.read_data.as_value())),
                left.eq(Mux(last_group, final_slots, slots)),
                in_last_group.eq(last_group),
                error.eq(notes[bank].error),
            ]
        return m
