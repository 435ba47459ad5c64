"""A tile: one layer, or a slice of its output channels."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect

from lmht.rtl.integrator import Integrator
from lmht.rtl.neuron_array import NeuronArray
from lmht.rtl.pooler import Pooler
from lmht.rtl.ports import LoadSignature
from lmht.rtl.row_scheduler import INPUTS
from lmht.rtl.spike_encoder import SpikeEncoder
from lmht.rtl.tile_parameters import WEIGHT_MEMORIES, TileParameters
from lmht.rtl.update_sequencer import UpdateSequencer

__all__ = ["Tile"]


class Tile(wiring.Component):
    """Integrate events, update the neurons of each row that is complete, send their spikes on.

    ::

        i, residual ─► Integrator ─► UpdateSequencer ─► NeuronArray ─► [Pooler] ─► SpikeEncoder ─► o

    Parameters
    ----------
    parameters : TileParameters

    Members
    -------
    ``i``, ``residual`` : in streams of the projections' ``input``, the second one only with a second projection
    ``o`` : out stream of ``parameters.output``
    ``load_<memory>`` : in, one :class:`~lmht.rtl.ports.LoadSignature` for each of ``parameters.memories``
    ``pulses`` : out, those of :class:`~lmht.rtl.integrator.Integrator` (``frames``, ``events_in``, ``dropped``,
        ``integrate``, ``stalls``), ``update`` (cycles the mixing multipliers work), ``skipped`` (pixels without an
        event that were passed over), ``events_out``, ``output_stalls``
    ``errors`` : out, ``coordinates``, ``level``, ``rows``, ``kind``

    Throughput: a frame takes a cycle for each operation (event, tap that meets an output pixel, group of lanes) and one
    for each output row, or the update's ``update_cycles`` for each pixel to be updated if that is more: while a row is
    updated the next ones integrate. A Linear layer takes ``events * groups + 1`` cycles.
    """

    PULSES = data.StructLayout(
        {
            **Integrator.PULSES.members,
            **NeuronArray.PULSES.members,
            **UpdateSequencer.PULSES.members,
            "events_out": 1,
            "output_stalls": 1,
        }
    )
    ERRORS = Integrator.ERRORS

    def __init__(self, *, parameters: TileParameters):
        self.parameters = parameters
        super().__init__(
            {
                **{
                    name: In(own.input.signature)
                    for name, own in zip(INPUTS, parameters.projections, strict=False)
                },
                "o": Out(parameters.output.signature),
                "pulses": Out(self.PULSES),
                "errors": Out(self.ERRORS),
                **{f"load_{name}": In(LoadSignature(shape)) for name, shape in parameters.memories.items()},
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        parameters = self.parameters
        m.submodules.integrator = integrator = Integrator(parameters=parameters)
        m.submodules.update_sequencer = sequencer = UpdateSequencer(parameters=parameters)
        m.submodules.neuron_array = neurons = NeuronArray(parameters=parameters)
        m.submodules.spike_encoder = encoder = SpikeEncoder(parameters=parameters)

        for name in INPUTS[: len(parameters.projections)]:
            connect(m, wiring.flipped(getattr(self, name)), getattr(integrator, name))
        for name in parameters.memories:
            owner = integrator if name in WEIGHT_MEMORIES else neurons
            connect(m, wiring.flipped(getattr(self, f"load_{name}")), getattr(owner, f"load_{name}"))
        for name in ("closed", "closed_valid", "touched", "read_data"):
            m.d.comb += getattr(sequencer, name).eq(getattr(integrator, name))
        for name in ("freed", "fetch", "fetch_valid"):
            m.d.comb += getattr(integrator, name).eq(getattr(sequencer, name))
        m.d.comb += sequencer.silent.eq(neurons.silent)
        connect(m, sequencer.o, neurons.i)
        if parameters.pooling is None:
            connect(m, neurons.o, encoder.i)
        else:
            m.submodules.pooler = pooler = Pooler(parameters=parameters)
            connect(m, neurons.o, pooler.i)
            connect(m, pooler.o, encoder.i)
        connect(m, encoder.o, wiring.flipped(self.o))

        for part in (integrator, neurons, sequencer):
            for name in part.PULSES.members:
                m.d.comb += self.pulses[name].eq(part.pulses[name])
        m.d.comb += [
            self.pulses.events_out.eq(encoder.pulses.events),
            self.pulses.output_stalls.eq(encoder.pulses.stalls),
            self.errors.eq(integrator.errors),
        ]
        return m
