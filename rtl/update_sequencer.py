"""Reads closed rows of the map and feeds their neurons to the neuron array, while other rows integrate."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect

from lmht.rtl.pixel_walk import PixelWalk, closed_layout, touched_layout
from lmht.rtl.row_fetch import RowFetch
from lmht.rtl.synapse_lanes import accumulator_row_layout, accumulators_layout
from lmht.rtl.tile_parameters import TileParameters

__all__ = ["UpdateSequencer", "update_row_layout"]


def update_row_layout(parameters: TileParameters) -> data.StructLayout:
    """One update row: the accumulators of `update_lanes` neurons of pixel ``x``.

    ``last`` vector of this row of the map; with it ``frame``, the last row of the frame, and the frame's ``error``;
    ``empty``: nothing to update, the row had no pixel to visit (with ``last`` only); ``quiet``, never with ``empty``:
    no event has touched the pixel, and its levels come from the table of ``constant_events``.
    """
    return data.StructLayout(
        {
            "x": range(parameters.width),
            "last": 1,
            "frame": 1,
            "error": 1,
            "empty": 1,
            "quiet": 1,
            "accumulators": data.ArrayLayout(accumulators_layout(parameters), parameters.update_lanes),
        }
    )


class UpdateSequencer(wiring.Component):
    """Turn closed rows of the map into update rows, in ascending order of pixels and neurons.

    Parameters
    ----------
    parameters : TileParameters

    Members
    -------
    ``closed``, ``closed_valid`` : in, :func:`~lmht.rtl.pixel_walk.closed_layout`, when the bank may be read
    ``touched`` : in, :func:`~lmht.rtl.pixel_walk.touched_layout`: a bit a pixel, or an accumulator row if
        ``parameters.partial``; that of a bank stays as it is until the bank is freed
    ``silent`` : in, pixels without events have no spikes; constant while frames run
    ``freed`` : out, one bit a bank: what it held has been read
    ``reading``, ``read_bank``, ``read_row``, ``read_enable``, ``read_data`` : the banks' read port
        (:class:`~lmht.rtl.synapse_lanes.SynapseLanes`); a bank is ``reading`` from the cycle after its closing until
        it has been freed, which costs the way to the memories no logic
    ``o`` : out stream of :func:`update_row_layout`, ``update_rows`` a pixel
    ``pulses`` : out, ``skipped`` pixels

    With `skip_quiet`, and while ``silent``, pixels that no event has touched are passed over, and a row without any
    other costs one word with ``empty``. Otherwise they are sent all the same, with ``constant_events`` as ``quiet``;
    what no event has touched counts as zeros. A classifier always sends its pixel.

    Throughput: one update row a cycle inside an accumulator row, and one accumulator row a cycle, but for 2 cycles from
    one row of the map to the next. A bank is freed when its last accumulator row has been taken, before the
    last update rows leave.
    """

    PULSES = PixelWalk.PULSES

    def __init__(self, *, parameters: TileParameters):
        self.parameters = parameters
        banks, width = parameters.banks, parameters.width
        self._parts_touched = parameters.groups if parameters.partial else 1
        super().__init__(
            {
                "closed": In(closed_layout(banks)),
                "closed_valid": In(1),
                "touched": In(touched_layout(width=width, banks=banks, parts=self._parts_touched)),
                "silent": In(1),
                "freed": Out(banks),
                "reading": Out(banks),
                "read_bank": Out(range(banks)),
                "read_row": Out(range(parameters.bank_rows)),
                "read_enable": Out(1),
                "read_data": In(accumulator_row_layout(parameters)),
                "o": Out(stream.Signature(update_row_layout(parameters))),
                "pulses": Out(self.PULSES),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        parameters = self.parameters
        slots = parameters.row_slots

        m.submodules.walk = walk = PixelWalk(
            width=parameters.width,
            banks=parameters.banks,
            parts=self._parts_touched,
            skips=parameters.skip_quiet and not parameters.neuron.is_classifier,
        )
        m.submodules.fetch = fetch = RowFetch(
            width=parameters.width,
            banks=parameters.banks,
            parts=parameters.groups,
            partial=parameters.partial,
        )
        connect(m, walk.o, fetch.i)
        m.d.comb += [
            walk.closed.eq(self.closed),
            walk.closed_valid.eq(self.closed_valid),
            walk.touched.eq(self.touched),
            walk.silent.eq(self.silent),
            self.pulses.eq(walk.pulses),
            self.freed.eq(walk.freed | fetch.freed),
            self.read_bank.eq(fetch.read_bank),
            self.read_row.eq(fetch.read_row),
            self.read_enable.eq(fetch.read_enable),
        ]

        for bank in range(parameters.banks):
            with m.If(self.closed_valid & (self.closed.bank == bank)):
                m.d.sync += self.reading[bank].eq(1)
            with m.Elif(self.freed[bank]):
                m.d.sync += self.reading[bank].eq(0)

        # An accumulator row is shifted out: slot 0 is on the output.
        fetched = fetch.o.payload
        row = Signal(data.ArrayLayout(self.o.payload["accumulators"].shape(), slots), reset_less=True)
        tag = Signal(fetched.shape(), reset_less=True)
        left = Signal(range(slots + 1))  # slots still to leave
        final_slots = parameters.update_rows - (parameters.groups - 1) * slots
        m.d.comb += [
            self.o.valid.eq(left != 0),
            self.o.payload.accumulators.eq(row[0]),
            self.o.payload.x.eq(tag.x),
            self.o.payload.last.eq(tag.last & (left == 1)),
            self.o.payload.frame.eq(tag.frame),
            self.o.payload.error.eq(tag.error),
            self.o.payload.empty.eq(tag.empty),
            self.o.payload.quiet.eq(tag.quiet & int(parameters.constant_events)),
            fetch.o.ready.eq((left == 0) | ((left == 1) & self.o.ready)),
        ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += left.eq(left - 1)
            for slot in range(slots - 1):
                m.d.sync += row[slot].eq(row[slot + 1])
        with m.If(fetch.o.valid & fetch.o.ready):
            m.d.sync += [
                row.as_value().eq(Mux(fetched.untouched, 0, self.read_data.as_value())),
                left.eq(Mux(fetched.last_part, final_slots, slots)),
                tag.eq(fetched),
            ]
            with m.If(fetched.empty):
                m.d.sync += left.eq(1)
        return m
