"""Elaboration parameters of a design: one frozen object for planner, RTL, golden checks, benches and C header."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property

from lmht.rtl.checks import check_choice, check_range
from lmht.rtl.events import EventLayout
from lmht.rtl.projection import IMAGE, ProjectionParameters
from lmht.rtl.tile_parameters import TileParameters

__all__ = ["Consumer", "DesignParameters", "FrameParameters"]


@dataclass(frozen=True, kw_only=True)
class FrameParameters:
    """Dense input frames of unsigned bytes in ``(y, x, channel)`` order, ``bytes_per_beat`` at a time."""

    height: int
    width: int
    channels: int
    bytes_per_beat: int = 8

    def __post_init__(self) -> None:
        for name in ("height", "width", "channels"):
            check_range(name, getattr(self, name), 1, 65536)
        check_choice("bytes_per_beat", self.bytes_per_beat, (1, 2, 4, 8, 16))

    @property
    def frame_bytes(self) -> int:
        return self.height * self.width * self.channels

    @property
    def beats(self) -> int:
        """Beats of one frame; unused bytes of the last beat are ignored."""
        return -(-self.frame_bytes // self.bytes_per_beat)

    @property
    def layout(self) -> EventLayout:
        """The link behind the frame encoder: one level field of 8 bits, sent once (``T_in = 1``)."""
        return EventLayout.for_levels(
            height=self.height, width=self.width, channels=self.channels, steps=1, max_level=255
        )


@dataclass(frozen=True)
class Consumer:
    """A tile's input that a source feeds: the tile, and which of its projections."""

    tile: TileParameters
    projection: int

    @property
    def parameters(self) -> ProjectionParameters:
        return self.tile.projections[self.projection]


@dataclass(frozen=True, kw_only=True)
class DesignParameters:
    """A whole design: frame encoder, layers of tiles, readout, with an event router behind every source.

    Parameters
    ----------
    name : str
        Verilog identifier; name of the top module and of the emitted files.
    frame : FrameParameters
    layers : tuple of tuple of TileParameters
        Tiles of each layer; a layer's projections come from the image or from layers before it, and the last layer
        is the classifier.
    """

    name: str
    frame: FrameParameters
    layers: tuple[tuple[TileParameters, ...], ...]

    def __post_init__(self) -> None:
        if not self.layers or not all(self.layers):
            raise ValueError("layers must hold at least one layer of at least one tile")
        for index, tiles in enumerate(self.layers):
            covered = 0
            for tile in tiles:
                self._check_sources(index, tile)
                if tile.channel_offset != covered:
                    raise ValueError(
                        f"{tile.name} must begin at channel {covered}, not {tile.channel_offset}"
                    )
                if tile.output != tiles[0].output:
                    raise ValueError(f"{tile.name} must have the same output as the rest of layer {index}")
                covered += tile.channels
            if covered != tiles[0].layer_channels:
                raise ValueError(
                    f"the tiles of layer {index} cover {covered} of {tiles[0].layer_channels} channels"
                )
            if any(tile.neuron.is_classifier != (index == len(self.layers) - 1) for tile in tiles):
                raise ValueError("the last layer, and no other, must be a classifier")
        for source in range(IMAGE, len(self.layers) - 1):
            if not self.consumers(source):
                name = "the image" if source == IMAGE else f"layer {source}"
                raise ValueError(f"{name} must feed a layer, not none")

    def _check_sources(self, index: int, tile: TileParameters) -> None:
        for projection in tile.projections:
            check_range(f"source of {tile.name}", projection.source, IMAGE, index - 1)
            if projection.input != self.link(projection.source):
                raise ValueError(f"{tile.name} expects another input than layer {index} receives")

    def link(self, source: int) -> EventLayout:
        """Link behind a layer, or behind the frame encoder for :data:`~lmht.rtl.projection.IMAGE`."""
        return self.frame.layout if source == IMAGE else self.layers[source][0].output

    def consumers(self, source: int) -> tuple[Consumer, ...]:
        """All inputs of tiles that a source feeds, in the order of the tiles: the destinations of its router."""
        return tuple(
            Consumer(tile, number)
            for tile in self.tiles
            for number, projection in enumerate(tile.projections)
            if projection.source == source
        )

    def router_size(self, source: int) -> tuple[int, int]:
        """Inputs and outputs of the router behind a source: its tiles, and its consumers or the readout."""
        return 1 if source == IMAGE else len(self.layers[source]), len(self.consumers(source)) or 1

    @property
    def tiles(self) -> tuple[TileParameters, ...]:
        """All tiles in order."""
        return tuple(tile for layer in self.layers for tile in layer)

    @property
    def classes(self) -> int:
        return self.layers[-1][0].layer_channels

    @property
    def logit_layout(self) -> EventLayout:
        """Link in front of the readout."""
        return self.layers[-1][0].output

    def canonical_json(self) -> str:
        """The parameters as JSON with sorted keys: equal parameters give equal text."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @cached_property
    def design_hash(self) -> str:
        """First 64 bits of SHA-256 over :meth:`canonical_json`, 16 hexadecimal digits. Weights do not enter."""
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()[:16]
