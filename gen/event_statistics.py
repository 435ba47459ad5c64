"""Events, spikes and synaptic operations of an integer network on given images, layer by layer."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from rich.console import Group
from rich.table import Table
from rich.text import Text
from torch import Tensor

from lmht.gen.choose_widths import choose_widths
from lmht.gen.frame_work import measure_integration, pooled_events
from lmht.gen.integer import IntegerNetwork
from lmht.gen.plan_tiles import whole_layers
from lmht.rtl.parameters import FrameParameters
from lmht.rtl.tile_parameters import TileParameters
from lmht.sim.golden import GoldenModel

__all__ = ["EventStatistics", "LayerStatistics", "SourceStatistics", "measure_events", "statistics_tables"]

_MEASURED_BATCH = 100


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class SourceStatistics(_Record):
    """What the image, or a hidden layer behind its own pooling, sends on; means over the images.

    Attributes
    ----------
    name : str
        ``image`` or ``layer 0``, ...
    shape : tuple of int
        Channels, height and width of the map that is sent.
    events : float
        Packed events: positions with a level that is not 0 at any step.
    step_events : float
        Events if every step were sent on its own: positions and steps with a level that is not 0.
    """

    name: str
    shape: tuple[int, int, int]
    events: float
    step_events: float

    @property
    def density(self) -> float:
        """Part of the positions of the map that send a packed event, 0 to 1."""
        channels, height, width = self.shape
        return self.events / (channels * height * width)


class LayerStatistics(_Record):
    """What a layer computes, and the spikes that it fires; means over the images.

    Attributes
    ----------
    name : str
        ``layer 0``, ...
    shape : tuple of int
        Channels, height and width of its map, before any pooling.
    operations : float
        Synaptic operations: for every packed event, the outputs that it reaches, times the channels of these that it
        is connected to. One operation adds the levels of all steps.
    step_operations : float
        Synaptic operations if the steps of the events were sent one by one.
    spikes : tuple of tuple of float
        By step, and by level from 1 to L: neurons that fire this level. Empty for the classifier.
    """

    name: str
    shape: tuple[int, int, int]
    operations: float
    step_operations: float
    spikes: tuple[tuple[float, ...], ...]

    @property
    def spikes_per_step(self) -> tuple[float, ...]:
        """By step: neurons that fire, at whatever level."""
        return tuple(sum(counts) for counts in self.spikes)

    @property
    def spikes_per_level(self) -> tuple[float, ...]:
        """By level from 1: spikes of this level, of all steps."""
        return tuple(sum(counts) for counts in zip(*self.spikes, strict=True))

    @property
    def binary_spikes(self) -> float:
        """Sum of all levels: the spikes of binary neurons that say the same."""
        return sum(level * count for level, count in enumerate(self.spikes_per_level, start=1))


class EventStatistics(_Record):
    """Statistics of a network.

    Attributes
    ----------
    name, architecture : str
        Of the integer network.
    images : int
        Images measured.
    sources : tuple of SourceStatistics
        The image, then every hidden layer.
    layers : tuple of LayerStatistics
        All layers, the classifier last.
    """

    name: str
    architecture: str
    images: int
    sources: tuple[SourceStatistics, ...]
    layers: tuple[LayerStatistics, ...]

    @property
    def pixel_density(self) -> float:
        """Part of the pixels that are events, as :func:`~lmht.gen.plan.expected_events` takes it."""
        return self.sources[0].density

    @property
    def spike_densities(self) -> tuple[float, ...]:
        """Part of the map that every hidden layer sends on, as :func:`~lmht.gen.plan.expected_events` takes it."""
        return tuple(source.density for source in self.sources[1:])

    def totals(self) -> dict[str, float]:
        """Of an image: events of the image and of all layers, spikes and synaptic operations."""
        return {
            "events": sum(source.events for source in self.sources),
            "step_events": sum(source.step_events for source in self.sources),
            "spikes": sum(sum(layer.spikes_per_step) for layer in self.layers),
            "binary_spikes": sum(layer.binary_spikes for layer in self.layers),
            "operations": sum(layer.operations for layer in self.layers),
            "step_operations": sum(layer.step_operations for layer in self.layers),
        }

    def to_json(self) -> bytes:
        """All of it, with the densities and totals, as a JSON object."""
        whole = self.model_dump(mode="json")
        for source, record in zip(self.sources, whole["sources"], strict=True):
            record["density"] = source.density
        whole["totals"] = self.totals()
        return (json.dumps(whole, indent=2) + "\n").encode()


class _Counts:
    """Sums over the images so far."""

    def __init__(self, network: IntegerNetwork) -> None:
        channels, height, width = network.input_shape
        frame = FrameParameters(height=height, width=width, channels=channels, bytes_per_beat=1)
        self.network = network
        # One lane: the groups of lanes that an event meets are then the channels that it is connected to.
        self.tiles = whole_layers(network, choose_widths(network), frame, skip_quiet=True)
        pooled = [tile.pooling for tile in self.tiles[:-1]]
        self.windows = [(1, 1) if pooling is None else pooling.size for pooling in pooled]
        self.events = np.zeros((len(network.layers), 2))
        self.operations = np.zeros((len(network.layers), 2))
        self.spikes = [np.zeros((layer.steps, layer.levels or 0)) for layer in network.layers[:-1]]

    def add(self, images: NDArray[np.uint8], levels: Sequence[NDArray[np.uint8]]) -> None:
        """Count a batch; images of shape (images, C, H, W), levels as the golden model keeps them."""
        pixels = (images.transpose(0, 2, 3, 1) != 0)[None]
        maps = [pixels]
        for index, sent in enumerate(levels):
            channels, height, width = self.network.layers[index].shape
            for step, level in np.ndindex(*self.spikes[index].shape):
                self.spikes[index][step, level] += np.count_nonzero(sent[step] == level + 1)
            spikes = sent.reshape(len(sent), -1, height, width, channels) > 0
            maps.append(np.stack([pooled_events(step, self.windows[index]) for step in spikes]))
        packed = [steps.any(axis=0) for steps in maps]
        for source, (whole, steps) in enumerate(zip(packed, maps, strict=True)):
            self.events[source] += np.count_nonzero(whole), np.count_nonzero(steps)
        for layer, tile in enumerate(self.tiles):
            for number, projection in enumerate(tile.projections):
                source = projection.source + 1
                self.operations[layer, 0] += _operations(tile, number, packed[source])
                self.operations[layer, 1] += sum(_operations(tile, number, step) for step in maps[source])

    def means(self, images: int) -> EventStatistics:
        """The statistics of so many images."""
        network = self.network
        shapes = [
            network.input_shape,
            *((t.output.channels, t.output.height, t.output.width) for t in self.tiles),
        ]
        events, operations = self.events / images, self.operations / images
        return EventStatistics(
            name=network.name,
            architecture=network.architecture,
            images=images,
            sources=tuple(
                SourceStatistics(
                    name=_name(source - 1), shape=shapes[source], events=packed, step_events=by_step
                )
                for source, (packed, by_step) in enumerate(events.tolist())
            ),
            layers=tuple(
                LayerStatistics(
                    name=_name(index),
                    shape=network.layers[index].shape,
                    operations=packed,
                    step_operations=by_step,
                    spikes=tuple(map(tuple, (self.spikes[index] / images).tolist()))
                    if index < len(self.spikes)
                    else (),
                )
                for index, (packed, by_step) in enumerate(operations.tolist())
            ),
        )


def measure_events(network: IntegerNetwork, images: Tensor) -> EventStatistics:
    """Run the golden model on images and count.

    Spikes are counted where they are fired, events where they are sent: behind the pooling that a layer does itself
    (:func:`~lmht.gen.plan_tiles.own_pooling`). The analog image is sent once, also step by step.

    Parameters
    ----------
    network : IntegerNetwork
    images : torch.Tensor of uint8, shape (images, C, H, W)
        At least one.

    Raises
    ------
    TypeError, ValueError
        If the images have another type or shape, or a pooling cannot be built.
    """
    golden = GoldenModel(network)
    counts = _Counts(network)
    for batch in images.split(_MEASURED_BATCH):
        levels = golden.run(batch, keep_levels=True).levels
        counts.add(batch.numpy(), [layer.numpy() for layer in levels or ()])
    return counts.means(len(images))


def statistics_tables(statistics: EventStatistics) -> Group:
    """The statistics for a terminal: events of every source, work and spikes of every layer, totals."""
    totals = statistics.totals()
    saved = 1 - totals["operations"] / totals["step_operations"] if totals["step_operations"] else 0.0
    summary = (
        f"an image: {totals['events']:,.1f} events, {totals['spikes']:,.1f} spikes, "
        f"{totals['operations']:,.0f} synaptic operations; step by step {totals['step_operations']:,.0f}, "
        f"of which packing saves {saved:.1%}"
    )
    return Group(
        _source_table(statistics), _layer_table(statistics), Text(summary, no_wrap=True, overflow="ignore")
    )


def _source_table(statistics: EventStatistics) -> Table:
    table = Table(title=f"{statistics.name}: {statistics.architecture}, mean of {statistics.images:,} images")
    table.add_column("sent by")
    for header in ("map", "events", "density", "step by step"):
        table.add_column(header, justify="right")
    for source in statistics.sources:
        table.add_row(
            source.name,
            _size(source.shape),
            f"{source.events:,.1f}",
            f"{source.density:.1%}",
            f"{source.step_events:,.1f}",
        )
    return table


def _layer_table(statistics: EventStatistics) -> Table:
    table = Table(title="work and spikes of the layers")
    table.add_column("layer")
    for header in ("neurons", "operations", "step by step", "spikes", "by step", "by level"):
        table.add_column(header, justify="right")
    for layer in statistics.layers:
        table.add_row(
            layer.name,
            _size(layer.shape),
            f"{layer.operations:,.0f}",
            f"{layer.step_operations:,.0f}",
            *(
                (
                    f"{sum(layer.spikes_per_step):,.1f}",
                    "  ".join(f"{count:,.1f}" for count in layer.spikes_per_step),
                    "  ".join(f"{count:,.1f}" for count in layer.spikes_per_level),
                )
                if layer.spikes
                else ("-", "-", "-")
            ),
        )
    return table


def _operations(tile: TileParameters, number: int, events: NDArray[np.bool_]) -> float:
    return float(measure_integration(tile, number, events).sum())


def _size(shape: tuple[int, int, int]) -> str:
    return "x".join(str(part) for part in shape)


def _name(source: int) -> str:
    return "image" if source < 0 else f"layer {source}"
