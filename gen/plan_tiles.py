"""The tiles of a network before anything is chosen about their size: inputs, pooling, slices of channels."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from lmht.gen.integer import IntegerLayer, IntegerNetwork
from lmht.gen.integer_projection import IntegerProjection
from lmht.gen.quiet import quiet_levels
from lmht.rtl.events import EventLayout
from lmht.rtl.neuron_parameters import NeuronParameters
from lmht.rtl.parameters import FrameParameters
from lmht.rtl.projection import IMAGE, Pooling, ProjectionParameters
from lmht.rtl.tile_parameters import TileParameters

__all__ = ["own_pooling", "sent_shape", "slice_channels", "whole_layers"]


def slice_channels(channels: int, tiles: int) -> list[tuple[int, int]]:
    """Offset and size of each tile's slice: equal parts, the first ones one more where it does not divide."""
    edges = [number * (channels // tiles) + min(number, channels % tiles) for number in range(tiles + 1)]
    return [(start, end - start) for start, end in itertools.pairwise(edges)]


def whole_layers(
    network: IntegerNetwork, neurons: Sequence[NeuronParameters], frame: FrameParameters, *, skip_quiet: bool
) -> list[TileParameters]:
    """Every layer as one tile with one lane.

    Raises
    ------
    ValueError
        If a pooling cannot be built; the message names the layer.
    """
    pooling = {source: own_pooling(network, source) for source in range(IMAGE, len(network.layers))}
    tiles: list[TileParameters] = []
    for index, (layer, neuron) in enumerate(zip(network.layers, neurons, strict=True)):
        tiles.append(
            TileParameters(
                name=f"layer{index}_tile0",
                layer=index,
                projections=tuple(
                    _connect(
                        projection,
                        frame.layout if projection.source == IMAGE else tiles[projection.source].output,
                        pooled=pooling[projection.source] is not None,
                    )
                    for projection in layer.projections
                ),
                layer_channels=layer.channels,
                channel_offset=0,
                channels=layer.channels,
                lanes=1,
                neuron=neuron,
                pooling=pooling[index],
                skip_quiet=skip_quiet,
                constant_events=skip_quiet and _speaks_unasked(layer),
            )
        )
    return tiles


def _speaks_unasked(layer: IntegerLayer) -> bool:
    """Whether pixels without input send events. Of a map of one pixel, only a black image leaves that untouched."""
    return layer.levels is not None and layer.shape[1:] != (1, 1) and bool(quiet_levels(layer).any())


def own_pooling(network: IntegerNetwork, source: int) -> Pooling | None:
    """Pooling that a layer does itself: the one that all its consumers want."""
    wanted = [
        network.layers[layer].projections[number].pooling for layer, number in network.consumers(source)
    ]
    if source != IMAGE and wanted and all(pooling == wanted[0] for pooling in wanted):
        return wanted[0]
    for (layer, _), pooling in zip(network.consumers(source), wanted, strict=True):
        if pooling is not None and pooling.kind == "max":
            text = "the image" if source == IMAGE else f"layer {source}, which feeds others without it"
            raise ValueError(f"layer {layer}: pooling of its input must be an average, not max of {text}")
    return None


def sent_shape(network: IntegerNetwork, source: int) -> tuple[int, int, int]:
    """Channels, height and width of the map that a layer sends on, behind its own pooling."""
    channels, height, width = network.layers[source].shape
    pooling = own_pooling(network, source)
    return channels, *((height, width) if pooling is None else pooling.pooled(height, width))


def _connect(projection: IntegerProjection, link: EventLayout, *, pooled: bool) -> ProjectionParameters:
    """A layer's input; sums that its source has not `pooled` are folded into the addresses."""
    fold = projection.pooling if not pooled else None
    return ProjectionParameters(
        source=projection.source,
        input=link,
        kernel=projection.kernel,
        stride=projection.stride,
        padding=projection.padding,
        pool=(1, 1) if fold is None else fold.size,
        channel_groups=projection.groups,
        weight_bits=projection.weight_bits,
        shift=projection.shift,
    )
