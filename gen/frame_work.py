"""Work of every part of a design, row by row, for frames whose levels are known or for average ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmht.gen.encoder_work import EncoderWork, expected_encoder_cycles, measure_encoder
from lmht.gen.integer import IntegerNetwork
from lmht.gen.quiet import is_silent
from lmht.gen.work import channel_spans, expected_work, reached_outputs
from lmht.rtl.parameters import DesignParameters
from lmht.rtl.projection import ProjectionParameters
from lmht.rtl.tile_parameters import TileParameters

__all__ = [
    "FrameWork",
    "TileRows",
    "expected_frames",
    "measure_frames",
    "measure_integration",
    "pooled_events",
]

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class TileRows:
    """Cycles of a tile's parts, arrays of float64.

    Attributes
    ----------
    integration : tuple of numpy.ndarray, each of shape (frames, rows of the link)
        Of the synapse lanes for the events of each projection.
    update, constant : numpy.ndarray, each of shape (frames, rows of the map)
        Of the neuron array: cycles with products, and those for levels from the table of ``constant_events``.
    sent : numpy.ndarray, shape (frames, rows of the link behind)
        Of the spike encoder for its events, one each.
    """

    integration: tuple[Array, ...]
    update: Array
    constant: Array
    sent: Array


@dataclass(frozen=True, eq=False)
class FrameWork:
    """Work of a design for a sequence of frames.

    Attributes
    ----------
    encoder : EncoderWork
    events : tuple of numpy.ndarray of float64, each of shape (frames, rows)
        Events on the link behind the image, then behind every layer but the last.
    tiles : dict of TileRows
        By tile name.
    """

    encoder: EncoderWork
    events: tuple[Array, ...]
    tiles: Mapping[str, TileRows]

    def __len__(self) -> int:
        return len(self.encoder)


def measure_frames(
    design: DesignParameters,
    network: IntegerNetwork,
    images: NDArray[np.uint8],
    levels: Sequence[NDArray[np.uint8]],
) -> FrameWork:
    """Work for given images.

    Parameters
    ----------
    design : DesignParameters
    network : IntegerNetwork
        Tells which pixels without input are silent.
    images : numpy.ndarray of uint8, shape (images, C, H, W)
    levels : sequence of numpy.ndarray of uint8, each of shape (T, images, neurons)
        Of every layer but the last, in the order ``(y, x, channel)`` and before any pooling, as the golden
        model keeps them.

    Raises
    ------
    ValueError
        If there are no images, or not as many levels as hidden layers.
    """
    if len(images) == 0:
        raise ValueError("images must be at least 1, not 0")
    if len(levels) != len(design.layers) - 1:
        raise ValueError(f"levels must be those of {len(design.layers) - 1} layers, not of {len(levels)}")
    maps = [images.transpose(0, 2, 3, 1) != 0]
    for tiles, layer_levels in zip(design.layers, levels, strict=False):
        tile = tiles[0]
        spiking = layer_levels.any(axis=0).reshape(-1, tile.height, tile.width, tile.layer_channels)
        maps.append(pooled_events(spiking, (1, 1) if tile.pooling is None else tile.pooling.size))
    works = {}
    for tile in design.tiles:
        inputs = [maps[projection.source + 1] for projection in tile.projections]
        last = tile.layer + 1 == len(design.layers)
        slice_ = slice(tile.channel_offset, tile.channel_offset + tile.channels)
        update, constant = _measure_update(
            tile, inputs, silent=not last and is_silent(tile, network.layers[tile.layer])
        )
        works[tile.name] = TileRows(
            integration=tuple(
                measure_integration(tile, number, events) for number, events in enumerate(inputs)
            ),
            update=update,
            constant=constant,
            sent=np.full((len(images), 1), float(tile.channels))
            if last
            else _rows(maps[tile.layer + 1][..., slice_]),
        )
    return FrameWork(measure_encoder(design.frame, images), tuple(_rows(events) for events in maps), works)


def expected_frames(design: DesignParameters, events: Sequence[float], frames: int) -> FrameWork:
    """Work for `frames` equal frames, with the expected events spread evenly over each map.

    Parameters
    ----------
    design : DesignParameters
    events : sequence of float
        On the link behind the image and every layer but the last (:func:`~lmht.gen.plan.expected_events`).
    frames : int
    """
    first = [tiles[0] for tiles in design.layers]

    def even(total: float, rows: int) -> Array:
        return np.full((frames, rows), total / rows)

    encoder = expected_encoder_cycles(design.frame, events[0])
    nothing = np.zeros((frames, design.frame.height))
    works = {}
    for tile in design.tiles:
        counts = tuple(events[projection.source + 1] for projection in tile.projections)
        last = tile.layer + 1 == len(design.layers)
        sent = tile.channels if last else events[tile.layer + 1] * tile.channels / tile.layer_channels
        work = expected_work(tile, counts)
        works[tile.name] = TileRows(
            integration=tuple(
                even(cycles, projection.input.height)
                for cycles, projection in zip(work.projections, tile.projections, strict=True)
            ),
            update=even(work.update, tile.height),
            constant=even(work.constant, tile.height),
            sent=even(sent, tile.output.height),
        )
    heights = (design.frame.height, *(tile.output.height for tile in first))
    return FrameWork(
        EncoderWork(even(encoder, design.frame.height), nothing, nothing),
        tuple(even(count, height) for count, height in zip(events, heights, strict=False)),
        works,
    )


def _rows(events: BoolArray) -> Array:
    return events.sum(axis=(2, 3), dtype=np.float64)


def pooled_events(values: BoolArray, size: tuple[int, int]) -> BoolArray:
    """Whether a pooled pixel has an event: some pixel of its window has one."""
    if size == (1, 1):
        return values
    frames, height, width, channels = values.shape
    rows, columns = height // size[0], width // size[1]
    cut = values[:, : rows * size[0], : columns * size[1]]
    pooled: BoolArray = np.any(cut.reshape(frames, rows, size[0], columns, size[1], channels), axis=(2, 4))
    return pooled


def measure_integration(tile: TileParameters, number: int, events: BoolArray) -> Array:
    """Cycles of a tile's synapse lanes for the events of a projection, shape (frames, rows of the link).

    `events` are those on the link, shape (frames, H, W, C). With one lane and without ``tap_unroll``, they are the
    synaptic operations: events x outputs that they reach x channels that they are connected to.
    """
    projection = tile.projections[number]
    rows, columns = (reached_outputs(projection, axis) for axis in (0, 1))
    if tile.tap_unroll:
        rows, columns = np.minimum(rows, 1), np.minimum(columns, 1)
    spans = channel_spans(tile, number).astype(np.float32)
    by_pixel = events.reshape(-1, events.shape[3]).astype(np.float32) @ spans
    cycles: Array = by_pixel.reshape(events.shape[:3]).astype(np.float64) @ columns.astype(np.float64) * rows
    return cycles


def _measure_update(
    tile: TileParameters, inputs: Sequence[BoolArray], *, silent: bool
) -> tuple[Array, Array]:
    """Cycles by row of the map, with products and without."""
    frames = len(inputs[0])
    nothing = np.zeros((frames, tile.height))
    if tile.neuron.is_classifier or not (tile.constant_events or (silent and tile.skip_quiet)):
        return nothing + tile.width * tile.update_cycles, nothing
    touched = np.zeros((frames, tile.height, tile.width), dtype=bool)
    for number, (projection, events) in enumerate(zip(tile.projections, inputs, strict=True)):
        connected = channel_spans(tile, number) > 0
        active: BoolArray = np.any(events[..., connected], axis=3)
        touched |= _reached_pixels(projection, active)
    pixels = touched.sum(axis=2, dtype=np.float64)
    constant = nothing if silent else (tile.width - pixels) * tile.update_rows
    return pixels * tile.update_cycles, constant


def _reached_pixels(projection: ProjectionParameters, active: BoolArray) -> BoolArray:
    """Output pixels that an event at one of the `active` pixels, shape (frames, H, W), reaches."""
    pooled = pooled_events(active[..., None], projection.pool)[..., 0]
    pads = [(0, 0), *((padding, padding) for padding in projection.padding)]
    padded = np.pad(pooled, pads)
    height, width = projection.output
    reached = np.zeros((len(active), height, width), dtype=bool)
    for ky in range(projection.kernel[0]):
        for kx in range(projection.kernel[1]):
            rows = slice(ky, ky + (height - 1) * projection.stride[0] + 1, projection.stride[0])
            columns = slice(kx, kx + (width - 1) * projection.stride[1] + 1, projection.stride[1])
            reached |= padded[:, rows, columns]
    return reached
