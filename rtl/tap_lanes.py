"""Synapse lanes for all taps of an event at once: one adder row and memory for every row bank and column bank."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Mux, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from lmht.rtl.accumulators import PRODUCT_CYCLE, WRITTEN_CYCLE, AccumulatorMemory
from lmht.rtl.address_generator import FIRST_CYCLES, fetch_layout
from lmht.rtl.event_address import column_banks, lookup
from lmht.rtl.memory import Ram
from lmht.rtl.operation_distance import least_distance
from lmht.rtl.pipeline import delay
from lmht.rtl.product import MULTIPLIER_CYCLES
from lmht.rtl.synapse_lanes import (
    FETCH_CYCLES,
    READ_CYCLES,
    accumulator_row_layout,
    multiplied_row,
    shifted_weight,
    weight_ports,
)
from lmht.rtl.tap_addresses import tap_operation_layout
from lmht.rtl.tile_parameters import WEIGHT_MEMORIES, TileParameters

__all__ = ["TapLanes"]

WEIGHT_CYCLES = READ_CYCLES + 2
"""Cycles from an operation to its weights at the multipliers: their read, the choice of kernel rows, that of taps."""
ACCUMULATOR_CYCLE = WEIGHT_CYCLES + MULTIPLIER_CYCLES - PRODUCT_CYCLE
"""Cycle of an operation in which the read of its accumulators begins, so that operands and products meet."""
SHOW_CYCLE = FETCH_CYCLES - PRODUCT_CYCLE
"""Cycle of a request in which the read of its row begins, so that it takes as long as in other synapse lanes."""


class TapLanes(wiring.Component):
    """``A[u, n, y, x] += w[n, c, ky, kx] k[u, c] << shift`` for `lanes` channels of all output pixels ``(y, x)`` that
    an event reaches, and all ``T_in`` steps, in one cycle (NUMERICS.md, step 1).

    Parameters
    ----------
    parameters : TileParameters
        With ``tap_unroll``.

    Members
    -------
    ``operation``, ``operation_valid`` : in, :func:`~lmht.rtl.tap_addresses.tap_operation_layout`, one a cycle
    ``first`` : in, for every bank a bit for each column bank, ``FIRST_CYCLES`` cycles later: the accumulators there
        start at zero
    ``load_weights``, ``load_residual_weights`` : in, :class:`~lmht.rtl.ports.LoadSignature`, the second one only with a
        second projection
    ``fetch``, ``fetch_valid`` : in, :func:`~lmht.rtl.address_generator.fetch_layout`: this row is in ``read_data``
        ``FETCH_CYCLES`` cycles later; beside the operations, which lie in other banks
    ``read_data`` : out, :func:`~lmht.rtl.synapse_lanes.accumulator_row_layout`

    Column ``x`` lies in column bank ``x`` modulo the number of columns that an event reaches: no two of its taps meet
    in one memory. The rest as in :class:`~lmht.rtl.synapse_lanes.SynapseLanes`.
    """

    SETTLE_CYCLES = ACCUMULATOR_CYCLE + WRITTEN_CYCLE - SHOW_CYCLE - 2
    """As in :class:`~lmht.rtl.synapse_lanes.SynapseLanes`; a request does not take the way of the operations."""

    def __init__(self, *, parameters: TileParameters):
        self.parameters = parameters
        self._columns = columns = column_banks(parameters)
        # Where groups are a power of two, the bits of a column that differ in a bank anyway are left out of the row.
        self._dense = parameters.groups & (parameters.groups - 1) == 0
        self._skipped = columns.bit_length() - 1
        super().__init__(
            {
                "operation": In(tap_operation_layout(parameters)),
                "operation_valid": In(1),
                "first": In(data.ArrayLayout(columns, parameters.banks)),
                **weight_ports(parameters),
                "fetch": In(fetch_layout(parameters)),
                "fetch_valid": In(1),
                "read_data": Out(accumulator_row_layout(parameters)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        parameters = self.parameters
        groups, width = parameters.groups, parameters.width
        rows = ((width - 1 >> self._skipped) + 1) * groups if self._dense else parameters.bank_rows
        products = self._products(m)
        valid = delay(m, self.operation_valid, ACCUMULATOR_CYCLE, name="valid_late", reset_less=False)
        row_targets = delay(m, self.operation.rows, ACCUMULATOR_CYCLE, name="rows_late")
        column_targets = delay(m, self.operation.columns, ACCUMULATOR_CYCLE, name="columns_late")
        fetch = delay(m, self.fetch, SHOW_CYCLE, name="fetch_late")
        shows = delay(m, self.fetch_valid, SHOW_CYCLE, name="fetch_valid_late", reset_less=False)

        read_rows = []
        for bank in range(parameters.banks):
            shown = []
            for column in range(self._columns):
                accumulators = AccumulatorMemory(
                    row=accumulator_row_layout(parameters),
                    banks=1,
                    rows=rows,
                    least_distance=least_distance(parameters),
                )
                m.submodules[f"accumulators_{bank}_{column}"] = accumulators
                first_cycles = ACCUMULATOR_CYCLE + accumulators.first_cycle - FIRST_CYCLES
                target = column_targets[column]
                m.d.comb += [
                    accumulators.valid.eq(valid & row_targets[bank].reached & target.reached),
                    accumulators.row.eq(
                        self._memory_row(Mux(shows & (fetch.bank == bank), fetch.row, target.row))
                    ),
                    accumulators.first.eq(
                        delay(m, self.first[bank][column], first_cycles, name=f"first_late_{bank}_{column}")
                    ),
                    accumulators.products.eq(products[bank][column]),
                ]
                shown.append(accumulators.read_data.as_value())
            read_rows.append(shown)
        table = [row // groups % self._columns for row in range(parameters.bank_rows)]
        column_shown = delay(m, lookup(table, fetch.row), PRODUCT_CYCLE, name="column_shown")
        bank_shown = delay(m, fetch.bank, PRODUCT_CYCLE, name="bank_shown")
        m.d.comb += self.read_data.as_value().eq(
            Array(Array(shown)[column_shown] for shown in read_rows)[bank_shown]
        )
        return m

    def _memory_row(self, row: Value) -> Value:
        """Row in the memory of its column bank of accumulator row ``x * groups + group``."""
        if not self._dense:
            return row
        group_bits = self.parameters.groups.bit_length() - 1
        return Cat(row[:group_bits], row[group_bits + self._skipped :])

    def _products(self, m: Module) -> list[list[data.View]]:
        """Weights times levels for every bank and column bank, ``WEIGHT_CYCLES + MULTIPLIER_CYCLES`` behind the
        operation."""
        parameters = self.parameters
        lanes = parameters.lanes
        rows = delay(m, self.operation.rows, READ_CYCLES, name="rows_read")
        columns = delay(m, self.operation.columns, WEIGHT_CYCLES - 1, name="columns_read")
        of_residual = delay(m, self.operation.projection, WEIGHT_CYCLES - 1, name="of_residual")
        levels = delay(m, self.operation.levels, WEIGHT_CYCLES, name="levels")
        kernels = []
        for index, own in enumerate(parameters.projections):
            name = WEIGHT_MEMORIES[index]
            ram = Ram(m, name, shape=parameters.memories[name])
            ram.connect_load(m, getattr(self, f"load_{name}"))
            m.d.comb += ram.read_row.eq(self.operation.weight_row)
            row_bits = own.kernel[1] * lanes * own.weight_bits
            kernel_rows = [ram.read_data.word_select(row, row_bits) for row in range(own.kernel[0])]
            kernels.append(
                [
                    delay(m, Array(kernel_rows)[rows[bank].kernel_row], 1, name=f"{name}_row_{bank}")
                    for bank in range(parameters.banks)
                ]
            )
        products: list[list[data.View]] = []
        for bank in range(parameters.banks):
            products.append([])
            for column in range(self._columns):
                choices = [
                    self._lane_weights(
                        kernel[bank], own.kernel[1], columns[column].tap, own.weight_bits, own.shift
                    )
                    for kernel, own in zip(kernels, parameters.projections, strict=True)
                ]
                place = f"{bank}_{column}"
                weights = []
                for lane in range(lanes):
                    weight = choices[0][lane]
                    if len(choices) > 1:
                        weight = Mux(of_residual, choices[1][lane], weight)
                    weights.append(delay(m, weight, 1, name=f"weight_{place}_{lane}"))
                products[-1].append(multiplied_row(m, parameters, weights, levels, name=f"product_{place}"))
        return products

    def _lane_weights(self, kernel_row: Value, taps: int, tap: Value, bits: int, shift: int) -> list[Value]:
        """Weights of one tap of a kernel row, lane by lane."""
        width = self.parameters.lanes * bits
        chosen = Array(kernel_row.word_select(index, width) for index in range(taps))[tap]
        return [
            shifted_weight(chosen.word_select(lane, bits), shift) for lane in range(self.parameters.lanes)
        ]
