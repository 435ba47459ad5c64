"""Fetches the accumulators of closed rows and feeds their neurons to the neuron array, while other rows integrate."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from lmht.rtl.address_generator import fetch_layout
from lmht.rtl.pipeline import delay, times
from lmht.rtl.pixel_walk import PixelWalk, closed_layout, touched_layout
from lmht.rtl.row_queue import RowQueue
from lmht.rtl.synapse_lanes import FETCH_CYCLES, accumulator_row_layout, accumulators_layout
from lmht.rtl.tile_parameters import TileParameters

__all__ = ["UpdateSequencer", "row_interval", "update_row_layout"]


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


def _tag_layout(parameters: TileParameters) -> data.StructLayout:
    """What belongs to an accumulator row: ``untouched``, it counts as zeros; ``last_part`` of its pixel; ``single``, it
    makes one update row."""
    return data.StructLayout(
        {
            "x": range(parameters.width),
            "untouched": 1,
            "quiet": 1,
            "last_part": 1,
            "single": 1,
            "last": 1,
            "frame": 1,
            "error": 1,
            "empty": 1,
        }
    )


def row_interval(parameters: TileParameters) -> int:
    """Cycles for which the neuron array needs an accumulator row at least."""
    # A quiet pixel's update row takes it a cycle; the last accumulator row of a pixel may hold fewer update rows.
    cycles = 1 if parameters.constant_events else parameters.mix_phases
    return min(parameters.row_slots, _final_slots(parameters)) * cycles


def _final_slots(parameters: TileParameters) -> int:
    """Update rows in the last accumulator row of a pixel."""
    return parameters.update_rows - (parameters.groups - 1) * parameters.row_slots


class UpdateSequencer(wiring.Component):
    """Turn closed rows of the map into update rows, in ascending order of pixels and neurons.

    Parameters
    ----------
    parameters : TileParameters

    Members
    -------
    ``closed``, ``closed_valid`` : in, :func:`~lmht.rtl.pixel_walk.closed_layout`; the bank may be fetched from the next
        cycle on
    ``touched`` : in, :func:`~lmht.rtl.pixel_walk.touched_layout`: a bit a pixel, or an accumulator row if
        ``parameters.partial``; that of a bank stays as it is until the bank is freed
    ``silent`` : in, pixels without events have no spikes; constant while frames run
    ``freed`` : out, one bit a bank, with the last ``fetch`` of it or later
    ``fetch``, ``fetch_valid`` : out, :func:`~lmht.rtl.address_generator.fetch_layout`, an accumulator row that is asked
        for; only such that an event has touched
    ``read_data`` : in, this row, ``FETCH_CYCLES`` later
    ``o`` : out stream of :func:`update_row_layout`, ``update_rows`` a pixel
    ``pulses`` : out, ``skipped`` pixels

    With `skip_quiet`, and while ``silent``, pixels that no event has touched are passed over, and a row without any
    other costs one word with ``empty``. Otherwise they are sent all the same, with ``constant_events`` as ``quiet``;
    what no event has touched counts as zeros. A classifier always sends its pixel.

    Throughput: one update row every ``mix_phases`` cycles, every cycle with ``constant_events``. Latency: up to
    ``FETCH_CYCLES + 3`` cycles from a pixel to its first update row.
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
                "fetch": Out(fetch_layout(parameters)),
                "fetch_valid": Out(1),
                "read_data": In(accumulator_row_layout(parameters)),
                "o": Out(stream.Signature(update_row_layout(parameters))),
                "pulses": Out(self.PULSES),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        parameters = self.parameters
        m.submodules.walk = walk = PixelWalk(
            width=parameters.width,
            banks=parameters.banks,
            parts=self._parts_touched,
            skips=parameters.skip_quiet and not parameters.neuron.is_classifier,
        )
        m.submodules.queue = queue = RowQueue(
            row=accumulator_row_layout(parameters),
            tag=_tag_layout(parameters),
            answer_cycles=1 + FETCH_CYCLES,
            interval=row_interval(parameters),
        )
        m.d.comb += [
            walk.closed.eq(self.closed),
            walk.closed_valid.eq(self.closed_valid),
            walk.touched.eq(self.touched),
            walk.silent.eq(self.silent),
            self.pulses.eq(walk.pulses),
            queue.answer.eq(self.read_data),
        ]
        self._ask(m, walk, queue)
        self._send(m, queue)
        return m

    def _ask(self, m: Module, walk: PixelWalk, queue: RowQueue) -> None:
        """Ask for the rows of a pixel one after the other; a row of the map without any asks for nothing, but waits its
        turn."""
        parameters = self.parameters
        parts = parameters.groups
        pixel = walk.o.payload
        part = Signal(range(parts))
        last_part = Signal()
        touched = pixel.touched.bit_select(part, 1) if parameters.partial else pixel.touched
        m.d.comb += [
            last_part.eq((part == parts - 1) | pixel.empty),
            walk.o.ready.eq(queue.room & last_part),
            queue.request.eq(walk.o.valid & queue.room),
            # What no event has touched counts as zeros: it is not worth a cycle of the integration.
            queue.answered.eq(touched),
            queue.tag.x.eq(pixel.x),
            queue.tag.untouched.eq(~touched),
            queue.tag.quiet.eq(~pixel.touched.any() & ~pixel.empty),
            queue.tag.last_part.eq(last_part),
            queue.tag.single.eq(
                pixel.empty
                | Mux(last_part, int(_final_slots(parameters) == 1), int(parameters.row_slots == 1))
            ),
            queue.tag.last.eq(pixel.last & last_part),
            queue.tag.frame.eq(pixel.frame),
            queue.tag.error.eq(pixel.error),
            queue.tag.empty.eq(pixel.empty),
        ]
        leaving = Signal(parameters.banks)
        m.d.sync += [
            self.fetch_valid.eq(queue.request & queue.answered),
            self.fetch.bank.eq(pixel.bank),
            leaving.eq(0),
        ]
        with m.If(queue.request):
            m.d.sync += [
                part.eq(Mux(last_part, 0, part + 1)),
                self.fetch.row.eq(Mux(part == 0, times(pixel.x, parts), self.fetch.row + 1)),
            ]
            with m.If(last_part & pixel.last & ~pixel.empty):
                m.d.sync += leaving.bit_select(pixel.bank, 1).eq(1)
        m.d.comb += self.freed.eq(leaving | delay(m, walk.freed, 1, name="skipped", reset_less=False))

    def _send(self, m: Module, queue: RowQueue) -> None:
        """Update rows of an accumulator row leave one after the other."""
        parameters = self.parameters
        slots = parameters.row_slots
        tag, row = queue.o.payload.tag, queue.o.payload.row.as_value()
        slot = Signal(range(slots))
        is_first = Signal(init=1)
        is_last = Signal()  # of a later slot
        last_slot = Signal()
        width = self.o.payload.accumulators.as_value().shape().width
        m.d.comb += [
            last_slot.eq(Mux(is_first, tag.single, is_last)),
            queue.o.ready.eq(self.o.ready & last_slot),
            self.o.valid.eq(queue.o.valid),
            self.o.payload.accumulators.as_value().eq(Mux(tag.untouched, 0, row.word_select(slot, width))),
            self.o.payload.x.eq(tag.x),
            self.o.payload.last.eq(tag.last & last_slot),
            self.o.payload.frame.eq(tag.frame),
            self.o.payload.error.eq(tag.error),
            self.o.payload.empty.eq(tag.empty),
            self.o.payload.quiet.eq(tag.quiet & int(parameters.constant_events)),
        ]
        # Which slot is the last one is known with the slot: it decides whether a whole row moves.
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += [
                slot.eq(Mux(last_slot, 0, slot + 1)),
                is_first.eq(last_slot),
                is_last.eq(slot + 2 == Mux(tag.last_part, _final_slots(parameters), slots)),
            ]
