"""Temporal mixing: the currents of all steps of one neuron from its accumulators (T-GIM)."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from lmht.rtl.neuron_parameters import NeuronParameters
from lmht.rtl.pipeline import delay
from lmht.rtl.product import product_latency, wide_product

__all__ = ["Mix"]


class Mix(wiring.Component):
    """``J[t] = round_shift(sum_u G[t, u] A[u], S) + B[t]`` (NUMERICS.md, step 2).

    Parameters
    ----------
    neuron : NeuronParameters
    multipliers : int
        1, ``T_in`` or ``T T_in`` products a cycle. With 1 the terms of a current come one after the other (`first_term`
        marks ``u = 0``), with ``T_in`` one current a cycle, with ``T T_in`` all currents of a neuron a cycle. A current
        of diagonal mixing is one product: 1 is one current a cycle, and ``T`` are all of them.

    Members
    -------
    ``accumulators`` : in, ``T_in`` signed fields
    ``step`` : in, ``u`` of the term if `multipliers` is 1 and ``T_in`` is not (``picks``)
    ``factors`` : in, `multipliers` unsigned fields, two cycles after ``accumulators``
    ``first_term`` : in, with ``accumulators``
    ``biases`` : in, ``B`` of ``currents``, ``bias_cycle`` cycles after ``accumulators``: one before ``currents``
    ``currents`` : out, ``J``: ``T`` fields if `multipliers` is ``T T_in``, else one; a sum that grows term by term

    Fixed latency ``latency`` from ``accumulators`` to ``currents``; one set of products a cycle.
    A classifier is the same without rounding and shift (``S = 0``): its current is the logit.
    """

    FACTORS_CYCLE = 2

    def __init__(self, *, neuron: NeuronParameters, multipliers: int):
        self.neuron = neuron
        self.multipliers = multipliers
        inputs, terms = neuron.input_steps, neuron.mix_terms
        self.picks = multipliers < inputs  # one accumulator a cycle
        self.serial = multipliers < terms
        self.outputs = max(1, multipliers // terms)
        self.tree_levels = 0 if self.serial else (terms - 1).bit_length()
        self.bias_cycle = (
            self.FACTORS_CYCLE
            + product_latency(neuron.accumulator_bits)
            + (1 if self.serial else self.tree_levels)
        )
        self.latency = self.bias_cycle + 1
        super().__init__(
            {
                "accumulators": In(data.ArrayLayout(signed(neuron.accumulator_bits), inputs)),
                "step": In(range(inputs)),
                "first_term": In(1),
                "factors": In(data.ArrayLayout(unsigned(neuron.multiplier_bits), multipliers)),
                "biases": In(data.ArrayLayout(signed(neuron.bias_bits), self.outputs)),
                "currents": Out(data.ArrayLayout(signed(neuron.current_bits), self.outputs)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        neuron = self.neuron
        inputs = neuron.input_steps

        # Pick the terms of this cycle while their factors are read.
        count = 1 if self.picks else inputs
        terms_in = []
        for index in range(count):
            picked = Signal(signed(neuron.accumulator_bits), name=f"picked_{index}", reset_less=True)
            m.d.sync += picked.eq(self.accumulators[self.step] if self.picks else self.accumulators[index])
            terms_in.append(delay(m, picked, self.FACTORS_CYCLE - 1, name=f"waiting_{index}"))

        latency = product_latency(neuron.accumulator_bits)
        products = [
            wide_product(m, terms_in[index % count], self.factors[index], name=f"product_{index}")
            for index in range(self.multipliers)
        ]

        summands = self.multipliers // self.outputs
        for output in range(self.outputs):
            terms = products[output * summands : (output + 1) * summands]
            if self.serial:
                total = Signal(signed(neuron.mix_bits), name="total", reset_less=True)
                first = delay(m, self.first_term, self.FACTORS_CYCLE + latency, name="first_term")
                with m.If(first):
                    m.d.sync += total.eq(terms[0])
                with m.Else():
                    m.d.sync += total.eq(total + terms[0])
            else:
                total = _adder_tree(m, terms, neuron.mix_bits, name=f"total_{output}")
            current = Signal(signed(neuron.current_bits), name=f"current_{output}", reset_less=True)
            m.d.sync += current.eq(_round_and_add(total, neuron.shift, self.biases[output]))
            m.d.comb += self.currents[output].eq(current)
        return m


def _round_and_add(total: Value, shift: int, bias: Value) -> Value:
    """``round_shift(total, shift) + bias`` in one adder: ``2 bias + 1`` is the bias and the half that rounds."""
    if shift == 0:
        return total + bias
    return ((total >> (shift - 1)) + Cat(Const(1, 1), bias).as_signed()) >> 1


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
