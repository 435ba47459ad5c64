"""Gate of a tile: drops what lies outside the layer, absorbs row tokens, turns coordinates into weight addresses."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from lmht.rtl.events import EventKind
from lmht.rtl.parameters import TileParameters
from lmht.rtl.pipeline import ShiftAddTree

__all__ = ["EventFilter", "synapse_request_layout"]


def synapse_request_layout(parameters: TileParameters) -> data.StructLayout:
    """What the filter passes on: an event with its first weight row, or the end of a frame (``frame_end``).

    ``error`` counts with ``frame_end`` only: something of the frame was malformed here or upstream.
    """
    return data.StructLayout(
        {
            "frame_end": 1,
            "error": 1,
            "weight_row": parameters.memories["weights"].row_bits,
            "levels": parameters.input.payload["levels"].shape,
        }
    )


class EventFilter(wiring.Component):
    """Validate events and compute their weight rows.

    Parameters
    ----------
    parameters : TileParameters

    Members
    -------
    ``i`` : in stream of ``parameters.input``
    ``o`` : out stream of :func:`synapse_request_layout`; ``weight_row`` is ``j * groups`` with
    ``j = (y * width + x) * channels + channel``
    ``pulses`` : out, ``events_in``, ``dropped``
    ``errors`` : out, ``coordinates``, ``level``, ``rows``, ``kind``

    An event outside the feature map or with a level above the maximum, and a word of unknown kind, is dropped, counted
    and flagged. Row tokens carry no work for a Linear layer: they are counted (``height - 1`` a frame) and absorbed.
    Whatever was wrong in a frame sets ``error`` of its ``frame_end``, and nothing of it reaches the next frame.

    Latency: 2 cycles and the adder tree of the address; throughput one word a cycle.
    """

    PULSES = data.StructLayout({"events_in": 1, "dropped": 1})
    ERRORS = data.StructLayout({"coordinates": 1, "level": 1, "rows": 1, "kind": 1})

    def __init__(self, *, parameters: TileParameters):
        self.parameters = parameters
        super().__init__(
            {
                "i": In(parameters.input.signature),
                "o": Out(stream.Signature(synapse_request_layout(parameters))),
                "pulses": Out(self.PULSES),
                "errors": Out(self.ERRORS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        layout = self.parameters.input
        groups = self.parameters.groups

        # The whole pipeline advances together. The one behind the output keeps a word of its own, so that
        # absorbed tokens and dropped events are squeezed out while it works.
        advance = Signal()
        m.d.comb += [advance.eq(~self.o.valid | self.o.ready), self.i.ready.eq(advance)]

        word = Signal(layout.payload, reset_less=True)
        word_valid = Signal()
        with m.If(advance):
            m.d.sync += [word.eq(self.i.payload), word_valid.eq(self.i.valid)]

        take = Signal()  # `word` is judged in this cycle, once
        m.d.comb += take.eq(word_valid & advance)
        bad_coordinates = Signal()
        bad_level = Signal()
        m.d.comb += [
            bad_coordinates.eq(
                Cat(
                    _exceeds(word.y, layout.height - 1),
                    _exceeds(word.x, layout.width - 1),
                    _exceeds(word.channel, layout.channels - 1),
                ).any()
            ),
            bad_level.eq(
                Cat(
                    _exceeds(level, layout.max_level or 2**layout.level_bits - 1) for level in word.levels
                ).any()
            ),
        ]

        rows_left = Signal(range(layout.height), init=layout.height - 1)
        frame_error = Signal()
        keep = Signal()
        drop = Signal()
        rows_wrong = Signal()
        unknown = Signal()
        with m.If(take), m.Switch(word.kind):
            with m.Case(EventKind.EVENT):
                m.d.comb += [drop.eq(bad_coordinates | bad_level), keep.eq(~drop)]
            with m.Case(EventKind.ROW_END):
                m.d.comb += rows_wrong.eq(rows_left == 0)
                m.d.sync += rows_left.eq(rows_left - ~rows_wrong)
            with m.Case(EventKind.FRAME_END):
                m.d.comb += [rows_wrong.eq(rows_left != 0), keep.eq(1)]
                m.d.sync += rows_left.eq(layout.height - 1)
            with m.Default():
                m.d.comb += [unknown.eq(1), drop.eq(1)]
        is_end = Signal()
        m.d.comb += is_end.eq(word.kind == EventKind.FRAME_END)
        with m.If(take):
            m.d.sync += frame_error.eq(~is_end & (frame_error | drop | rows_wrong))

        m.d.sync += [
            self.pulses.events_in.eq(keep & ~is_end),
            self.pulses.dropped.eq(drop),
            self.errors.coordinates.eq(take & (word.kind == EventKind.EVENT) & bad_coordinates),
            self.errors.level.eq(take & (word.kind == EventKind.EVENT) & bad_level),
            self.errors.rows.eq(rows_wrong),
            self.errors.kind.eq(unknown),
        ]

        row = self.parameters.memories["weights"].row_bits
        tree = ShiftAddTree(
            [
                (word.channel, groups),
                (word.x, layout.channels * groups),
                (word.y, layout.width * layout.channels * groups),
            ],
            row,
        )
        weight_row = tree.build(m, advance, "weight_row")
        request = Signal(self.o.payload.shape())
        valid = Signal()
        m.d.comb += [
            request.frame_end.eq(is_end),
            request.error.eq(frame_error | rows_wrong | word.error),
            request.levels.eq(word.levels),
            valid.eq(keep),
        ]
        # The levels travel beside the address.
        for stage in range(tree.latency):
            next_request = Signal.like(request, name=f"request_{stage + 1}", reset_less=True)
            next_valid = Signal(name=f"valid_{stage + 1}")
            with m.If(advance):
                m.d.sync += [next_request.eq(request), next_valid.eq(valid)]
            request, valid = next_request, next_valid
        m.d.comb += [
            self.o.payload.eq(request),
            self.o.payload.weight_row.eq(weight_row),
            self.o.valid.eq(valid),
        ]
        return m


def _exceeds(value: Value, largest: int) -> Value:
    """1 if `value` > `largest`; constant 0 where its width rules that out."""
    value = Value.cast(value)
    if largest >= 2 ** len(value) - 1:
        return Const(0)
    return value > largest
