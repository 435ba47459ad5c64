"""Pass 6: tiles, lanes and multipliers of every layer, so that no part waits for another without need."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from lmht.gen.encoder_work import expected_encoder_cycles
from lmht.gen.fifo_depth import fifo_depths
from lmht.gen.integer import IntegerNetwork
from lmht.gen.integer_projection import IntegerProjection
from lmht.gen.work import TileWork, expected_work, link_events
from lmht.rtl.checks import check_range
from lmht.rtl.events import EventLayout
from lmht.rtl.neuron_parameters import NeuronParameters
from lmht.rtl.parameters import DesignParameters, FrameParameters
from lmht.rtl.projection import IMAGE, Pooling, ProjectionParameters
from lmht.rtl.tile_parameters import TileParameters

__all__ = [
    "DEFAULT_PIXEL_DENSITY",
    "DEFAULT_SPIKE_DENSITY",
    "PlanOptions",
    "expected_events",
    "plan",
]

DEFAULT_PIXEL_DENSITY = 0.2
DEFAULT_SPIKE_DENSITY = 0.35
MAX_LANES = 128


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """What the user decides about the hardware; :func:`plan` decides the rest.

    Parameters
    ----------
    lanes : int or sequence of int
        A number is for the slowest layer; a sequence gives the lanes of every layer exactly, 1 to 128.
    split : mapping of int to int
        Layer to number of tiles; 1 for layers left out.
    bytes_per_beat : int
        Pixels per beat of the input stream: 1, 2, 4, 8 or 16.
    update_lanes, mix_multipliers : int or None
        Of every tile; None lets the plan choose. Each layer takes the largest possible value up to the
        number.
    skip_quiet : bool
        Pixels that no event has touched are not updated where their levels are known.
    """

    lanes: int | Sequence[int] = 16
    split: Mapping[int, int] | None = None
    bytes_per_beat: int = 8
    update_lanes: int | None = None
    mix_multipliers: int | None = None
    skip_quiet: bool = True


def expected_events(
    network: IntegerNetwork, *, pixels: float | None = None, spikes: float | None = None
) -> list[float]:
    """Events of an average image, before any pooling: of the image itself, then of every layer but the last.

    Parameters
    ----------
    network : IntegerNetwork
    pixels, spikes : float, optional
        The parts of the pixels and of the hidden neurons that send an event, 0 to 1; by default
        `DEFAULT_PIXEL_DENSITY` and `DEFAULT_SPIKE_DENSITY`.
    """
    first = DEFAULT_PIXEL_DENSITY if pixels is None else pixels
    others = DEFAULT_SPIKE_DENSITY if spikes is None else spikes
    counts = [network.inputs * float(first)]
    return counts + [layer.neurons * float(others) for layer in network.layers[:-1]]


def plan(
    network: IntegerNetwork,
    neurons: Sequence[NeuronParameters],
    *,
    name: str,
    events: Sequence[float],
    options: PlanOptions,
) -> DesignParameters:
    """Choose the hardware.

    * A layer's tiles take equal slices of its channels, the first ones one more where it does not divide.
    * A layer pools its own output where all that it feeds want the same pooling; otherwise the consumers fold
      sums into their addresses.
    * Lanes: with one number, the layer with the most work gets it, and every other layer the fewest lanes
      with which its expected integration takes at most half the time of the slowest stage; never more lanes
      than channels.
    * Update lanes and mixing multipliers: the fewest multipliers with which the update is no slower than the
      integration of the same tile or half the slowest stage, whichever is longer; then the fewest update
      lanes.
    * FIFOs where branches meet: :mod:`lmht.gen.fifo_depth`.

    Parameters
    ----------
    network : IntegerNetwork
    neurons : sequence of NeuronParameters
        Widths of every layer, from :func:`~lmht.gen.choose_widths.choose_widths`.
    name : str
        Name of the top module.
    events : sequence of float
        Expected events of the image and of every layer but the last, from :func:`expected_events`.
    options : PlanOptions

    Raises
    ------
    ValueError
        If an option lies outside its range, or a pooling cannot be built; the message names it.
    """
    channels, height, width = network.input_shape
    frame = FrameParameters(
        height=height, width=width, channels=channels, bytes_per_beat=options.bytes_per_beat
    )
    slices = [_slice_channels(network, index, options.split or {}) for index in range(len(network.layers))]
    # The largest tile of each layer, with one lane so far: what all choices start from.
    tiles = _first_tiles(network, neurons, frame, slices, options)
    links = link_events(tiles, events)
    encoder = expected_encoder_cycles(frame, links[0])

    def work(tile: TileParameters) -> TileWork:
        return expected_work(tile, tuple(links[projection.source + 1] for projection in tile.projections))

    lanes, slowest = _choose_lanes(options.lanes, tiles, work, encoder)
    chosen = [
        _choose_update(replace(tile, lanes=count), work, slowest / 2, options)
        for tile, count in zip(tiles, lanes, strict=True)
    ]
    chosen = [
        replace(tile, projections=tuple(map(_with_fifo, tile.projections, depths)))
        for tile, depths in zip(chosen, fifo_depths(chosen), strict=True)
    ]
    return DesignParameters(
        name=name,
        frame=frame,
        layers=tuple(
            tuple(
                replace(tile, name=f"layer{tile.layer}_tile{number}", channel_offset=offset, channels=size)
                for number, (offset, size) in enumerate(parts)
            )
            for tile, parts in zip(chosen, slices, strict=True)
        ),
    )


def _slice_channels(network: IntegerNetwork, index: int, split: Mapping[int, int]) -> list[tuple[int, int]]:
    """Offset and size of each tile's slice of a layer."""
    for layer in split:
        check_range("layer in split", layer, 0, len(network.layers) - 1)
    channels, tiles = network.layers[index].channels, split.get(index, 1)
    check_range(f"tiles of layer {index} in split", tiles, 1, channels)
    edges = [number * (channels // tiles) + min(number, channels % tiles) for number in range(tiles + 1)]
    return [(start, end - start) for start, end in itertools.pairwise(edges)]


def _first_tiles(
    network: IntegerNetwork,
    neurons: Sequence[NeuronParameters],
    frame: FrameParameters,
    slices: Sequence[Sequence[tuple[int, int]]],
    options: PlanOptions,
) -> list[TileParameters]:
    """The first tile of every layer, no other is larger, with one lane."""
    pooling = {source: _own_pooling(network, source) for source in range(IMAGE, len(network.layers))}
    tiles: list[TileParameters] = []
    for index, (layer, neuron, parts) in enumerate(zip(network.layers, neurons, slices, strict=True)):
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
                channels=parts[0][1],
                lanes=1,
                neuron=neuron,
                pooling=pooling[index],
                skip_quiet=options.skip_quiet,
            )
        )
    return tiles


