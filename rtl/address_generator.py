"""Walks the channel groups of each event and hands the two accumulator banks over at frame ends."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from lmht.rtl.event_filter import synapse_request_layout
from lmht.rtl.parameters import TileParameters

__all__ = ["AddressGenerator", "bank_layout", "operation_layout"]


def operation_layout(parameters: TileParameters) -> data.StructLayout:
    """One cycle of the synapse lanes: add ``levels`` times a weight row to an accumulator row.

    ``first``: the row has not been written in this frame; its old content counts as zero.
    """
    return data.StructLayout(
        {
            "bank": 1,
            "first": 1,
            "group": range(parameters.groups),
            "weight_row": parameters.memories["weights"].row_bits,
            "levels": parameters.input.payload["levels"].shape,
        }
    )


bank_layout = data.StructLayout({"bank": 1, "empty": 1, "error": 1})
"""A closed bank: ``empty`` if the frame had no event (its accumulators count as zero), ``error`` of its end."""


class AddressGenerator(wiring.Component):
    """Issue the operations of every event, one group of lanes a cycle, and close a bank at every frame end.

    Parameters
    ----------
    parameters : TileParameters

    Members
    -------
    ``i`` : in stream of :func:`~lmht.rtl.event_filter.synapse_request_layout`
    ``operation``, ``operation_valid`` : out, :func:`operation_layout`; cannot be refused
    ``closed``, ``closed_valid`` : out, :data:`bank_layout`; in a cycle of its own, after the frame's last operation
    ``freed`` : in, one bit a bank: the bank has been read out and may integrate again
    ``pulses`` : out, ``frames``, ``integrate``, ``stalls``

    The generator holds the word it works on, so the filter can skip tokens meanwhile: events that follow each
    other take exactly ``groups`` cycles each, a frame end takes 1.
    """

    PULSES = data.StructLayout({"frames": 1, "integrate": 1, "stalls": 1})

    def __init__(self, *, parameters: TileParameters):
        self.parameters = parameters
        super().__init__(
            {
                "i": In(stream.Signature(synapse_request_layout(parameters))),
                "operation": Out(operation_layout(parameters)),
                "operation_valid": Out(1),
                "closed": Out(bank_layout),
                "closed_valid": Out(1),
                "freed": In(2),
                "pulses": Out(self.PULSES),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        groups = self.parameters.groups

        request = Signal(self.i.payload.shape(), reset_less=True)
        request_valid = Signal()
        group = Signal(range(groups))
        bank = Signal()
        first = Signal(init=1)
        busy = Signal(2)  # banks that wait for their update, or are in it

        free = Signal()
        issue = Signal()
        close = Signal()
        done = Signal()
        m.d.comb += [
            free.eq(~busy.bit_select(bank, 1)),
            issue.eq(request_valid & ~request.frame_end & free),
            close.eq(request_valid & request.frame_end & free),
            done.eq(close | (issue & (group == groups - 1))),
            self.i.ready.eq(~request_valid | done),
        ]
        with m.If(issue):
            m.d.sync += [request.weight_row.eq(request.weight_row + 1), group.eq(group + 1)]
            with m.If(group == groups - 1):
                m.d.sync += [group.eq(0), first.eq(0)]
        with m.If(self.i.ready):
            m.d.sync += [request.eq(self.i.payload), request_valid.eq(self.i.valid)]
        m.d.sync += busy.eq(busy & ~self.freed)
        with m.If(close):
            m.d.sync += [
                bank.eq(~bank),
                first.eq(1),
                busy.bit_select(bank, 1).eq(1),
            ]

        m.d.sync += [
            self.operation_valid.eq(issue),
            self.operation.bank.eq(bank),
            self.operation.first.eq(first),
            self.operation.group.eq(group),
            self.operation.weight_row.eq(request.weight_row),
            self.operation.levels.eq(request.levels),
            self.closed_valid.eq(close),
            self.closed.bank.eq(bank),
            self.closed.empty.eq(first),
            self.closed.error.eq(request.error),
            self.pulses.frames.eq(close),
            self.pulses.integrate.eq(issue),
            self.pulses.stalls.eq(request_valid & ~free),
        ]
        return m
