"""The stages of a design in the order of the data, from its parameters: the one list that top level,
register map, documentation and test benches share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from amaranth.lib import data, wiring

from lmht.rtl.frame_encoder import FrameEncoder
from lmht.rtl.parameters import DesignParameters
from lmht.rtl.readout import Readout
from lmht.rtl.router import EventRouter
from lmht.rtl.tile import Tile

__all__ = ["Stage", "design_stages"]


@dataclass(frozen=True)
class Stage:
    """One stage: how to make its component, and the layouts of the component's ``pulses`` and ``errors``."""

    create: Callable[[], wiring.Component]
    pulses: data.StructLayout
    errors: data.StructLayout


def design_stages(parameters: DesignParameters) -> dict[str, Stage]:
    """Every stage by instance name: ``frame_encoder``; for every layer ``router<layer>`` and its tiles;
    ``router<layers>``; ``readout``."""
    stages = {
        "frame_encoder": Stage(
            lambda: FrameEncoder(frame=parameters.frame), FrameEncoder.PULSES, FrameEncoder.ERRORS
        )
    }
    sources = 1
    link = parameters.frame.layout
    for index, tiles in enumerate((*parameters.layers, ())):
        destinations = len(tiles) or 1  # the readout

        def router(layout=link, sources=sources, destinations=destinations) -> EventRouter:
            return EventRouter(layout=layout, sources=sources, destinations=destinations)

        stages[f"router{index}"] = Stage(
            router, EventRouter.pulses_layout(sources, destinations), EventRouter.ERRORS
        )
        for tile in tiles:
            stages[tile.name] = Stage(partial(Tile, parameters=tile), Tile.PULSES, Tile.ERRORS)
        if tiles:
            sources, link = len(tiles), tiles[0].output
    stages["readout"] = Stage(partial(Readout, layout=link), Readout.PULSES, Readout.ERRORS)
    return stages