def _own_pooling(network: IntegerNetwork, source: int) -> Pooling | None:
    """Pooling that a layer does itself: the one that all its consumers want.

    Raises
    ------
    ValueError
        If a maximum is wanted that the source cannot take, since the others do not want it or it is the image.
    """
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


def _with_fifo(projection: ProjectionParameters, words: int) -> ProjectionParameters:
    return replace(projection, fifo=words)


def _choose_lanes(
    lanes: int | Sequence[int],
    tiles: Sequence[TileParameters],
    work: Callable[[TileParameters], TileWork],
    encoder: float,
) -> tuple[list[int], float]:
    """Lanes of every layer and the time of the slowest stage."""

    def time(tile: TileParameters, count: int) -> float:
        return work(replace(tile, lanes=count)).integration

    if not isinstance(lanes, int):
        if len(lanes) != len(tiles):
            expected = f"one number or one for each of {len(tiles)} layers"
            raise ValueError(f"lanes must be {expected}, not {len(lanes)}")
        for index, count in enumerate(lanes):
            check_range(f"lanes of layer {index}", count, 1, MAX_LANES)
        return list(lanes), max(encoder, *map(time, tiles, lanes))

    check_range("lanes", lanes, 1, MAX_LANES)
    # With one lane each, the time is the work.
    busiest = max(range(len(tiles)), key=lambda index: time(tiles[index], 1))
    slowest = max(encoder, time(tiles[busiest], min(lanes, tiles[busiest].channels)))
    chosen = []
    for index, tile in enumerate(tiles):
        most = min(MAX_LANES, tile.channels)
        if index == busiest:
            chosen.append(min(lanes, tile.channels))
            continue
        enough = (count for count in range(1, most + 1) if time(tile, count) <= slowest / 2)
        chosen.append(next(enough, most))
    return chosen, slowest


def _choose_update(
    tile: TileParameters, work: Callable[[TileParameters], TileWork], limit: float, options: PlanOptions
) -> TileParameters:
    """The tile with update lanes, and mixing multipliers for each, so that its update takes no longer than its
    integration or `limit`."""
    neuron = tile.neuron
    lane_choices = [count for count in range(1, tile.lanes + 1) if tile.lanes % count == 0]
    multiplier_choices = sorted({1, neuron.input_steps, neuron.steps * neuron.input_steps})
    if options.update_lanes is not None:
        check_range("update_lanes", options.update_lanes, 1, MAX_LANES)
        lane_choices = [max(count for count in lane_choices if count <= options.update_lanes)]
    if options.mix_multipliers is not None:
        check_range("mix_multipliers", options.mix_multipliers, 1, 64)
        multiplier_choices = [max(count for count in multiplier_choices if count <= options.mix_multipliers)]
    choices = [(count, multipliers) for count in lane_choices for multipliers in multiplier_choices]
    choices.sort(key=lambda choice: (choice[0] * choice[1], choice[0]))
    tiles = [replace(tile, update_lanes=count, mix_multipliers=multipliers) for count, multipliers in choices]
    limit = max(limit, work(tile).integration)
    fast_enough = (choice for choice in tiles if work(choice).update <= limit)
    return next(fast_enough, None) or min(tiles, key=lambda choice: work(choice).update)
