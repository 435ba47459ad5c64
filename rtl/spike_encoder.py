"""Vectors of levels to events: one neuron that spikes a cycle, none spent on a vector of zeros."""

from __future__ import annotations

from dataclasses import replace

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from lmht.rtl.events import EventKind
from lmht.rtl.select import first_of, lane_index, one_hot_mux
from lmht.rtl.skid import Skid
from lmht.rtl.tile_parameters import TileParameters

__all__ = ["SpikeEncoder", "map_vector_layout", "spike_vector_layout"]


def spike_vector_layout(parameters: TileParameters) -> data.StructLayout:
    """Payload in front of the spike encoder: the levels of one update row of a pixel, behind the pooling.

    ``x``, ``row``, ``last`` (vector of this row of the map), ``frame`` (counts with ``last``: the frame's last row),
    ``error`` (counts with ``frame``) and ``levels[lane][step]``.
    """
    output = parameters.output
    return data.StructLayout(
        {
            "x": range(output.width),
            "row": range(parameters.update_rows),
            "last": 1,
            "frame": 1,
            "error": 1,
            "levels": data.ArrayLayout(
                data.ArrayLayout(output.level_shape, output.steps), parameters.update_lanes
            ),
        }
    )


def map_vector_layout(parameters: TileParameters) -> data.StructLayout:
    """The same in front of the pooling, where there is any: behind the neuron array."""
    return spike_vector_layout(replace(parameters, pooling=None))


class SpikeEncoder(wiring.Component):
    """Emit an event per neuron that spikes, and a token per row of the map.

    Parameters
    ----------
    parameters : TileParameters

    Members
    -------
    ``i`` : in stream of :func:`spike_vector_layout`
    ``o`` : out stream of ``parameters.output``
    ``pulses`` : out, ``events``, ``stalls`` (output valid, not ready)

    A neuron whose levels are all 0 is not sent, except by a classifier, which sends every logit. The lowest
    update lane goes first; ``channel`` is ``channel_offset + row * update_lanes + lane``. Lanes of padding,
    beyond ``channels``, are never sent. After a vector with ``last`` comes ``ROW_END``, or with ``frame``
    ``FRAME_END`` and its ``error``; ``y`` counts the tokens.

    Throughput: one event or token a cycle, no gap between vectors; a vector without any takes no cycle while
    another one is sent, else one. Latency: :attr:`LATENCY` cycles.
    """

    LATENCY = 4
    PULSES = data.StructLayout({"events": 1, "stalls": 1})

    def __init__(self, *, parameters: TileParameters):
        if not isinstance(parameters, TileParameters):
            raise TypeError(f"parameters must be TileParameters, not {parameters!r}")
        self.parameters = parameters
        super().__init__(
            {
                "i": In(stream.Signature(spike_vector_layout(parameters))),
                "o": Out(parameters.output.signature),
                "pulses": Out(self.PULSES),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        parameters, output = self.parameters, self.parameters.output
        lanes = parameters.update_lanes

        m.submodules.skid = skid = Skid(payload=spike_vector_layout(parameters))
        wiring.connect(m, wiring.flipped(self.i), skid.i)
        vector = skid.o
        speaking = Signal(lanes)
        m.d.comb += speaking.eq(self._speaking_lanes(vector.payload))

        # The vector at work: lanes still to be sent, and whether a token follows them.
        pending = Signal(lanes)
        token = Signal()
        frame = Signal(reset_less=True)
        error = Signal(reset_less=True)
        x = Signal(range(output.width), reset_less=True)
        y = Signal(range(output.height))
        base = Signal(range(output.channels), reset_less=True)
        levels = Signal(data.ArrayLayout(len(vector.payload.levels[0].as_value()), lanes), reset_less=True)

        accept = Signal()  # the next stage takes a word
        first = Signal(lanes)
        any_left = Signal()
        done = Signal()
        m.d.comb += [
            first.eq(first_of(pending)),
            any_left.eq(pending.any()),
            # One word is left, or none: lanes first, then the token.
            done.eq(Mux(token, ~any_left, ~(pending & ~first).any())),
        ]
        selected = Signal(
            data.StructLayout(
                {
                    "token": 1,
                    "frame": 1,
                    "error": 1,
                    "y": range(output.height),
                    "x": range(output.width),
                    "base": base.shape(),
                    "lane": range(lanes),
                    "levels": len(levels[0]),
                }
            ),
            reset_less=True,
        )
        selected_valid = Signal()
        with m.If(accept):
            m.d.sync += [
                selected_valid.eq(any_left | token),
                selected.token.eq(~any_left),
                selected.frame.eq(frame),
                selected.error.eq(error),
                selected.y.eq(y),
                selected.x.eq(x),
                selected.base.eq(base),
                selected.lane.eq(lane_index(first)),
                selected.levels.eq(one_hot_mux(first, [levels[lane] for lane in range(lanes)])),
                pending.eq(pending & ~first),
            ]
            with m.If(~any_left):
                m.d.sync += token.eq(0)
            with m.If(token & ~any_left):
                m.d.sync += y.eq(Mux(frame, 0, y + 1))

        silent = Signal()
        free = Signal()
        m.d.comb += [
            silent.eq(~speaking.any() & ~vector.payload.last),
            free.eq(~(any_left | token) | (accept & done)),
            vector.ready.eq(free | silent),
        ]
        with m.If(free):
            m.d.sync += [
                pending.eq(speaking & vector.valid.replicate(lanes)),
                token.eq(vector.payload.last & vector.valid),
                frame.eq(vector.payload.frame),
                error.eq(vector.payload.error),
                x.eq(vector.payload.x),
                base.eq(parameters.channel_offset + vector.payload.row * lanes),
                levels.eq(vector.payload.levels),
            ]
        self._send(m, accept, selected, selected_valid)
        return m

    def _speaking_lanes(self, vector: data.View) -> Cat:
        """Lanes that hold a neuron, and one to send."""
        parameters = self.parameters
        rows, lanes = parameters.update_rows, parameters.update_lanes
        in_last_row = parameters.channels - (rows - 1) * lanes
        speaking = []
        for lane in range(lanes):
            levels = vector.levels[lane].as_value()
            speaks = Const(1) if parameters.neuron.is_classifier else levels.any()
            speaking.append(speaks if lane < in_last_row else speaks & (vector.row != rows - 1))
        return Cat(speaking)

    def _send(self, m: Module, accept: Signal, selected: data.View, selected_valid: Signal) -> None:
        """Last stage: add the lane to the vector's first channel and offer the event."""
        o = self.o
        advance = Signal()
        m.d.comb += [advance.eq(~o.valid | o.ready), accept.eq(~selected_valid | advance)]
        with m.If(advance):
            m.d.sync += [
                o.valid.eq(selected_valid),
                o.payload.kind.eq(
                    Mux(
                        selected.token,
                        Mux(selected.frame, EventKind.FRAME_END, EventKind.ROW_END),
                        EventKind.EVENT,
                    )
                ),
                o.payload.error.eq(selected.token & selected.frame & selected.error),
                o.payload.y.eq(selected.y),
                o.payload.x.eq(selected.x),
                o.payload.channel.eq(selected.base + selected.lane),
                o.payload.levels.eq(selected.levels),
            ]
        m.d.sync += [
            self.pulses.events.eq(o.valid & o.ready & (o.payload.kind == EventKind.EVENT)),
            self.pulses.stalls.eq(o.valid & ~o.ready),
        ]
