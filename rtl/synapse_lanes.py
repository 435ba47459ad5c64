"""The integrating part of a tile: weight memories, multipliers, and the memory of accumulators."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from lmht.rtl.accumulators import PRODUCT_CYCLE, WRITTEN_CYCLE, AccumulatorMemory
from lmht.rtl.address_generator import FIRST_CYCLES, operation_layout
from lmht.rtl.memory import Ram
from lmht.rtl.operation_distance import least_distance
from lmht.rtl.pipeline import delay
from lmht.rtl.ports import LoadSignature
from lmht.rtl.product import MULTIPLIER_CYCLES, multiplied
from lmht.rtl.tile_parameters import WEIGHT_MEMORIES, TileParameters

__all__ = [
    "SynapseLanes",
    "accumulator_row_layout",
    "accumulators_layout",
    "multiplied_row",
    "shifted_weight",
    "weight_ports",
]

READ_CYCLES = 2
"""Cycles from an operation to its weights, which are then at the multipliers."""
ACCUMULATOR_CYCLE = READ_CYCLES + MULTIPLIER_CYCLES - PRODUCT_CYCLE
"""Cycle of an operation in which the read of its accumulators begins, so that operands and products meet."""
FETCH_CYCLES = 1 + ACCUMULATOR_CYCLE + PRODUCT_CYCLE
"""Cycles from the request of an accumulator row (:func:`~lmht.rtl.address_generator.fetch_layout`) to the row."""


def accumulator_row_layout(parameters: TileParameters) -> data.ArrayLayout:
    """One row of the accumulator memory: ``A[u]`` of every lane, ``lanes x T_in`` signed fields of ``AB`` bits."""
    return data.ArrayLayout(accumulators_layout(parameters), parameters.lanes)


def accumulators_layout(parameters: TileParameters) -> data.ArrayLayout:
    """``A[u]`` of one neuron: ``T_in`` signed fields of ``AB`` bits."""
    return data.ArrayLayout(signed(parameters.neuron.accumulator_bits), parameters.neuron.input_steps)


def weight_ports(parameters: TileParameters) -> dict[str, wiring.Member]:
    """Members through which the weight memories are loaded, one for each projection."""
    return {
        f"load_{name}": In(LoadSignature(parameters.memories[name]))
        for name in WEIGHT_MEMORIES[: len(parameters.projections)]
    }


def shifted_weight(weight: Value, shift: int) -> Value:
    """A weight of a memory row as a signed number, shifted left."""
    return Cat(Const(0, shift), weight).as_signed()


def multiplied_row(
    m: Module, parameters: TileParameters, weights: list[Value], levels: data.View, *, name: str
) -> data.View:
    """``w k[u]`` of every lane and step, ``MULTIPLIER_CYCLES`` later: :func:`accumulator_row_layout`."""
    row = Signal(accumulator_row_layout(parameters), name=f"{name}_row")
    product = selected if parameters.selects_products else multiplied
    for lane, weight in enumerate(weights):
        for step in range(parameters.neuron.input_steps):
            m.d.comb += row[lane][step].eq(product(m, weight, levels[step], name=f"{name}_{lane}_{step}"))
    return row


def selected(m: Module, weight: Value, level: Value, *, name: str) -> Value:
    """``weight * level`` of a level up to ``MOST_SELECTED``, ``MULTIPLIER_CYCLES`` later."""
    held_weight = delay(m, weight, MULTIPLIER_CYCLES - 1, name=f"{name}_weight")
    held_level = delay(m, level, MULTIPLIER_CYCLES - 1, name=f"{name}_level")
    product = Signal(signed(len(weight) + 1), name=name, reset_less=True)
    with m.Switch(held_level):
        with m.Case(0):
            m.d.sync += product.eq(0)
        with m.Case(1):
            m.d.sync += product.eq(held_weight)
        with m.Default():
            m.d.sync += product.eq(held_weight << 1)
    return product


class SynapseLanes(wiring.Component):
    """``A[u, n] += w[n, c, ky, kx] k[u, c] << shift`` for `lanes` neurons of a pixel and all ``T_in`` steps a cycle
    (NUMERICS.md, step 1).

    Parameters
    ----------
    parameters : TileParameters

    Members
    -------
    ``operation``, ``operation_valid`` : in, :func:`~lmht.rtl.address_generator.operation_layout`, one a cycle
    ``first`` : in, ``FIRST_CYCLES`` cycles later: the accumulators start at zero
    ``load_weights``, ``load_residual_weights`` : in, :class:`~lmht.rtl.ports.LoadSignature`, the second one only with a
        second projection
    ``read_data`` : out, :func:`accumulator_row_layout`, ``FETCH_CYCLES - 1`` cycles behind an operation that is not
        valid: the accumulator row that it names

    An operation and a row to be shown share the memory's read port, one a cycle. Rows need no clearing: the first
    operation on one starts at zero. Operations may follow each other on a row as soon as
    :func:`~lmht.rtl.operation_distance.least_distance` says.
    """

    SETTLE_CYCLES = WRITTEN_CYCLE - 3
    """Cycles after the closing of an accumulator row's last operation from which the row may be asked for: a closing
    takes a cycle of its own, the request comes a cycle behind it at the earliest, and takes one to the operation."""

    def __init__(self, *, parameters: TileParameters):
        self.parameters = parameters
        super().__init__(
            {
                "operation": In(operation_layout(parameters)),
                "operation_valid": In(1),
                "first": In(1),
                **weight_ports(parameters),
                "read_data": Out(accumulator_row_layout(parameters)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        parameters = self.parameters
        m.submodules.accumulators = accumulators = AccumulatorMemory(
            row=accumulator_row_layout(parameters),
            banks=parameters.banks,
            rows=parameters.bank_rows,
            least_distance=least_distance(parameters),
        )
        first_cycles = ACCUMULATOR_CYCLE + accumulators.first_cycle - FIRST_CYCLES
        m.d.comb += [
            accumulators.valid.eq(
                delay(m, self.operation_valid, ACCUMULATOR_CYCLE, name="valid_late", reset_less=False)
            ),
            accumulators.bank.eq(delay(m, self.operation.bank, ACCUMULATOR_CYCLE, name="bank_late")),
            accumulators.row.eq(delay(m, self.operation.row, ACCUMULATOR_CYCLE, name="row_late")),
            accumulators.first.eq(delay(m, self.first, first_cycles, name="first_late")),
            accumulators.products.eq(self._products(m)),
            self.read_data.eq(accumulators.read_data),
        ]
        return m

    def _products(self, m: Module) -> data.View:
        """Weights times levels, ``READ_CYCLES + MULTIPLIER_CYCLES`` behind the operation."""
        parameters = self.parameters
        lanes = parameters.lanes
        weight_rows = []
        for index, own in enumerate(parameters.projections):
            name = WEIGHT_MEMORIES[index]
            ram = Ram(m, name, shape=parameters.memories[name])
            ram.connect_load(m, getattr(self, f"load_{name}"))
            m.d.comb += ram.read_row.eq(self.operation.weight_row)
            weight_rows.append(
                [
                    shifted_weight(ram.read_data.word_select(lane, own.weight_bits), own.shift)
                    for lane in range(lanes)
                ]
            )
        weights = weight_rows[0]
        if len(weight_rows) > 1:
            of_residual = delay(m, self.operation.projection, READ_CYCLES, name="of_residual")
            weights = [Mux(of_residual, other, main) for main, other in zip(*weight_rows, strict=True)]
        levels = delay(m, self.operation.levels, READ_CYCLES, name="levels")
        return multiplied_row(m, parameters, weights, levels, name="product")
