"""A tile: one Linear layer, or a slice of its output channels."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect

from lmht.rtl.address_generator import AddressGenerator
from lmht.rtl.event_filter import EventFilter
from lmht.rtl.neuron_array import NeuronArray
from lmht.rtl.parameters import TileParameters
from lmht.rtl.pipeline import delay
from lmht.rtl.ports import LoadSignature
from lmht.rtl.skid import Skid
from lmht.rtl.spike_encoder import SpikeEncoder
from lmht.rtl.synapse_lanes import SETTLE_CYCLES, SynapseLanes
from lmht.rtl.update_sequencer import UpdateSequencer

__all__ = ["Tile"]


class Tile(wiring.Component):
    """Integrate events, update the neurons at each frame's end, send their spikes on.

    ::

        i ─► EventFilter ─► AddressGenerator ─► SynapseLanes ─► UpdateSequencer ─► NeuronArray ─► SpikeEncoder ─► o

    Parameters
    ----------
    parameters : TileParameters

    Members
    -------
    ``i`` : in stream of ``parameters.input``
    ``o`` : out stream of ``parameters.output``
    ``load_<memory>`` : in, one :class:`~lmht.rtl.ports.LoadSignature` for each of ``parameters.memories``
    ``pulses`` : out, ``frames``, ``events_in``, ``dropped``, ``integrate`` (cycles the lanes work), ``stalls`` (cycles
        an event or frame end waits for a free bank), ``update`` (cycles the mixing multipliers work), ``events_out``,
        ``output_stalls``
    ``errors`` : out, ``coordinates``, ``level``, ``rows``, ``kind``

    Throughput: a frame of ``n`` events takes ``n * groups + 1`` cycles, or the update's ``update_cycles`` (and a
    few per accumulator row) if that is more: the next frame integrates in the second bank while this one fires.
    """

    PULSES = data.StructLayout(
        {
            "frames": 1,
            "events_in": 1,
            "dropped": 1,
            "integrate": 1,
            "stalls": 1,
            "update": 1,
            "events_out": 1,
            "output_stalls": 1,
        }
    )
    ERRORS = EventFilter.ERRORS

    def __init__(self, *, parameters: TileParameters):
        self.parameters = parameters
        super().__init__(
            {
                "i": In(parameters.input.signature),
                "o": Out(parameters.output.signature),
                "pulses": Out(self.PULSES),
                "errors": Out(self.ERRORS),
                **{f"load_{name}": In(LoadSignature(shape)) for name, shape in parameters.memories.items()},
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        parameters = self.parameters
        m.submodules.event_filter = event_filter = EventFilter(parameters=parameters)
        m.submodules.address_generator = addresses = AddressGenerator(parameters=parameters)
        m.submodules.synapse_lanes = lanes = SynapseLanes(parameters=parameters)
        m.submodules.update_sequencer = sequencer = UpdateSequencer(parameters=parameters)
        m.submodules.neuron_array = neurons = NeuronArray(parameters=parameters)
        m.submodules.spike_encoder = encoder = SpikeEncoder(parameters=parameters)

        connect(m, wiring.flipped(self.i), event_filter.i)
        # The filter must not wait for the walk through the groups within a cycle.
        m.submodules.skid = skid = Skid(payload=event_filter.o.payload.shape())
        connect(m, event_filter.o, skid.i)
        connect(m, skid.o, addresses.i)
        connect(m, sequencer.o, neurons.i)
        connect(m, neurons.o, encoder.i)
        connect(m, encoder.o, wiring.flipped(self.o))

        m.d.comb += [
            lanes.operation.eq(addresses.operation),
            lanes.operation_valid.eq(addresses.operation_valid),
            addresses.freed.eq(sequencer.freed),
            lanes.reading.eq(sequencer.reading),
            lanes.read_bank.eq(sequencer.read_bank),
            lanes.read_group.eq(sequencer.read_group),
            lanes.read_enable.eq(sequencer.read_enable),
            sequencer.read_data.eq(lanes.read_data),
            # A bank may be read once its last operation has reached the memory.
            sequencer.closed_valid.eq(
                delay(m, addresses.closed_valid, SETTLE_CYCLES, name="closed_valid", reset_less=False)
            ),
            sequencer.closed.eq(delay(m, addresses.closed, SETTLE_CYCLES, name="closed")),
        ]
        for name in parameters.memories:
            owner = lanes if name == "weights" else neurons
            connect(m, wiring.flipped(getattr(self, f"load_{name}")), getattr(owner, f"load_{name}"))
        m.d.comb += [
            self.pulses.events_in.eq(event_filter.pulses.events_in),
            self.pulses.dropped.eq(event_filter.pulses.dropped),
            self.pulses.frames.eq(addresses.pulses.frames),
            self.pulses.integrate.eq(addresses.pulses.integrate),
            self.pulses.stalls.eq(addresses.pulses.stalls),
            self.pulses.update.eq(neurons.pulses.update),
            self.pulses.events_out.eq(encoder.pulses.events),
            self.pulses.output_stalls.eq(encoder.pulses.stalls),
            self.errors.eq(event_filter.errors),
        ]
        return m
