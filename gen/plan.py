"""Pass 5: tiles, lanes and multipliers of every layer, so that no part waits for another without need."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lmht.gen.encoder_work import expected_encoder_cycles
from lmht.gen.fifo_depth import fifo_depths
from lmht.gen.integer import IntegerNetwork
from lmht.gen.plan_budget import Budget, DeviceBudget, LaneBudget, grow
from lmht.gen.plan_layer import MAX_LANES, Choice, LayerPlan, build
from lmht.gen.plan_tiles import sent_shape, whole_layers
from lmht.gen.resources import DEVICES
from lmht.rtl.checks import STEPS_LIMIT, check_choice, check_range
from lmht.rtl.neuron_parameters import NeuronParameters
from lmht.rtl.parameters import DesignParameters, FrameParameters
from lmht.rtl.projection import ProjectionParameters

__all__ = ["DEFAULT_PIXEL_DENSITY", "DEFAULT_SPIKE_DENSITY", "PlanOptions", "expected_events", "plan"]

DEFAULT_PIXEL_DENSITY = 0.2
DEFAULT_SPIKE_DENSITY = 0.35
DEFAULT_LANES = 16


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """What the user decides about the hardware; :func:`plan` decides the rest.

    Of `lanes`, `lane_budget` and `device` at most one is given; without any, 16 lanes.

    Parameters
    ----------
    lanes : int or sequence of int, optional
        A number is for the slowest layer; a sequence gives the lanes of every layer exactly, 1 to 128.
    lane_budget : int, optional
        Lanes of all tiles together, times the taps where all of them are integrated at once.
    device : str, optional
        One of :data:`~lmht.gen.resources.DEVICES`, to be filled.
    split : mapping of int to int
        Layer to number of tiles; 1 for layers left out (with a budget: at least 1).
    tap_unroll : mapping of int to bool, or bool, optional
        Layers, or all, that integrate all taps of an event at once, or do not. What is left out is one tap a cycle,
        or, with a budget, as it pays.
    bytes_per_beat : int
        Pixels per beat of the input stream: 1, 2, 4, 8 or 16.
    update_lanes, mix_multipliers : int or None
        Of every tile; None lets the plan choose. Each layer takes the largest possible value up to the
        number.
    skip_quiet : bool
        Pixels that no event has touched are not updated where their levels are known.
    """

    lanes: int | Sequence[int] | None = None
    lane_budget: int | None = None
    device: str | None = None
    split: Mapping[int, int] | None = None
    tap_unroll: Mapping[int, bool] | bool | None = None
    bytes_per_beat: int = 8
    update_lanes: int | None = None
    mix_multipliers: int | None = None
    skip_quiet: bool = True

    def tiles(self, layer: int) -> int:
        """Tiles of a layer; with a budget, the fewest."""
        return (self.split or {}).get(layer, 1)

    def unrolls(self, layer: int) -> bool | None:
        """What is decided about all taps of a layer at once; None if nothing."""
        if isinstance(self.tap_unroll, Mapping):
            return self.tap_unroll.get(layer)
        return self.tap_unroll


def expected_events(
    network: IntegerNetwork, *, pixels: float | None = None, spikes: float | Sequence[float] | None = None
) -> list[float]:
    """Events of an average image on every link: behind the image, then behind every layer but the last.

    The pooling that a layer does itself (:func:`~lmht.gen.plan_tiles.own_pooling`) lies in front of its link.

    Parameters
    ----------
    network : IntegerNetwork
    pixels : float, optional
        The part of the pixels that send an event, 0 to 1; `DEFAULT_PIXEL_DENSITY` by default.
    spikes : float or sequence of float, optional
        The part of the positions of the maps that all hidden layers, or each of them, send on; `DEFAULT_SPIKE_DENSITY`
        by default.

    Raises
    ------
    ValueError
        If there are not as many numbers as hidden layers.
    """
    hidden = network.layers[:-1]
    if spikes is None:
        spikes = DEFAULT_SPIKE_DENSITY
    if not isinstance(spikes, Sequence):
        spikes = [spikes] * len(hidden)
    if len(spikes) != len(hidden):
        raise ValueError(
            f"spike_density must be one number or one for each of {len(hidden)} hidden layers, not {len(spikes)}"
        )
    first = DEFAULT_PIXEL_DENSITY if pixels is None else pixels
    counts = [part * math.prod(sent_shape(network, index)) for index, part in enumerate(spikes)]
    return [float(network.inputs * first), *counts]


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
      than channels. With a budget, the slowest layer gets more, step by step (:mod:`lmht.gen.plan_budget`).
    * Update lanes and mixing multipliers: the fewest multipliers with which the update is no slower than the
      integration of the same tile or half the slowest stage, whichever is longer; then the fewest update
      lanes.
    * FIFOs where branches meet, and between busy layers: :mod:`lmht.gen.fifo_depth`.

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
        If an option lies outside its range, a pooling cannot be built, or the smallest design does not fit; the
        message names it.
    """
    channels, height, width = network.input_shape
    frame = FrameParameters(
        height=height, width=width, channels=channels, bytes_per_beat=options.bytes_per_beat
    )
    _check_options(network, options)
    whole = whole_layers(network, neurons, frame, skip_quiet=options.skip_quiet)
    whole = [
        replace(tile, projections=tuple(map(_with_fifo, tile.projections, depths)))
        for tile, depths in zip(whole, fifo_depths(whole), strict=True)
    ]
    layers = [
        LayerPlan(
            tile,
            [events[projection.source + 1] for projection in tile.projections],
            most_update_lanes=options.update_lanes,
            most_mix_multipliers=options.mix_multipliers,
        )
        for tile in whole
    ]
    encoder = expected_encoder_cycles(frame, events[0])
    if options.lane_budget is None and options.device is None:
        choices = _choose(layers, encoder, options)
    else:
        if options.device is None:
            budget: Budget = LaneBudget(options.lane_budget or 0)
        else:
            budget = DeviceBudget(DEVICES[options.device])
        choices = grow(layers, max(encoder, *events), budget, tiles=options.tiles, unrolls=options.unrolls)
    return DesignParameters(name=name, frame=frame, layers=tuple(build(layers, choices)))


