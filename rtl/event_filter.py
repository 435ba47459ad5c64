"""Gate of a tile: drops what lies outside the layer, counts row tokens, turns coordinates into addresses."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from lmht.rtl.event_address import EventAddress, exceeds, first_operation_layout, is_flat
from lmht.rtl.events import EventKind
from lmht.rtl.pipeline import delay
from lmht.rtl.tile_parameters import TileParameters

__all__ = ["EventFilter", "synapse_request_layout"]


def synapse_request_layout(parameters: TileParameters, projection: int) -> data.StructLayout:
    """What the filter passes on: ``kind``, an event's ``levels`` and ``first`` operation
    (:func:`~lmht.rtl.event_address.first_operation_layout`).

    ``error`` counts with ``FRAME_END`` only: something of the frame was malformed here or upstream.
    """
    return data.StructLayout(
        {
            "kind": EventKind,
            "error": 1,
            "first": first_operation_layout(parameters, projection),
            "levels": parameters.projections[projection].input.payload["levels"].shape,
        }
    )


class EventFilter(wiring.Component):
    """Validate events, compute where their operations begin, count rows.

    Parameters
    ----------
    parameters : TileParameters
    projection : int
        Which of the tile's projections it stands in front of.

    Members
    -------
    ``i`` : in stream of the projection's ``input``
    ``o`` : out stream of :func:`synapse_request_layout`: events that reach an output, ``ROW_END`` for every row of the
        pooled map but the last, ``FRAME_END``
    ``pulses`` : out, ``events_in`` (valid events), ``dropped``
    ``errors`` : out, ``coordinates``, ``level``, ``rows``, ``kind``

    An event outside the feature map or not of the row that the tokens say, one with a level above the maximum, and a
    word of unknown kind, is dropped, counted and flagged. Row tokens are counted, ``height - 1`` a frame; one too many
    is flagged and absorbed. Whatever was wrong in a frame sets ``error`` of its ``FRAME_END``, and nothing of it
    reaches the next frame. Valid events that reach no output (edges, other tiles' channels) are left out.

    A map whose kernel covers all its rows (a Linear layer) has no rows to close: its events come in any order, its
    row tokens are only counted.

    Latency: 1 cycle and that of :class:`~lmht.rtl.event_address.EventAddress`; throughput one word a cycle. What is
    left out takes a cycle here but none behind, where that is busy.
    """

    PULSES = data.StructLayout({"events_in": 1, "dropped": 1})
    ERRORS = data.StructLayout({"coordinates": 1, "level": 1, "rows": 1, "kind": 1})

    def __init__(self, *, parameters: TileParameters, projection: int = 0):
        self.parameters = parameters
        self.projection = projection
        super().__init__(
            {
                "i": In(parameters.projections[projection].input.signature),
                "o": Out(stream.Signature(synapse_request_layout(parameters, projection))),
                "pulses": Out(self.PULSES),
                "errors": Out(self.ERRORS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        layout = self.parameters.projections[self.projection].input

        # The whole pipeline advances together. The one behind the output keeps words of its own, so that
        # what is left out here is squeezed out while it works.
        advance = Signal()
        m.d.comb += [advance.eq(~self.o.valid | self.o.ready), self.i.ready.eq(advance)]

        word = Signal(layout.payload, reset_less=True)
        word_valid = Signal()
        with m.If(advance):
            m.d.sync += [word.eq(self.i.payload), word_valid.eq(self.i.valid)]

        take = Signal()  # `word` is judged in this cycle, once
        is_event = Signal()
        bad_coordinates = Signal()
        bad_level = Signal()
        rows_end = Signal()  # this row token closes a row of the pooled map
        row_reaches, wrong_row, last_row = self._rows(m, take, word, rows_end)
        m.d.comb += [
            take.eq(word_valid & advance),
            is_event.eq(word.kind == EventKind.EVENT),
            bad_coordinates.eq(
                Cat(
                    exceeds(word.y, layout.height - 1),
                    exceeds(word.x, layout.width - 1),
                    exceeds(word.channel, layout.channels - 1),
                    wrong_row,
                ).any()
            ),
            bad_level.eq(
                Cat(
                    exceeds(level, layout.max_level or 2**layout.level_bits - 1) for level in word.levels
                ).any()
            ),
        ]

        valid_event = Signal()
        drop = Signal()
        rows_wrong = Signal()
        unknown = Signal()
        keep = Signal()
        wrong = Signal()
        ends = Signal()
        with m.If(take), m.Switch(word.kind):
            with m.Case(EventKind.EVENT):
                m.d.comb += [
                    drop.eq(bad_coordinates | bad_level),
                    valid_event.eq(~drop),
                    keep.eq(~drop & row_reaches),
                    wrong.eq(drop),
                ]
            with m.Case(EventKind.ROW_END):
                m.d.comb += [rows_wrong.eq(last_row), keep.eq(rows_end), wrong.eq(rows_wrong)]
            with m.Case(EventKind.FRAME_END):
                m.d.comb += [
                    rows_wrong.eq(~last_row),
                    keep.eq(1),
                    wrong.eq(rows_wrong | word.error),
                    ends.eq(1),
                ]
            with m.Default():
                m.d.comb += [unknown.eq(1), drop.eq(1), wrong.eq(1)]

        # Gathered a cycle behind the judgement, which is long enough without.
        frame_error = Signal()
        error = frame_error | delay(m, wrong, 1, name="was_wrong", enable=advance, reset_less=False)
        has_ended = delay(m, ends, 1, name="has_ended", enable=advance, reset_less=False)
        with m.If(advance):
            m.d.sync += frame_error.eq(error & ~has_ended)

        m.d.sync += [
            self.pulses.events_in.eq(valid_event),
            self.pulses.dropped.eq(drop),
            self.errors.coordinates.eq(take & is_event & bad_coordinates),
            self.errors.level.eq(take & is_event & bad_level),
            self.errors.rows.eq(rows_wrong),
            self.errors.kind.eq(unknown),
        ]

        address = EventAddress(
            m, parameters=self.parameters, projection=self.projection, word=word, enable=advance
        )
        # Whether it reaches an output is known a cycle before the address is.
        early = address.latency - 1
        is_late_event = delay(m, is_event, early, name="is_late_event", enable=advance)
        kept = delay(m, keep, early, name="kept", enable=advance, reset_less=False)
        valid = kept & (address.reaches | ~is_late_event)
        m.d.comb += [
            self.o.valid.eq(delay(m, valid, 1, name="valid", enable=advance, reset_less=False)),
            self.o.payload.kind.eq(delay(m, word.kind, address.latency, name="kind", enable=advance)),
            self.o.payload.error.eq(delay(m, error, early, name="error", enable=advance)),
            self.o.payload.levels.eq(delay(m, word.levels, address.latency, name="levels", enable=advance)),
            self.o.payload.first.eq(address.first),
        ]
        return m

    def _rows(self, m: Module, take: Value, word: data.View, rows_end: Signal) -> tuple[Value, Value, Value]:
        """Count the row tokens. Returns: the row at hand reaches an output row; the event is not of this row; the
        row is the map's last."""
        own = self.parameters.projections[self.projection]
        height = own.input.height
        row = Signal(range(height))
        last_row = row == height - 1
        token = Signal()
        frame_end = Signal()
        m.d.comb += [
            token.eq(take & (word.kind == EventKind.ROW_END) & ~last_row),
            frame_end.eq(take & (word.kind == EventKind.FRAME_END)),
        ]
        with m.If(token):
            m.d.sync += row.eq(row + 1)
        with m.If(frame_end):
            m.d.sync += row.eq(0)
        if is_flat(self.parameters, self.projection):
            return Const(1, 1), Const(0, 1), last_row

        kernel, stride, padding = own.kernel[0], own.stride[0], own.padding[0]
        rows = own.pooled[0]
        window_row = Signal(range(own.pool[0]))  # within a pooling window
        # Row of the pooled map with its padding above; goes on to `rows` in the rows that fill no window.
        padded = Signal(range(rows + padding + 1), init=padding)
        window_ends = window_row == own.pool[0] - 1
        with m.If(token):
            m.d.sync += window_row.eq(window_row + 1)
            with m.If(window_ends):
                m.d.sync += [window_row.eq(0), padded.eq(padded + 1)]
        with m.If(frame_end):
            m.d.sync += [window_row.eq(0), padded.eq(padding)]
        # Rows behind the last kernel, or between two kernels, reach no output row.
        last_padded = min(rows - 1 + padding, (self.parameters.height - 1) * stride + kernel - 1)
        between = exceeds(padded[: stride.bit_length() - 1], kernel - 1, stride - 1)
        m.d.comb += rows_end.eq(window_ends & (padded < rows - 1 + padding) & ~last_row)
        return (padded <= last_padded) & ~between, word.y != row, last_row
