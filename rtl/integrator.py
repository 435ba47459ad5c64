"""The integrating half of a tile: from its input links to the accumulators of closed rows."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect

from lmht.rtl.address_generator import AddressGenerator, fetch_layout, touched_bits
from lmht.rtl.event_fifo import EventFifo
from lmht.rtl.event_filter import EventFilter
from lmht.rtl.pipeline import delay
from lmht.rtl.pixel_walk import closed_layout
from lmht.rtl.row_scheduler import INPUTS
from lmht.rtl.select import any_of
from lmht.rtl.skid import Skid
from lmht.rtl.synapse_lanes import SynapseLanes, accumulator_row_layout, weight_ports
from lmht.rtl.tap_addresses import TapAddressGenerator
from lmht.rtl.tap_lanes import TapLanes
from lmht.rtl.tile_parameters import WEIGHT_MEMORIES, TileParameters

__all__ = ["Integrator"]


class Integrator(wiring.Component):
    """Events to accumulators, row by row.

    ::

        i        ─► [EventFifo] ─► EventFilter ─► Skid ─► AddressGenerator ─► SynapseLanes
        residual ─► [EventFifo] ─► EventFilter ─► Skid ──────┘

    With ``tap_unroll`` the last two are TapAddressGenerator and TapLanes.

    Parameters
    ----------
    parameters : TileParameters

    Members
    -------
    ``i``, ``residual`` : in streams of the projections' ``input``, the second one only with a second projection
    ``load_weights``, ``load_residual_weights`` : in, :class:`~lmht.rtl.ports.LoadSignature`
    ``closed``, ``closed_valid`` : out, :func:`~lmht.rtl.pixel_walk.closed_layout`: this bank may be fetched from the
        next cycle on; rows close from top to bottom
    ``touched`` : out, :func:`~lmht.rtl.address_generator.touched_bits`, of a closed bank until it is freed
    ``fetch``, ``fetch_valid`` : in, :func:`~lmht.rtl.address_generator.fetch_layout`, a row of a closed bank; it is in
        ``read_data``, :func:`~lmht.rtl.synapse_lanes.accumulator_row_layout`, ``FETCH_CYCLES`` cycles later
    ``freed`` : in, one bit a bank; at the earliest with the last ``fetch`` of it
    ``pulses`` : out, ``frames``, ``events_in``, ``dropped`` (both up to one a projection), ``integrate``, ``stalls``
    ``errors`` : out, ``coordinates``, ``level``, ``rows``, ``kind``, of any projection

    Throughput: see :class:`~lmht.rtl.address_generator.AddressGenerator` and
    :class:`~lmht.rtl.tap_addresses.TapAddressGenerator`.
    """

    PULSES = data.StructLayout({"frames": 1, "events_in": 2, "dropped": 2, "integrate": 1, "stalls": 1})
    ERRORS = EventFilter.ERRORS

    def __init__(self, *, parameters: TileParameters):
        self.parameters = parameters
        projections = parameters.projections
        super().__init__(
            {
                **{name: In(own.input.signature) for name, own in zip(INPUTS, projections, strict=False)},
                **weight_ports(parameters),
                "closed": Out(closed_layout(parameters.banks)),
                "closed_valid": Out(1),
                "touched": Out(touched_bits(parameters)),
                "freed": In(parameters.banks),
                "fetch": In(fetch_layout(parameters)),
                "fetch_valid": In(1),
                "read_data": Out(accumulator_row_layout(parameters)),
                "pulses": Out(self.PULSES),
                "errors": Out(self.ERRORS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        parameters = self.parameters
        addresses: AddressGenerator | TapAddressGenerator
        lanes: SynapseLanes | TapLanes
        fetcher: AddressGenerator | TapLanes
        if parameters.tap_unroll:
            addresses = TapAddressGenerator(parameters=parameters)
            lanes = fetcher = TapLanes(parameters=parameters)
        else:
            addresses = fetcher = AddressGenerator(parameters=parameters)
            lanes = SynapseLanes(parameters=parameters)
        m.submodules.address_generator, m.submodules.synapse_lanes = addresses, lanes
        filters = []
        for projection, own in enumerate(parameters.projections):
            prefix = ("", "residual_")[projection]
            name = INPUTS[projection]
            m.submodules[f"{prefix}event_filter"] = event_filter = EventFilter(
                parameters=parameters, projection=projection
            )
            filters.append(event_filter)
            link = wiring.flipped(getattr(self, name))
            if own.fifo:
                m.submodules[f"{prefix}fifo"] = fifo = EventFifo(payload=own.input.payload, depth=own.fifo)
                connect(m, link, fifo.i)
                link = fifo.o
            connect(m, link, event_filter.i)
            # The filter must not wait for the walk through the taps within a cycle.
            m.submodules[f"{prefix}skid"] = skid = Skid(payload=event_filter.o.payload.shape())
            connect(m, event_filter.o, skid.i)
            connect(m, skid.o, getattr(addresses, name))

        for name in WEIGHT_MEMORIES[: len(filters)]:
            connect(m, wiring.flipped(getattr(self, f"load_{name}")), getattr(lanes, f"load_{name}"))
        m.d.comb += [
            lanes.operation.eq(addresses.operation),
            lanes.operation_valid.eq(addresses.operation_valid),
            lanes.first.eq(addresses.first),
            addresses.freed.eq(self.freed),
            fetcher.fetch.eq(self.fetch),
            fetcher.fetch_valid.eq(self.fetch_valid),
            self.read_data.eq(lanes.read_data),
            self.touched.eq(addresses.touched),
            # A row may be read once its last operation has reached the memory.
            self.closed_valid.eq(
                delay(m, addresses.closed_valid, lanes.SETTLE_CYCLES, name="closed_valid", reset_less=False)
            ),
            self.closed.eq(delay(m, addresses.closed, lanes.SETTLE_CYCLES, name="closed")),
            self.pulses.frames.eq(addresses.pulses.frames),
            self.pulses.integrate.eq(addresses.pulses.integrate),
            self.pulses.stalls.eq(addresses.pulses.stalls),
            self.pulses.events_in.eq(sum(one.pulses.events_in for one in filters)),
            self.pulses.dropped.eq(sum(one.pulses.dropped for one in filters)),
        ]
        for name in self.ERRORS.members:
            m.d.comb += self.errors[name].eq(any_of(one.errors[name] for one in filters))
        return m
