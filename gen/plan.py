"""Pass 6: tiles, lanes and multipliers of every layer, so that no part waits for another without need."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lmht.gen.encoder_work import expected_encoder_cycles
from lmht.gen.estimate import integration_cycles, update_cycles
from lmht.gen.integer import IntegerNetwork
from lmht.rtl.checks import check_range
from lmht.rtl.parameters import DesignParameters, FrameParameters, NeuronParameters, TileParameters

__all__ = ["DEFAULT_PIXEL_DENSITY", "DEFAULT_SPIKE_DENSITY", "PlanOptions", "expected_events", "plan"]

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
    """

    lanes: int | Sequence[int] = 16
    split: Mapping[int, int] | None = None
    bytes_per_beat: int = 8
    update_lanes: int | None = None
    mix_multipliers: int | None = None


def expected_events(
    network: IntegerNetwork, *, pixels: float | None = None, spikes: float | None = None
) -> list[float]:
    """Events that an average image sends into each layer.

    Parameters
    ----------
    network : IntegerNetwork
    pixels, spikes : float, optional
        The parts of the pixels and of the hidden neurons that send an event, 0 to 1; by default
        `DEFAULT_PIXEL_DENSITY` and `DEFAULT_SPIKE_DENSITY`.
    """
    first = DEFAULT_PIXEL_DENSITY if pixels is None else pixels
    others = DEFAULT_SPIKE_DENSITY if spikes is None else spikes
    return [
        layer.inputs * min(max(float(first if index == 0 else others), 0.0), 1.0)
        for index, layer in enumerate(network.layers)
    ]


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
    * Lanes: with one number, the layer with the most work gets it, and every other layer the fewest lanes
      with which its expected integration takes at most half the time of the slowest stage; never more lanes
      than channels.
    * Update lanes and mixing multipliers: the fewest multipliers with which the update is no slower than the
      integration of the same tile or half the slowest stage, whichever is longer; then the fewest update
      lanes.

    Parameters
    ----------
    network : IntegerNetwork
    neurons : sequence of NeuronParameters
        Widths of every layer, from :func:`~lmht.gen.choose_widths.choose_widths`.
    name : str
        Name of the top module.
    events : sequence of float
        Expected events into each layer, from :func:`expected_events`.
    options : PlanOptions

    Raises
    ------
    ValueError
        If an option lies outside its range; the message names it.
    """
    channels, height, width = network.input_shape
    frame = FrameParameters(
        height=height, width=width, channels=channels, bytes_per_beat=options.bytes_per_beat
    )
    slices = [_slice_channels(network, index, options.split or {}) for index in range(len(network.layers))]
    largest = [max(size for _, size in parts) for parts in slices]
    encoder = expected_encoder_cycles(frame, events[0])
    lanes, slowest = _choose_lanes(options.lanes, events, largest, encoder)

    layers: list[tuple[TileParameters, ...]] = []
    link = frame.layout
    for index, (layer, neuron, parts) in enumerate(zip(network.layers, neurons, slices, strict=True)):
        time = integration_cycles(events[index], -(-largest[index] // lanes[index]))
        update_lanes, mix_multipliers = _choose_update(
            neuron, largest[index], lanes[index], max(time, slowest / 2), options
        )
        layers.append(
            tuple(
                TileParameters(
                    name=f"layer{index}_tile{number}",
                    layer=index,
                    input=link,
                    layer_channels=layer.neurons,
                    channel_offset=offset,
                    channels=size,
                    lanes=lanes[index],
                    weight_bits=layer.weight_bits,
                    neuron=neuron,
                    update_lanes=update_lanes,
                    mix_multipliers=mix_multipliers,
                )
                for number, (offset, size) in enumerate(parts)
            )
        )
        link = layers[-1][0].output
    return DesignParameters(name=name, frame=frame, layers=tuple(layers))


def _slice_channels(network: IntegerNetwork, index: int, split: Mapping[int, int]) -> list[tuple[int, int]]:
    """Offset and size of each tile's slice of a layer."""
    for layer in split:
        check_range("layer in split", layer, 0, len(network.layers) - 1)
    neurons, tiles = network.layers[index].neurons, split.get(index, 1)
    check_range(f"tiles of layer {index} in split", tiles, 1, neurons)
    edges = [number * (neurons // tiles) + min(number, neurons % tiles) for number in range(tiles + 1)]
    return [(start, end - start) for start, end in itertools.pairwise(edges)]


def _choose_lanes(
    lanes: int | Sequence[int], events: Sequence[float], channels: Sequence[int], encoder: float
) -> tuple[list[int], float]:
    """Lanes of every layer and the time of the slowest stage."""

    def time(index: int, count: int) -> float:
        return integration_cycles(events[index], math.ceil(channels[index] / count))

    if not isinstance(lanes, int):
        if len(lanes) != len(channels):
            expected = f"one number or one for each of {len(channels)} layers"
            raise ValueError(f"lanes must be {expected}, not {len(lanes)}")
        for index, count in enumerate(lanes):
            check_range(f"lanes of layer {index}", count, 1, MAX_LANES)
        return list(lanes), max(encoder, *(time(index, count) for index, count in enumerate(lanes)))

    check_range("lanes", lanes, 1, MAX_LANES)
    work = [count * size for count, size in zip(events, channels, strict=True)]
    busiest = work.index(max(work))
    slowest = max(encoder, time(busiest, min(lanes, channels[busiest])))
    chosen = []
    for index, size in enumerate(channels):
        if index == busiest:
            chosen.append(min(lanes, size))
            continue
        most = min(MAX_LANES, size)
        enough = (count for count in range(1, most + 1) if time(index, count) <= slowest / 2)
        chosen.append(next(enough, most))
    return chosen, slowest


def _choose_update(
    neuron: NeuronParameters, channels: int, lanes: int, limit: float, options: PlanOptions
) -> tuple[int, int]:
    """Update lanes and mixing multipliers per update lane."""
    lane_choices = [count for count in range(1, lanes + 1) if lanes % count == 0]
    multiplier_choices = sorted({1, neuron.input_steps, neuron.steps * neuron.input_steps})
    if options.update_lanes is not None:
        check_range("update_lanes", options.update_lanes, 1, MAX_LANES)
        lane_choices = [max(count for count in lane_choices if count <= options.update_lanes)]
    if options.mix_multipliers is not None:
        check_range("mix_multipliers", options.mix_multipliers, 1, 64)
        multiplier_choices = [max(count for count in multiplier_choices if count <= options.mix_multipliers)]

    def time(choice: tuple[int, int]) -> int:
        update_lanes, multipliers = choice
        phases = neuron.steps * neuron.input_steps // multipliers
        groups = -(-channels // lanes)
        return update_cycles(groups, lanes // update_lanes, -(-channels // update_lanes), phases)

    choices = [(count, multipliers) for count in lane_choices for multipliers in multiplier_choices]
    choices.sort(key=lambda choice: (choice[0] * choice[1], choice[0]))
    fast_enough = [choice for choice in choices if time(choice) <= limit]
    return fast_enough[0] if fast_enough else min(choices, key=time)