def _check_options(network: IntegerNetwork, options: PlanOptions) -> None:
    given = [name for name in ("lanes", "lane_budget", "device") if getattr(options, name) is not None]
    if len(given) > 1:
        raise ValueError(f"{given[1]} must not be given with {given[0]}")
    if options.device is not None:
        check_choice("device", options.device, tuple(DEVICES))
    last = len(network.layers) - 1
    for layer, tiles in (options.split or {}).items():
        check_range("layer in split", layer, 0, last)
        check_range(f"tiles of layer {layer} in split", tiles, 1, network.layers[layer].channels)
    if isinstance(options.tap_unroll, Mapping):
        for layer in options.tap_unroll:
            check_range("layer in tap_unroll", layer, 0, last)
    if options.update_lanes is not None:
        check_range("update_lanes", options.update_lanes, 1, MAX_LANES)
    if options.mix_multipliers is not None:
        check_range("mix_multipliers", options.mix_multipliers, 1, STEPS_LIMIT**2)


def _with_fifo(projection: ProjectionParameters, words: int) -> ProjectionParameters:
    return replace(projection, fifo=words)


def _choose(layers: Sequence[LayerPlan], encoder: float, options: PlanOptions) -> list[Choice]:
    """Sizes for given lanes."""
    lanes = DEFAULT_LANES if options.lanes is None else options.lanes
    smallest = [
        layer.smallest(tiles=options.tiles(number), tap_unroll=bool(options.unrolls(number)))
        for number, layer in enumerate(layers)
    ]

    def time(number: int, choice: Choice) -> float:
        return layers[number].work(choice).integration

    if not isinstance(lanes, int):
        if len(lanes) != len(layers):
            expected = f"one number or one for each of {len(layers)} layers"
            raise ValueError(f"lanes must be {expected}, not {len(lanes)}")
        for number, count in enumerate(lanes):
            check_range(f"lanes of layer {number}", count, 1, MAX_LANES)
        chosen = [replace(choice, lanes=count) for choice, count in zip(smallest, lanes, strict=True)]
        slowest = max(encoder, *map(time, range(len(layers)), chosen))
    else:
        check_range("lanes", lanes, 1, MAX_LANES)
        # With one lane each, the time is the work.
        busiest = max(range(len(layers)), key=lambda number: time(number, smallest[number]))
        most = min(lanes, layers[busiest].channels(smallest[busiest]))
        given = replace(smallest[busiest], lanes=most)
        slowest = max(encoder, time(busiest, given))
        chosen = [
            given
            if number == busiest
            else layer.within(
                slowest / 2, tiles=options.tiles(number), tap_unroll=bool(options.unrolls(number))
            )
            for number, layer in enumerate(layers)
        ]
    return [layer.with_update(choice, slowest / 2) for layer, choice in zip(layers, chosen, strict=True)]
