"""Leak, charge, fire and soft reset of one neuron through its whole window."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from lmht.rtl.checks import LEVELS_LIMIT
from lmht.rtl.event_address import exceeds
from lmht.rtl.neuron_parameters import NeuronParameters
from lmht.rtl.pipeline import delay, rounding_constant
from lmht.rtl.product import product_latency, wide_product

__all__ = ["Fire", "fire_latency"]


class Fire(wiring.Component):
    """``T`` levels of a neuron from its ``T`` currents; the membrane lives only in this pipeline.

    Parameters
    ----------
    neuron : NeuronParameters

    Members
    -------
    ``currents`` : in, ``J[0] … J[T-1]``, signed
    ``initial_membrane`` : in, ``v[-1]``, signed, constant while frames run
    ``leak`` : in, ``q[0] … q[T-1]``, unsigned with ``FL`` fraction bits; absent if every ``λ`` is 1
    ``levels`` : out, ``k[0] … k[T-1]``

    For every step, as in NUMERICS.md: ``m[t] = round_shift(q[t] v[t-1], FL) + J[t]``;
    ``k[t] = clamp(m[t] >> F, 0, L)``; ``v[t] = m[t] - (k[t] << F)``.

    Fixed latency ``latency``: 2 cycles a step, 3 or 4 more for a leak; one neuron a cycle.
    """

    def __init__(self, *, neuron: NeuronParameters):
        if neuron.levels is None:
            raise ValueError(
                f"levels must be between 1 and {LEVELS_LIMIT}, not None: a classifier does not fire"
            )
        self.neuron = neuron
        self.membrane_bits = _membrane_bits(neuron)
        self.leak_latency = _leak_latency(neuron)
        self.latency = fire_latency(neuron)
        members = {
            "currents": In(data.ArrayLayout(signed(neuron.current_bits), neuron.steps)),
            "initial_membrane": In(signed(neuron.membrane_bits)),
            "levels": Out(data.ArrayLayout(unsigned(bits_for(neuron.levels)), neuron.steps)),
        }
        if neuron.leak:
            members["leak"] = In(data.ArrayLayout(unsigned(neuron.leak_bits + 1), neuron.steps))
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        neuron = self.neuron
        limit = neuron.levels
        assert limit is not None  # refused above
        membrane_shape = signed(self.membrane_bits)
        per_step = 2 + self.leak_latency

        v: Any = Signal(membrane_shape, name="initial")
        m.d.comb += v.eq(self.initial_membrane)
        for t in range(neuron.steps):
            current = delay(m, self.currents[t], t * per_step + self.leak_latency, name=f"current_{t}")
            if neuron.leak:
                product = wide_product(m, v, self.leak[t], name=f"leak_product_{t}")
                leaked = Signal(membrane_shape, name=f"leaked_{t}", reset_less=True)
                m.d.sync += leaked.eq((product + rounding_constant(neuron.leak_bits)) >> neuron.leak_bits)
            else:
                leaked = v

            # The membrane as two slices: `units` whole thresholds, `fraction` the rest, which no reset changes.
            membrane = Signal(membrane_shape, name=f"membrane_{t}", reset_less=True)
            m.d.sync += membrane.eq(leaked + current)
            fraction = membrane[: neuron.fraction_bits]
            units = (membrane >> neuron.fraction_bits).as_signed()

            # From 0 to L units all are fired and none is left. So the subtraction of L does not wait for the clamp.
            negative = units[-1]
            above = Signal(name=f"above_{t}")
            level_bits = min(bits_for(limit), len(units) - 1)
            much_above = units[level_bits:-1].any()
            m.d.comb += above.eq(~negative & (much_above | exceeds(units[:level_bits], limit)))
            units_left = Mux(negative, units, Mux(above, units - limit, 0))
            level = Mux(negative, 0, Mux(above, limit, units[:level_bits]))

            after = Signal(membrane_shape, name=f"after_reset_{t}", reset_less=True)
            fired = Signal(self.levels[t].shape(), name=f"fired_{t}", reset_less=True)
            m.d.sync += [
                after.eq(_join(fraction, units_left[: len(units)])),
                fired.eq(level),
            ]
            m.d.comb += self.levels[t].eq(
                delay(m, fired, (neuron.steps - 1 - t) * per_step, name=f"fired_{t}")
            )
            v = after
        return m


def fire_latency(neuron: NeuronParameters) -> int:
    """Cycles from the currents of a neuron to its levels: every step waits for the membrane of the one before."""
    return neuron.steps * (2 + _leak_latency(neuron))


def _leak_latency(neuron: NeuronParameters) -> int:
    return product_latency(_membrane_bits(neuron)) + 1 if neuron.leak else 0


def _membrane_bits(neuron: NeuronParameters) -> int:
    """The reset works on the bits above the fraction: at least a sign and one more are kept."""
    return max(neuron.membrane_bits, neuron.fraction_bits + 2)


def _join(fraction: Value, units: Value) -> Value:
    """The membrane from its two slices: ``(units << F) + fraction``."""
    return Cat(fraction, units).as_signed()
