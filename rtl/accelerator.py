"""Top level: frame encoder, routers, tiles, readout and configuration bus."""

from __future__ import annotations

from amaranth.hdl import Module, ResetInserter
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from lmht.rtl.config_bus import ConfigBus
from lmht.rtl.frame_encoder import frame_beat_layout
from lmht.rtl.frame_gate import FrameGate
from lmht.rtl.parameters import DesignParameters
from lmht.rtl.ports import ConfigBusSignature
from lmht.rtl.projection import IMAGE
from lmht.rtl.readout import result_layout
from lmht.rtl.result_gate import ResultGate
from lmht.rtl.row_scheduler import INPUTS
from lmht.rtl.stages import design_stages

__all__ = ["Accelerator"]


class Accelerator(wiring.Component):
    """A whole design.

    Parameters
    ----------
    parameters : DesignParameters

    Members
    -------
    ``frames`` : in stream of dense frames (:func:`~lmht.rtl.frame_encoder.frame_beat_layout`), taken while
        ``CONTROL.enable`` is set
    ``results`` : out stream of logits and class (:func:`~lmht.rtl.readout.result_layout`)
    ``bus`` : in, :class:`~lmht.rtl.ports.ConfigBusSignature`, seen from the target
    ``interrupt_request`` : out, an enabled cause of ``INTERRUPT_CAUSE`` is set
    ``frame_restart`` : out, 1 in the cycle of a soft reset with ``new_frame``: what is in front of ``frames`` forgets
        the frame it has begun as well

    A soft reset (``COMMAND.soft_reset``) gives up all frames in flight: it resets the stages, but not what was loaded
    into them, and keeps frames whole at both ends (:class:`~lmht.rtl.frame_gate.FrameGate`,
    :class:`~lmht.rtl.result_gate.ResultGate`).

    Throughput: a frame as often as its slowest stage allows; every stage works on a frame of its own.
    """

    def __init__(self, *, parameters: DesignParameters):
        self.parameters = parameters
        super().__init__(self.ports(parameters))

    @staticmethod
    def ports(parameters: DesignParameters) -> wiring.Signature:
        """Ports of a design."""
        return wiring.Signature(
            {
                "frames": In(stream.Signature(frame_beat_layout(parameters.frame))),
                "results": Out(stream.Signature(result_layout(parameters.logit_layout))),
                "bus": In(ConfigBusSignature()),
                "interrupt_request": Out(1),
                "frame_restart": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        stages = {name: stage.create() for name, stage in design_stages(self.parameters).items()}
        m.submodules.config_bus = config = ConfigBus(parameters=self.parameters)
        for name, component in stages.items():
            m.submodules[name] = ResetInserter(config.soft_reset)(component)
        connect(m, flipped(self.bus), config.bus)

        encoder = stages["frame_encoder"]
        m.submodules.frame_gate = frame_gate = FrameGate(frame=self.parameters.frame)
        m.submodules.result_gate = result_gate = ResultGate(layout=self.parameters.logit_layout)
        connect(m, flipped(self.frames), frame_gate.i)
        connect(m, frame_gate.o, encoder.i)
        m.d.comb += [
            frame_gate.enable.eq(config.enable),
            frame_gate.soft_reset.eq(config.soft_reset),
            frame_gate.new_frame.eq(config.new_frame),
            config.swallowing.eq(frame_gate.swallowing),
            result_gate.soft_reset.eq(config.soft_reset),
            config.frame_done.eq(result_gate.frame_done),
            self.interrupt_request.eq(config.interrupt_request),
            self.frame_restart.eq(config.soft_reset & config.new_frame),
        ]
        readout = stages["readout"]
        for source in range(IMAGE, len(self.parameters.layers)):
            if source == IMAGE:
                outputs = [encoder.o]
            else:
                outputs = [stages[tile.name].o for tile in self.parameters.layers[source]]
            inputs = [
                getattr(stages[consumer.tile.name], INPUTS[consumer.projection])
                for consumer in self.parameters.consumers(source)
            ]
            self._route(m, outputs, stages[f"router{source + 1}"], inputs or [readout.i])
        connect(m, readout.o, result_gate.i)
        connect(m, result_gate.o, flipped(self.results))

        for name, component in stages.items():
            m.d.comb += [
                getattr(config, f"{name}_pulses").eq(component.pulses),
                getattr(config, f"{name}_errors").eq(component.errors),
            ]
        for memory in config.map.memories:
            connect(
                m,
                getattr(config, f"load_{memory.name}"),
                getattr(stages[memory.stage], f"load_{memory.memory}"),
            )
        return m

    @staticmethod
    def _route(m: Module, sources: list, router: wiring.Component, destinations: list) -> None:
        for source, port in zip(sources, router.i, strict=True):
            connect(m, source, port)
        for port, destination in zip(router.o, destinations, strict=True):
            connect(m, port, destination)
