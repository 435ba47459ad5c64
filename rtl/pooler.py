"""Pools spike levels over windows of the map before they are encoded."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect
from amaranth.utils import bits_for

from lmht.rtl.memory import Ram
from lmht.rtl.memory_shape import MemoryShape
from lmht.rtl.pipeline import ShiftAddTree, delay, divide
from lmht.rtl.pixel_walk import PixelWalk
from lmht.rtl.row_fetch import RowFetch
from lmht.rtl.spike_encoder import map_vector_layout, spike_vector_layout
from lmht.rtl.tile_parameters import TileParameters

__all__ = ["Pooler"]

BUFFERS = 2
READ_CYCLES = 2
WRITE_CYCLE = READ_CYCLES + 1
"""Cycle of a vector, counted from the read of its window, in which the result is written."""


class Pooler(wiring.Component):
    """Sum or maximum of each neuron's levels over the pixels of a window.

    Parameters
    ----------
    parameters : TileParameters
        With ``pooling``.

    Members
    -------
    ``i`` : in stream of :func:`~lmht.rtl.spike_encoder.map_vector_layout`; each row of the map ends with a vector with
        ``last``; vectors without spikes may be missing
    ``o`` : out stream of :func:`~lmht.rtl.spike_encoder.spike_vector_layout`, pixels in ascending order; each row of
        the pooled map ends with a vector with ``last``

    A row of windows is collected in one buffer while the one before is sent from the other, which is cleared on the
    way. It is complete with its last row of the map; the last one of a frame with the frame's end. Pixels in a window
    that the map cuts off are left out.

    Throughput: a vector in and a vector out a cycle, but for 2 cycles from one row of windows to the next on the way
    out; windows without a spike take none. After a reset the buffers are cleared first, a row a cycle.
    """

    def __init__(self, *, parameters: TileParameters):
        if parameters.pooling is None:
            raise ValueError("parameters must have pooling, not None")
        self.parameters = parameters
        self._pooling = parameters.pooling
        self._height, self._width = parameters.pooling.pooled(parameters.height, parameters.width)
        super().__init__(
            {
                "i": In(stream.Signature(map_vector_layout(parameters))),
                "o": Out(stream.Signature(spike_vector_layout(parameters))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        rows = self.parameters.update_rows
        depth = self._width * rows
        row_layout = self.o.payload["levels"].shape()
        buffers = [
            Ram(m, f"buffer_{index}", shape=MemoryShape(width=row_layout.size, depth=depth))
            for index in range(BUFFERS)
        ]
        m.submodules.walk = walk = PixelWalk(width=self._width, banks=BUFFERS)
        m.submodules.fetch = fetch = RowFetch(width=self._width, banks=BUFFERS, parts=rows)
        connect(m, walk.o, fetch.i)
        m.d.comb += walk.silent.eq(1)

        # What is read is cleared one cycle later; after a reset, everything.
        clearing = Signal(init=1)
        cleared = Signal(BUFFERS, init=2**BUFFERS - 1)
        cleared_row = Signal(range(depth))
        with m.If(clearing):
            m.d.sync += cleared_row.eq(cleared_row + 1)
            with m.If(cleared_row == depth - 1):
                m.d.sync += [clearing.eq(0), cleared.eq(0)]
        with m.Else():
            m.d.sync += [
                cleared.eq(_one_hot(fetch.read_bank, fetch.reading & fetch.read_enable)),
                cleared_row.eq(fetch.read_row),
            ]

        busy = Signal(BUFFERS)  # complete, and not yet sent
        freed = walk.freed | fetch.freed
        vector, closing = self._accept(m, clearing, busy)
        m.d.sync += busy.eq((busy | closing) & ~freed)
        where, result, result_valid = self._combine(m, buffers, vector, walk, freed)

        for index, buffer in enumerate(buffers):
            owned = Signal(name=f"owned_{index}")
            m.d.comb += [
                owned.eq(fetch.reading & (fetch.read_bank == index)),
                buffer.read_row.eq(Mux(owned, fetch.read_row, vector.address)),
                buffer.read_enable.eq(Mux(owned, fetch.read_enable, 1)),
                buffer.write_enable.eq(cleared[index] | (result_valid & (where.bank == index))),
                buffer.write_row.eq(Mux(cleared[index], cleared_row, where.address)),
                buffer.write_data.eq(Mux(cleared[index], 0, result.as_value())),
            ]
        self._send(m, buffers, fetch)
        return m

    def _accept(self, m: Module, clearing: Signal, busy: Signal) -> tuple[data.View, Signal]:
        """Vectors with the address of their window, and the buffer that is complete with the one that enters."""
        parameters, payload = self.parameters, self.i.payload
        rows, columns = self._pooling.size
        window_row = Signal(range(rows))  # row of the map in its row of windows
        pooled_row = Signal(range(self._height))
        below = Signal()  # behind the last complete row of windows
        bank = Signal()
        take = Signal()
        last_of_window = Signal()
        closes = Signal()
        m.d.comb += [
            self.i.ready.eq(~clearing & ~busy.bit_select(bank, 1)),
            take.eq(self.i.valid & self.i.ready),
            last_of_window.eq(window_row == rows - 1),
            closes.eq(
                take & payload.last & (payload.frame | (last_of_window & (pooled_row != self._height - 1)))
            ),
        ]
        with m.If(take & payload.last):
            m.d.sync += window_row.eq(Mux(last_of_window, 0, window_row + 1))
            with m.If(payload.frame):
                m.d.sync += [window_row.eq(0), pooled_row.eq(0), below.eq(0)]
            with m.Elif(last_of_window):
                m.d.sync += [pooled_row.eq(pooled_row + ~below), below.eq(pooled_row == self._height - 1)]
        with m.If(closes):
            m.d.sync += bank.eq(~bank)

        valid = Signal()
        closing = Signal()
        entered = Signal(payload.shape(), reset_less=True)
        entered_bank = Signal(reset_less=True)
        m.d.sync += [
            valid.eq(take & ~below & (payload.x < self._width * columns)),
            closing.eq(closes),
            entered.eq(payload),
            entered_bank.eq(bank),
        ]
        always = Const(1)
        column, latency = divide(m, always, entered.x, columns, largest=parameters.width - 1, name="column")
        row = delay(m, entered.row, latency, name="row")
        tree = ShiftAddTree(
            [(column, parameters.update_rows), (row, 1)], bits_for(self._width * parameters.update_rows - 1)
        )
        address = tree.build(m, always, "address")
        vector = Signal(
            data.StructLayout(
                {
                    "valid": 1,
                    "closes": 1,
                    "bank": 1,
                    "column": range(self._width),
                    "address": range(self._width * parameters.update_rows),
                    "frame": 1,
                    "error": 1,
                    "levels": payload.shape()["levels"].shape,
                }
            )
        )
        latency += tree.latency
        speaks = valid & entered.levels.as_value().any()
        m.d.comb += [
            vector.valid.eq(delay(m, speaks, latency, name="speaks", reset_less=False)),
            vector.closes.eq(delay(m, closing, latency, name="closes", reset_less=False)),
            vector.bank.eq(delay(m, entered_bank, latency, name="bank")),
            vector.column.eq(delay(m, column, tree.latency, name="column")),
            vector.address.eq(address),
            vector.frame.eq(delay(m, entered.frame, latency, name="frame")),
            vector.error.eq(delay(m, entered.error, latency, name="error")),
            vector.levels.eq(delay(m, entered.levels, latency, name="levels")),
        ]
        return vector, _one_hot(bank, closes)

    def _combine(
        self, m: Module, buffers: list[Ram], vector: data.View, walk: PixelWalk, freed: Value
    ) -> tuple[data.View, data.View, Signal]:
        """Read, add or compare, write: the window's address, its new levels, and whether they are to be written.

        The levels of windows that are still on their way are forwarded.
        """
        for index in range(BUFFERS):
            touched = Signal(self._width, name=f"touched_{index}")
            with m.If(freed[index]):
                m.d.sync += touched.eq(0)
            with m.If(vector.valid & (vector.bank == index)):
                m.d.sync += touched.bit_select(vector.column, 1).eq(1)
            m.d.comb += walk.touched[index].eq(touched)
        m.d.comb += [
            walk.closed_valid.eq(delay(m, vector.closes, WRITE_CYCLE, name="closed_valid", reset_less=False)),
            walk.closed.bank.eq(delay(m, vector.bank, WRITE_CYCLE, name="closed_bank")),
            walk.closed.last.eq(delay(m, vector.frame, WRITE_CYCLE, name="closed_last")),
            walk.closed.error.eq(delay(m, vector.error, WRITE_CYCLE, name="closed_error")),
        ]

        place = Signal(data.StructLayout({"bank": 1, "address": vector.address.shape()}))
        m.d.comb += [place.bank.eq(vector.bank), place.address.eq(vector.address)]
        where, valid = [place], [vector.valid]
        # A write is seen by reads that begin after it.
        distances = range(1, WRITE_CYCLE + 1)
        for cycle in range(1, READ_CYCLES + WRITE_CYCLE):
            where.append(delay(m, where[-1], 1, name=f"where_{cycle}"))
            valid.append(delay(m, valid[-1], 1, name=f"valid_{cycle}", reset_less=False))

        result = Signal(self.o.payload.shape()["levels"].shape, reset_less=True)
        operand: Value = Mux(where[READ_CYCLES].bank, buffers[1].read_data, buffers[0].read_data)
        for distance in reversed(distances):
            same = Signal(name=f"same_{distance}", reset_less=True)
            ahead = READ_CYCLES - 1 + distance
            m.d.sync += same.eq(valid[ahead] & (where[ahead].as_value() == where[READ_CYCLES - 1].as_value()))
            recent = delay(m, result.as_value(), distance - 1, name=f"result_{distance}")
            operand = Mux(same, recent, operand)
        stored = Signal(result.shape())
        m.d.comb += stored.as_value().eq(operand)
        levels = delay(m, vector.levels, READ_CYCLES, name="levels_read")
        for lane in range(self.parameters.update_lanes):
            for step in range(self.parameters.output.steps):
                old, new = stored[lane][step], levels[lane][step]
                m.d.sync += result[lane][step].eq(
                    old + new if self._pooling.kind == "sum" else Mux(new > old, new, old)
                )
        return where[WRITE_CYCLE], result, valid[WRITE_CYCLE]

    def _send(self, m: Module, buffers: list[Ram], fetch: RowFetch) -> None:
        """The rows of windows as the fetch reads them."""
        tag = fetch.o.payload
        row = Mux(fetch.read_bank, buffers[1].read_data, buffers[0].read_data)
        m.d.comb += [
            self.o.valid.eq(fetch.o.valid),
            fetch.o.ready.eq(self.o.ready),
            self.o.payload.x.eq(tag.x),
            self.o.payload.row.eq(tag.part),
            self.o.payload.last.eq(tag.last),
            self.o.payload.frame.eq(tag.frame),
            self.o.payload.error.eq(tag.error),
            self.o.payload.levels.eq(Mux(tag.empty, 0, row)),
        ]


def _one_hot(bank: Value, enable: Value) -> Cat:
    """A bit for each buffer: 1 for `bank`, if `enable`."""
    return Cat(enable & (bank == index) for index in range(BUFFERS))
