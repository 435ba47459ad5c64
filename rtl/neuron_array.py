"""The updating part of a tile: mixing, bias, leak, firing and reset of `update_lanes` neurons at a time."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from lmht.rtl.fire import Fire
from lmht.rtl.memory import Ram
from lmht.rtl.mix import Mix
from lmht.rtl.pipeline import delay
from lmht.rtl.ports import LoadSignature
from lmht.rtl.spike_encoder import map_vector_layout
from lmht.rtl.tile_parameters import WEIGHT_MEMORIES, TileParameters
from lmht.rtl.update_sequencer import update_row_layout

__all__ = ["NeuronArray"]

FIFO_SLACK = 4
"""Vectors the output FIFO holds beyond those in the pipeline, so that a burst of spikes does not stop it at once."""
CREDIT_CYCLES = 1
"""Cycles that the credit of a vector takes back when the vector has left."""
FIFO_TRANSIT = 2
"""Places a buffered FIFO may not offer while a vector moves to its output register."""


class NeuronArray(wiring.Component):
    """Levels of neurons from their accumulators (NUMERICS.md, steps 2 to 5).

    Parameters
    ----------
    parameters : TileParameters

    Members
    -------
    ``i`` : in stream of :func:`~lmht.rtl.update_sequencer.update_row_layout`, ``update_rows`` for each pixel or one
        with ``empty``
    ``o`` : out stream of :func:`~lmht.rtl.spike_encoder.map_vector_layout`, one per update row, in order; vectors
        without any spike are left out, except those with ``last`` (a classifier sends all)
    ``load_biases``, ``load_multipliers``, ``load_constants``, ``load_quiet_levels`` : in,
        :class:`~lmht.rtl.ports.LoadSignature` (the third is absent for a classifier, the last without
        ``constant_events``)
    ``silent`` : out, constant loaded with the others: pixels without events have no spikes
    ``pulses`` : out, ``update``: the multipliers start a set of products

    Throughput: one update row every ``mix_phases`` cycles; one with ``empty`` or ``quiet`` takes 1 and no product.
    Latency: ``latency`` cycles from the last phase to the FIFO behind the pipeline. The pipeline itself never stops: a
    row enters only when the FIFO has room for it.
    """

    PULSES = data.StructLayout({"update": 1})

    def __init__(self, *, parameters: TileParameters):
        self.parameters = parameters
        neuron = parameters.neuron
        self._mix = [
            Mix(neuron=neuron, multipliers=parameters.mix_multipliers) for _ in range(parameters.update_lanes)
        ]
        self._fire = [] if neuron.is_classifier else [Fire(neuron=neuron) for _ in self._mix]
        # Currents that come one after the other are collected before the neuron fires.
        self._collect = neuron.steps > self._mix[0].outputs
        self._levels_cycle = (
            self._mix[0].latency + int(self._collect) + (self._fire[0].latency if self._fire else 0)
        )
        self.latency = self._levels_cycle + 1
        cycles = 1 if parameters.constant_events else parameters.mix_phases
        self.vectors = -(-(self.latency + CREDIT_CYCLES) // cycles) + FIFO_SLACK
        super().__init__(
            {
                "i": In(stream.Signature(update_row_layout(parameters))),
                "o": Out(stream.Signature(map_vector_layout(parameters))),
                "silent": Out(1),
                "pulses": Out(self.PULSES),
                **{
                    f"load_{name}": In(LoadSignature(shape))
                    for name, shape in parameters.memories.items()
                    if name not in WEIGHT_MEMORIES
                },
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        parameters = self.parameters
        neuron = parameters.neuron
        phases = parameters.mix_phases
        mix = self._mix[0]

        fifo = m.submodules.fifo = SyncFIFOBuffered(
            width=self.o.payload.shape().size, depth=self.vectors + FIFO_TRANSIT
        )
        m.d.comb += [
            self.o.valid.eq(fifo.r_rdy),
            self.o.payload.eq(fifo.r_data),
            fifo.r_en.eq(self.o.ready),
        ]

        # A credit is a place in the FIFO; a row holds one from its first phase until it has left or turned out silent.
        credits = Signal(range(self.vectors + 1), init=self.vectors)
        next_credits = Signal.like(credits)
        has_credit = Signal(init=1)  # a register, for what waits on `i.ready` goes far
        withheld = Signal()
        returned = Signal()
        phase = Signal(range(phases))
        start = Signal()
        run = Signal()
        empty = self.i.payload.empty
        quiet = self.i.payload.quiet if parameters.constant_events else Const(0)
        idle = Signal()  # this row needs no products
        m.d.comb += [
            start.eq(self.i.valid & (phase == 0) & has_credit),
            idle.eq(empty | quiet),
            run.eq((start & ~idle) | (phase != 0)),
            self.i.ready.eq(Mux(phase == 0, has_credit & (idle | int(phases == 1)), phase == phases - 1)),
            next_credits.eq(credits - start + returned + withheld),
        ]
        m.d.sync += [
            # CREDIT_CYCLES late, for `o.ready` has come a long way.
            returned.eq(fifo.r_rdy & fifo.r_en),
            credits.eq(next_credits),
            has_credit.eq(next_credits != 0),
        ]
        with m.If(run):
            m.d.sync += phase.eq(phase + 1)
            with m.If(phase == phases - 1):
                m.d.sync += phase.eq(0)

        # Position in the pixel.
        row = Signal(range(parameters.update_rows))
        factors_row = Signal(range(parameters.update_rows * phases))
        # Where all terms of a current come at once, both memories are read in step.
        bias_row = (
            Signal(range(parameters.update_rows * parameters.bias_phases)) if mix.serial else factors_row
        )
        step = Signal(range(neuron.input_steps))  # stays 0 unless the terms of a current come one by one
        last_term = Signal()
        complete = Signal()  # the last phase of a row
        m.d.comb += [
            last_term.eq(run & (step == neuron.input_steps - 1) if mix.serial else run),
            complete.eq(self.i.valid & self.i.ready),
        ]
        current_complete = delay(m, last_term, mix.latency, name="current_complete", reset_less=False)
        with m.If(run):
            m.d.sync += factors_row.eq(factors_row + 1)
            if mix.serial:
                m.d.sync += step.eq(step + 1)
                with m.If(last_term):
                    m.d.sync += [step.eq(0), bias_row.eq(bias_row + 1)]
        with m.If(start & quiet):
            m.d.sync += factors_row.eq(factors_row + phases)
            if mix.serial:
                m.d.sync += bias_row.eq(bias_row + parameters.bias_phases)
        with m.If(complete & ~empty):
            m.d.sync += row.eq(row + 1)
            with m.If(row == parameters.update_rows - 1):
                m.d.sync += [row.eq(0), factors_row.eq(0)]
                if mix.serial:
                    m.d.sync += bias_row.eq(0)
        m.d.sync += self.pulses.update.eq(run)

        biases = Ram(m, "biases", shape=parameters.memories["biases"])
        biases.connect_load(m, self.load_biases)
        multipliers = Ram(m, "multipliers", shape=parameters.memories["multipliers"])
        multipliers.connect_load(m, self.load_multipliers)
        m.d.comb += [
            biases.read_row.eq(delay(m, bias_row, mix.bias_cycle - biases.latency, name="bias_row")),
            multipliers.read_row.eq(
                delay(m, factors_row, mix.FACTORS_CYCLE - multipliers.latency, name="factors_row")
            ),
        ]

        if not neuron.is_classifier:
            # Loaded, so a soft reset must not touch it.
            constants = Signal(parameters.memories["constants"].width, reset_less=True)
            with m.If(self.load_constants.enable):
                m.d.sync += constants.eq(self.load_constants.data)
            fields = {
                name: constants[offset : offset + width]
                for name, (offset, width) in parameters.constants_fields.items()
            }
            m.d.comb += self.silent.eq(fields["silent"])

        level_lanes = []
        for lane, mixer in enumerate(self._mix):
            m.submodules[f"mix{lane}"] = mixer
            factor_bits, bias_bits = len(mixer.factors.as_value()), len(mixer.biases.as_value())
            m.d.comb += [
                mixer.accumulators.eq(self.i.payload.accumulators[lane]),
                mixer.step.eq(phase if neuron.diagonal else step),
                mixer.first_term.eq(step == 0),
                mixer.factors.eq(multipliers.read_data[lane * factor_bits : (lane + 1) * factor_bits]),
                mixer.biases.eq(biases.read_data[lane * bias_bits : (lane + 1) * bias_bits]),
            ]
            if neuron.is_classifier:
                level_lanes.append(mixer.currents.as_value())
                continue
            fire = m.submodules[f"fire{lane}"] = self._fire[lane]
            m.d.comb += [
                fire.currents.eq(self._collected(m, mixer, current_complete, lane)),
                fire.initial_membrane.eq(fields["v0"]),
            ]
            if neuron.leak:
                m.d.comb += fire.leak.eq(Cat(fields[f"q{t}"] for t in range(neuron.steps)))
            level_lanes.append(fire.levels.as_value())

        vector = Signal(self.o.payload.shape())
        done = delay(m, complete, self._levels_cycle, name="done", reset_less=False)
        tag = Signal(
            data.StructLayout(
                {
                    "x": vector.x.shape(),
                    "row": vector.row.shape(),
                    "last": 1,
                    "frame": 1,
                    "error": 1,
                    "empty": 1,
                    "quiet": 1,
                }
            )
        )
        m.d.comb += [
            tag.row.eq(row),
            tag.quiet.eq(quiet),
            *(tag[name].eq(self.i.payload[name]) for name in ("x", "last", "frame", "error", "empty")),
        ]
        tag = delay(m, tag, self._levels_cycle, name="tag")
        levels = Cat(level_lanes)
        if parameters.constant_events:
            table = Ram(m, "quiet_levels", shape=parameters.memories["quiet_levels"])
            table.connect_load(m, self.load_quiet_levels)
            m.d.comb += table.read_row.eq(delay(m, row, self._levels_cycle - table.latency, name="quiet_row"))
            levels = Mux(tag.quiet, table.read_data, levels)
        m.d.comb += [
            *(vector[name].eq(tag[name]) for name in ("x", "row", "last", "frame", "error")),
            vector.levels.eq(_hidden(levels, tag.empty)),
        ]
        speaks = Const(1) if neuron.is_classifier else vector.levels.as_value().any() | vector.last
        # Into the FIFO a cycle later: it takes all levels of all lanes to know whether a vector speaks.
        m.d.sync += [fifo.w_en.eq(done & speaks), withheld.eq(done & ~speaks)]
        m.d.comb += fifo.w_data.eq(delay(m, vector, 1, name="spoken"))
        return m

    def _collected(self, m: Module, mixer: Mix, complete: Signal, lane: int) -> data.View:
        """All ``T`` currents of a neuron at once, one cycle after the last one has left the mixer."""
        if not self._collect:
            return mixer.currents
        last = self.parameters.neuron.steps - 1
        currents = Signal(self._fire[lane].currents.shape(), name=f"currents_{lane}", reset_less=True)
        with m.If(complete):
            for t in range(last):
                m.d.sync += currents[t].eq(currents[t + 1])
            m.d.sync += currents[last].eq(mixer.currents[0])
        return currents


def _hidden(levels: Value, empty: Value) -> Value:
    """No levels in a row of the map without pixels, whatever is in the lanes."""
    return Mux(empty, 0, levels)
