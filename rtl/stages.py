"""The stages of a design in the order of the data, from its parameters: the one list that top level,
register map, documentation and test benches share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from amaranth.lib import data, wiring

from lmht.rtl.frame_encoder import FrameEncoder
from lmht.rtl.parameters import DesignParameters
from lmht.rtl.projection import IMAGE
from lmht.rtl.readout import Readout
from lmht.rtl.router import EventRouter
from lmht.rtl.tile import Tile

__all__ = ["Stage", "design_stages"]


@dataclass(frozen=True)
class Stage:
    """One stage: how to make its component, and the layouts of the component's ``pulses`` and ``errors``.

    `limits` holds the pulses whose amount never gets as large as its bits allow.
    """

    create: Callable[[], wiring.Component]
    pulses: data.StructLayout
    errors: data.StructLayout
    limits: Mapping[str, int] = field(default_factory=dict)

    def most(self, pulse: str) -> int:
        """Largest amount of a pulse in a cycle."""
        return self.limits.get(pulse, (1 << self.pulses[pulse].width) - 1)


def design_stages(parameters: DesignParameters) -> dict[str, Stage]:
    """Every stage by instance name: ``frame_encoder`` and ``router0`` behind it; for every layer its tiles and
    ``router<layer + 1>`` behind them; ``readout``."""
    stages = {
        "frame_encoder": Stage(
            partial(FrameEncoder, frame=parameters.frame), FrameEncoder.PULSES, FrameEncoder.ERRORS
        )
    }
    for source in range(IMAGE, len(parameters.layers)):
        tiles = parameters.layers[source] if source != IMAGE else ()
        for tile in tiles:
            stages[tile.name] = Stage(
                partial(Tile, parameters=tile), Tile.PULSES, Tile.ERRORS, limits={"skipped": tile.width}
            )
        inputs, outputs = parameters.router_size(source)
        stages[f"router{source + 1}"] = Stage(
            partial(EventRouter, layout=parameters.link(source), sources=inputs, destinations=outputs),
            EventRouter.pulses_layout(inputs, outputs),
            EventRouter.ERRORS,
        )
    stages["readout"] = Stage(
        partial(Readout, layout=parameters.logit_layout), Readout.PULSES, Readout.ERRORS
    )
    return stages
