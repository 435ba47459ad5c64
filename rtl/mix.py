"""Temporal mixing: the currents of all steps of one neuron from its accumulators (T-GIM)."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from lmht.rtl.neuron_parameters import NeuronParameters
from lmht.rtl.pipeline import delay, product_latency, registered_product, rounding_constant

__all__ = ["Mix"]


class Mix(wiring.Component):
    """``J[t] = round_shift(sum_u G[t, u] A[u], S)`` with ``A`` completed by its bias (NUMERICS.md, steps 1 and 2).

    Parameters
    ----------
    neuron : NeuronParameters
    multipliers : int
        1, ``T_in`` or ``T T_in`` products a cycle. With 1 the terms of a current come one after the other (`first_term`
        marks ``u = 0``), with ``T_in`` one current a cycle, with ``T T_in`` all currents of a neuron a cycle.

    Members
    -------
    ``accumulators`` : in, ``T_in`` signed fields without bias
    ``step`` : in, ``u`` of the term if `multipliers` is 1 and ``T_in`` is not
    ``bias`` : in, two cycles after ``accumulators``
    ``factors`` : in, `multipliers` unsigned fields, three cycles after ``accumulators``
    ``first_term`` : in, with ``accumulators``
    ``currents`` : out, ``J``: ``T`` fields if `multipliers` is ``T T_in``, else one; a sum that grows term by term

    Fixed latency ``latency`` from ``accumulators`` to ``currents``; one set of products a cycle.
    A classifier is the same without rounding and shift (``S = 0``): its current is the logit.
    """

    BIAS_CYCLE = 2
    FACTORS_CYCLE = 3

    def __init__(self, *, neuron: NeuronParameters, multipliers: int):
        self.neuron = neuron
        self.multipliers = multipliers
        inputs = neuron.input_steps
        self.serial = multipliers < inputs
        self.outputs = max(1, multipliers // inputs)
        self.tree_levels = 0 if self.serial else (inputs - 1).bit_length()
        self.latency = (
            self.FACTORS_CYCLE
            + product_latency(neuron.accumulator_bits)
            + (1 if self.serial else self.tree_levels)
            + (1 if neuron.shift else 0)
        )
        super().__init__(
            {
                "accumulators": In(data.ArrayLayout(signed(neuron.accumulator_bits), inputs)),
                "step": In(range(inputs)),
                "first_term": In(1),
                "bias": In(signed(neuron.accumulator_bits)),
                "factors": In(data.ArrayLayout(unsigned(neuron.multiplier_bits), multipliers)),
                "currents": Out(data.ArrayLayout(signed(neuron.current_bits), self.outputs)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        neuron = self.neuron
        inputs = neuron.input_steps

        # Cycles 0 to 3: pick the terms of this cycle, add the bias.
        count = 1 if self.serial else inputs
        biased = []
        for index in range(count):
            picked = Signal(signed(neuron.accumulator_bits), name=f"picked_{index}", reset_less=True)
            m.d.sync += picked.eq(self.accumulators[self.step] if self.serial else self.accumulators[index])
            waiting = delay(m, picked, self.BIAS_CYCLE - 1, name=f"waiting_{index}")
            complete = Signal(signed(neuron.accumulator_bits), name=f"complete_{index}", reset_less=True)
            m.d.sync += complete.eq(waiting + self.bias)
            biased.append(complete)

        latency = product_latency(neuron.accumulator_bits)
        products = []
        for index in range(self.multipliers):
            product, _ = registered_product(
                m, biased[index % count], self.factors[index], name=f"product_{index}"
            )
            products.append(product)

        for output in range(self.outputs):
            terms = products[output * count : (output + 1) * count]
            if self.serial:
                total = Signal(signed(neuron.mix_bits), name="total", reset_less=True)
                first = delay(m, self.first_term, self.FACTORS_CYCLE + latency, name="first_term")
                with m.If(first):
                    m.d.sync += total.eq(terms[0])
                with m.Else():
                    m.d.sync += total.eq(total + terms[0])
            else:
                total = _adder_tree(m, terms, neuron.mix_bits, name=f"total_{output}")
            if neuron.shift:
                current = Signal(signed(neuron.current_bits), name=f"current_{output}", reset_less=True)
                m.d.sync += current.eq((total + rounding_constant(neuron.shift)) >> neuron.shift)
                total = current
            m.d.comb += self.currents[output].eq(total)
        return m


def _adder_tree(m: Module, terms: list[Signal], width: int, *, name: str) -> Signal:
    """Sum of `terms`, one register stage a level."""
    level = 0
    while len(terms) > 1:
        sums = []
        for index in range(0, len(terms), 2):
            pair = Signal(signed(width), name=f"{name}_{level}_{index // 2}", reset_less=True)
            m.d.sync += pair.eq(sum(terms[index + 1 : index + 2], terms[index]))
            sums.append(pair)
        terms = sums
        level += 1
    return terms[0]
