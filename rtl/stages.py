"""The stages of a design in the order of the data, made from its parameters: the one list that top level,
register map, documentation and test benches share."""

from __future__ import annotations

from amaranth.lib import wiring

from lmht.rtl.frame_encoder import FrameEncoder
from lmht.rtl.parameters import DesignParameters
from lmht.rtl.readout import Readout
from lmht.rtl.router import EventRouter
from lmht.rtl.tile import Tile

__all__ = ["design_stages"]


def design_stages(parameters: DesignParameters) -> dict[str, wiring.Component]:
    """New components of every stage by instance name.

    ``frame_encoder``; for every layer ``router<layer>`` and its tiles; ``router<layers>``; ``readout``. Each has
    ``pulses`` and ``errors`` ports.
    """
    stages: dict[str, wiring.Component] = {"frame_encoder": FrameEncoder(frame=parameters.frame)}
    sources = 1
    link = parameters.frame.layout
    for index, tiles in enumerate(parameters.layers):
        stages[f"router{index}"] = EventRouter(layout=link, sources=sources, destinations=len(tiles))
        for tile in tiles:
            stages[tile.name] = Tile(parameters=tile)
        sources = len(tiles)
        link = tiles[0].output
    stages[f"router{len(parameters.layers)}"] = EventRouter(layout=link, sources=sources, destinations=1)
    stages["readout"] = Readout(layout=link)
    return stages
