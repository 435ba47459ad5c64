"""What travels on the links of a design for given images, and the cycles it costs each tile, from the levels alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from lmht.gen.integer import IntegerNetwork
from lmht.gen.work import channel_spans, reached_outputs
from lmht.rtl.parameters import DesignParameters
from lmht.rtl.projection import IMAGE
from lmht.rtl.tile_parameters import TileParameters
from lmht.sim.golden_layer import GoldenLayer
from lmht.sim.golden_projection import pool_levels

__all__ = ["integration_cycles", "link_maps", "sent_events", "silent_tiles", "updated_pixels"]

IntArray = NDArray[np.int64]


def link_maps(
    parameters: DesignParameters, images: NDArray[np.uint8], levels: Sequence[torch.Tensor]
) -> dict[int, torch.Tensor]:
    """Levels on the link behind the image and every hidden layer, pooled where its tiles pool.

    Parameters
    ----------
    parameters : DesignParameters
    images : numpy.ndarray of uint8, shape (N, C, H, W)
    levels : sequence of torch.Tensor of uint8, each of shape (T, N, neurons)
        Of :class:`~lmht.sim.golden.GoldenResult`.

    Returns
    -------
    dict of torch.Tensor, each of shape (T, N, H, W, C)
        By source.
    """
    maps = {IMAGE: torch.as_tensor(images).permute(0, 2, 3, 1).unsqueeze(0)}
    for tiles, flat in zip(parameters.layers[:-1], levels, strict=True):
        tile = tiles[0]
        own = flat.unflatten(2, (tile.height, tile.width, tile.layer_channels))
        maps[tile.layer] = pool_levels(own, tile.pooling, tile.neuron.levels or 0)
    return maps


def sent_events(levels: torch.Tensor) -> torch.Tensor:
    """Which positions of a map of shape (T, N, H, W, C) send an event; bool, shape (N, H, W, C)."""
    return levels.amax(dim=0) > 0


def integration_cycles(tile: TileParameters, events: Mapping[int, torch.Tensor]) -> IntArray:
    """Cycles the synapse lanes work for each image: one for each output pixel that a tap of an event reaches (with
    `tap_unroll`, for all of an event's), times the groups of lanes that its channel meets.

    Parameters
    ----------
    tile : TileParameters
    events : mapping of torch.Tensor of bool, each of shape (N, H, W, C)
        As :func:`sent_events` gives them, by source.
    """
    total = torch.zeros(len(next(iter(events.values()))), dtype=torch.float64)
    for number, projection in enumerate(tile.projections):
        rows, columns = (reached_outputs(projection, axis) for axis in (0, 1))
        if tile.tap_unroll:
            rows, columns = np.minimum(rows, 1), np.minimum(columns, 1)
        pixels = torch.from_numpy(np.outer(rows, columns).reshape(-1)).double()
        spans = torch.from_numpy(channel_spans(tile, number)).float()
        groups = events[projection.source].float() @ spans
        total += (groups.flatten(1).double() @ pixels).round()
    return np.asarray(total, dtype=np.int64)


def updated_pixels(tile: TileParameters, events: Mapping[int, torch.Tensor], *, silent: bool) -> IntArray:
    """Pixels of a tile that are updated for each image.

    Parameters
    ----------
    tile : TileParameters
    events : mapping of torch.Tensor of bool, each of shape (N, H, W, C)
    silent : bool
        Pixels without any event are known to have no level above 0, as :func:`silent_tiles` says.
    """
    images = len(next(iter(events.values())))
    pixels = tile.height * tile.width
    if not (tile.skip_quiet and silent):
        return np.full(images, pixels, np.int64)
    touched = torch.zeros(images, 1, tile.height, tile.width, dtype=torch.bool)
    for number, projection in enumerate(tile.projections):
        meets = torch.from_numpy(channel_spans(tile, number) > 0)
        active = events[projection.source][..., meets].any(dim=3).float().unsqueeze(1)
        pooled = functional.max_pool2d(active, projection.pool)  # drops what fills no window
        rows, columns = projection.padding
        padded = functional.pad(pooled, (columns, columns, rows, rows))
        touched |= functional.max_pool2d(padded, projection.kernel, projection.stride) > 0
    return np.asarray(touched.sum(dim=(1, 2, 3)), dtype=np.int64)


@torch.no_grad()
def silent_tiles(parameters: DesignParameters, network: IntegerNetwork) -> dict[str, bool]:
    """Whether all levels of a pixel without input are 0, by tile; False for classifiers."""
    silent = {}
    for tiles, layer in zip(parameters.layers, network.layers, strict=True):
        blank = [
            torch.zeros(projection.input_steps, 1, *projection.input_shape[1:], projection.input_shape[0])
            for projection in layer.projections
        ]
        levels = GoldenLayer(tiles[0].layer, layer).run(blank).levels
        for tile in tiles:
            own = slice(tile.channel_offset, tile.channel_offset + tile.channels)
            silent[tile.name] = levels is not None and not levels[:, 0, 0, 0, own].any()
    return silent
