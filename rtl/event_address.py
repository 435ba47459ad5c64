"""Pipelined arithmetic from an event's coordinates to the addresses of its first operation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data
from amaranth.utils import bits_for

from lmht.rtl.pipeline import ShiftAddTree, delay, divide
from lmht.rtl.tile_parameters import WEIGHT_MEMORIES, TileParameters

__all__ = [
    "EventAddress",
    "column_banks",
    "column_reach",
    "exceeds",
    "first_operation_layout",
    "is_flat",
    "lookup",
]


def is_flat(parameters: TileParameters, projection: int) -> bool:
    """Whether the kernel covers all rows of the map (a Linear layer): there are no row ends to wait for."""
    own = parameters.projections[projection]
    return parameters.height == 1 and own.kernel[0] == own.pooled[0] and own.padding[0] == 0


def column_reach(parameters: TileParameters, projection: int) -> int:
    """Output columns that an event reaches at most."""
    own = parameters.projections[projection]
    return min(-(-own.kernel[1] // own.stride[1]), parameters.width)


def first_operation_layout(parameters: TileParameters, projection: int) -> data.StructLayout:
    """Where the operations of an event begin, and how far they go.

    ``column``: the rightmost output column that the event reaches, the one its lowest tap column feeds; ``row``: the
    accumulator row of its first lane group there; ``weight_row``: of that tap column, kernel row 0 (of its own kernel
    row where the projection is flat) and that group; ``columns``, ``groups``: how many output columns and
    lane groups it reaches beyond the first.

    With ``tap_unroll`` a weight row holds all taps, and ``kernel_row`` (0 unless flat), ``tap`` (tap column) and
    ``column_bank`` (``column`` modulo the number of columns that an event reaches) say which of them go where.
    """
    own = parameters.projections[projection]
    fields = {
        "weight_row": parameters.memories[WEIGHT_MEMORIES[projection]].row_bits,
        "row": range(parameters.bank_rows),
        "column": range(parameters.width),
        "columns": range(column_reach(parameters, projection)),
        "groups": range(parameters.span(projection)),
    }
    if parameters.tap_unroll:
        fields["kernel_row"] = range(own.kernel[0] if is_flat(parameters, projection) else 1)
        fields["tap"] = range(own.kernel[1])
        fields["column_bank"] = range(column_banks(parameters))
    return data.StructLayout(fields)


def column_banks(parameters: TileParameters) -> int:
    """Banks of columns with ``tap_unroll``: all columns that an event reaches lie in different ones."""
    return max(column_reach(parameters, projection) for projection in range(len(parameters.projections)))


@dataclass(frozen=True)
class _Timed:
    """A value and the cycle in which it is there, counted from the event."""

    value: Value
    cycle: int


class EventAddress:
    """Registers and adders behind a validated event, all moving in cycles with `enable`.

    Parameters
    ----------
    m : Module
    enable : Value
    word : View
        Payload of ``projections[projection].input``.

    Attributes
    ----------
    first : View
        :func:`first_operation_layout`, `latency` cycles (at least 1) after `word`.
    reaches : Value
        One cycle before it: the event reaches some output column and lane group. An event in a column that is in no
        pooling window, between the kernel's strides, or at the edge, or whose output channels are all in other tiles
        does not.
    """

    def __init__(
        self, m: Module, *, parameters: TileParameters, projection: int, word: data.View, enable: Value
    ):
        self._m = m
        self._enable = enable
        self._parameters = parameters
        self._own = own = parameters.projections[projection]
        self._span = parameters.span(projection)
        layout = first_operation_layout(parameters, projection)

        self._reaches: list[_Timed] = []
        tap, column, columns = self._columns(word.x)
        first_group, groups = self._groups(word.channel)
        channels = own.input.channels
        terms = [(_Timed(word.channel, 0), self._span)]
        kernel_row = _Timed(Const(0, 0), 0)
        if is_flat(parameters, projection):
            kernel_row = self._pooled(word.y, axis=0)
        if not parameters.tap_unroll:
            terms += [(tap, channels * self._span), (kernel_row, own.kernel[1] * channels * self._span)]
        weight_row = self._sum(terms, layout["weight_row"].width, "weight_row")
        row = self._sum([(column, parameters.groups), (first_group, 1)], layout["row"].width, "row")

        found = {
            "weight_row": weight_row,
            "row": row,
            "column": column,
            "columns": columns,
            "groups": groups,
        }
        if parameters.tap_unroll:
            banks = column_banks(parameters)
            table = [number % banks for number in range(parameters.width)]
            column_bank = self._register(lookup(table, column.value), column.cycle, "column_bank")
            found |= {"kernel_row": kernel_row, "tap": tap, "column_bank": column_bank}
        self.latency = max(
            *(timed.cycle for timed in found.values()), *(timed.cycle + 1 for timed in self._reaches), 1
        )
        self.first = Signal(layout, name="first")
        m.d.comb += [
            self.first[name].eq(self._at(timed, self.latency, f"{name}_late"))
            for name, timed in found.items()
        ]
        self.reaches = Cat(
            self._at(timed, self.latency - 1, f"reaches{index}") for index, timed in enumerate(self._reaches)
        ).all()

    def _at(self, timed: _Timed, cycle: int, name: str) -> Value:
        """The value, delayed to a later cycle."""
        return delay(self._m, timed.value, cycle - timed.cycle, name=name, enable=self._enable)

    def _register(self, value: Value, cycle: int, name: str) -> _Timed:
        return _Timed(delay(self._m, value, 1, name=name, enable=self._enable), cycle + 1)

    def _sum(self, terms: list[tuple[_Timed, int]], width: int, name: str) -> _Timed:
        """``sum factor * value``, a value itself where nothing is to be added."""
        terms = [(timed, factor) for timed, factor in terms if len(timed.value)]
        if not terms:
            return _Timed(Const(0, width), 0)
        if len(terms) == 1 and terms[0][1] == 1:
            return terms[0][0]
        start = max(timed.cycle for timed, _ in terms)
        products = [
            (self._at(timed, start, f"{name}_term{index}"), factor)
            for index, (timed, factor) in enumerate(terms)
        ]
        tree = ShiftAddTree(products, width)
        return _Timed(tree.build(self._m, self._enable, name), start + tree.latency)

    def _quotient(self, timed: _Timed, divisor: int, largest: int, name: str) -> _Timed:
        value, latency = divide(
            self._m, self._enable, timed.value, divisor, largest=largest, name=f"{name}_product"
        )
        return _Timed(value[: bits_for(largest // divisor)], timed.cycle + latency)

    def _pooled(self, coordinate: Value, *, axis: int) -> _Timed:
        """A coordinate behind the folded pooling."""
        own = self._own
        size = (own.input.height, own.input.width)[axis]
        self._reaches.append(_Timed(~exceeds(coordinate, own.pooled[axis] * own.pool[axis] - 1, size - 1), 0))
        return self._quotient(_Timed(coordinate, 0), own.pool[axis], size - 1, "yx"[axis])

    def _columns(self, coordinate: Value) -> tuple[_Timed, _Timed, _Timed]:
        """Lowest tap column that meets an output column, that output column, and how many lie to the left of it."""
        own, outputs = self._own, self._parameters.width
        kernel, stride, padding = own.kernel[1], own.stride[1], own.padding[1]
        x = self._pooled(coordinate, axis=1)
        largest = own.pooled[1] - 1
        if outputs == 1:
            tap = _Timed(x.value + padding if padding else x.value, x.cycle)
            self._reaches.append(_Timed(~exceeds(tap.value, kernel - 1, largest + padding), x.cycle))
            return tap, _Timed(Const(0, 0), 0), _Timed(Const(0, 0), 0)
        # At stride S column x + padding meets output (x + padding) // S through tap (x + padding) % S, the one to the
        # left of it S taps further on. Beyond the last output the first taps are missing.
        shift = stride.bit_length() - 1
        limit = outputs * stride - padding
        largest_tap = max(stride - 1, largest + padding - (outputs - 1) * stride)
        padded = x.value + padding
        beyond = exceeds(x.value, limit - 1, largest)
        tap = self._register(
            Mux(beyond, x.value + (padding - (outputs - 1) * stride), padded[:shift])[
                : bits_for(largest_tap)
            ],
            x.cycle,
            "tap",
        )
        column = self._register(
            Mux(beyond, outputs - 1, padded[shift:])[: bits_for(outputs - 1)], x.cycle, "column"
        )
        self._reaches.append(_Timed(~exceeds(tap.value, kernel - 1, largest_tap), tap.cycle))
        more = ((kernel - 1) - tap.value).as_unsigned() >> shift
        columns = self._register(Mux(column.value < more, column.value, more), tap.cycle, "columns")
        return tap, column, columns

    def _groups(self, channel: Value) -> tuple[_Timed, _Timed]:
        """First group of lanes that an input channel meets, and how many more."""
        parameters, own = self._parameters, self._own
        nothing = _Timed(Const(0, 0), 0)
        if own.channel_groups == 1:
            return nothing, _Timed(Const(self._span - 1, bits_for(self._span - 1)), 0)
        inputs = own.input.channels // own.channel_groups
        outputs = parameters.layer_channels // own.channel_groups
        offset, channels = parameters.channel_offset, parameters.channels
        # Parts of the channels that have outputs in this tile; of the first one perhaps only the last outputs.
        first_part, last_part = offset // outputs, (offset + channels - 1) // outputs
        first_input, last_input = first_part * inputs, (last_part + 1) * inputs - 1
        inside = ~exceeds(channel, last_input, own.input.channels - 1)
        if first_input:
            inside &= channel >= first_input
        self._reaches.append(_Timed(inside, 0))
        largest_part = last_part - first_part
        within = _Timed((channel - first_input)[: bits_for(last_input - first_input)], 0)
        part = self._quotient(within, inputs, last_input - first_input, "part")
        part = _Timed(part.value[: bits_for(largest_part)], part.cycle)

        lead = offset - first_part * outputs
        largest = largest_part * outputs + outputs - 1
        start = self._sum([(part, outputs)], bits_for(largest), "start")
        if self._span == 1 and lead == 0 and outputs == 1:
            begin = start
        else:
            begin = self._register(
                Mux(exceeds(start.value, lead, largest), start.value - lead, 0)[: bits_for(channels - 1)],
                start.cycle,
                "begin",
            )
        first = self._quotient(begin, parameters.lanes, channels - 1, "first_group")
        if self._span == 1:
            return first, nothing
        last_start = (
            channels - 1 - (outputs - 1) + lead
        )  # of a part whose last output is the tile's last channel
        end = self._register(
            Mux(exceeds(start.value, last_start, largest), channels - 1, start.value + (outputs - 1 - lead))[
                : bits_for(channels - 1)
            ],
            start.cycle,
            "end",
        )
        last = self._quotient(end, parameters.lanes, channels - 1, "last_group")
        cycle = max(first.cycle, last.cycle)
        count = self._at(last, cycle, "last_group") - self._at(first, cycle, "first_group")
        return first, self._register(count[: bits_for(self._span - 1)], cycle, "groups")


def lookup(table: Sequence[int], index: Value) -> Value:
    """Entry number `index` of a table of constants."""
    bits = bits_for(max(table))
    return Array(Const(entry, bits) for entry in table)[index]


def exceeds(value: Value, largest: int, possible: int | None = None) -> Value:
    """1 if the unsigned `value` > `largest`; constant 0 where its width, or its largest `possible` value, forbids."""
    value = Value.cast(value)
    if largest >= 2 ** len(value) - 1 or (possible is not None and possible <= largest):
        return Const(0, 1)
    return value > largest
