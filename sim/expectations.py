"""What every stage of a design must do for given images, from the golden model alone."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from lmht.gen.frame_work import measure_frames
from lmht.gen.integer import IntegerNetwork
from lmht.rtl.parameters import DesignParameters
from lmht.rtl.projection import IMAGE
from lmht.rtl.tile_parameters import TileParameters
from lmht.sim.golden import GoldenModel

__all__ = ["Expectations", "StageWork", "TileExpectations", "expect", "stage_work"]

_BATCH_ELEMENTS = 2**27  # levels of all layers, of all images of a batch

IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class TileExpectations:
    """What a tile does for each image; arrays of int64 and shape (images,).

    Parameters
    ----------
    events_in, events_out : numpy.ndarray
        Events that it takes, over all its inputs, and that it sends; a classifier sends all its logits.
    integration, update : numpy.ndarray
        Cycles that its synapse lanes and its mixing multipliers work.
    constant : numpy.ndarray
        Vectors of levels that are sent without products (``constant_events``), a cycle each.
    """

    events_in: IntArray
    events_out: IntArray
    integration: IntArray
    update: IntArray
    constant: IntArray


@dataclass(frozen=True, eq=False)
class Expectations:
    """Golden results of a set of images.

    Parameters
    ----------
    logits : numpy.ndarray of int64, shape (images, classes)
    predictions : numpy.ndarray of int64, shape (images,)
    link_events : numpy.ndarray of int64, shape (images, layers)
        Events on the link behind the image, then behind every hidden layer (pooled where its tiles pool).
    tiles : dict of TileExpectations
        By the tile's name.
    """

    logits: IntArray
    predictions: IntArray
    link_events: IntArray
    tiles: dict[str, TileExpectations]

    def counters(self, parameters: DesignParameters) -> dict[str, int]:
        """Value of every counter that the images decide, in the order of the data path.

        Counters of stalls depend on timing and are left out.
        """
        images = len(self.logits)
        totals = {"frame_encoder_frames": images, "frame_encoder_events": int(self.link_events[:, 0].sum())}
        for source in range(IMAGE, len(parameters.layers)):
            for tile in parameters.layers[source] if source != IMAGE else ():
                totals |= self._tile_counters(tile)
            last = source == len(parameters.layers) - 1
            events = images * parameters.classes if last else int(self.link_events[:, source + 1].sum())
            totals[f"router{source + 1}_events_in"] = events
            totals[f"router{source + 1}_events_out"] = parameters.router_size(source)[1] * events
        return totals | {"readout_frames": images, "readout_dropped": 0}

    def _tile_counters(self, tile: TileParameters) -> dict[str, int]:
        expected = self.tiles[tile.name]
        counters: dict[str, IntArray | int] = {
            "frames": len(self.logits),
            "events_in": expected.events_in,
            "dropped": 0,
            "integrate": expected.integration,
            "skipped": tile.height * tile.width
            - expected.update // tile.update_cycles
            - expected.constant // tile.update_rows,
            "update": expected.update,
            "events_out": expected.events_out,
        }
        return {f"{tile.name}_{name}": int(np.asarray(values).sum()) for name, values in counters.items()}


def expect(network: IntegerNetwork, parameters: DesignParameters, images: NDArray[np.uint8]) -> Expectations:
    """Run the golden model on images of shape (N, C, H, W)."""
    model = GoldenModel(network)
    size = network.inputs + sum(layer.neurons * layer.steps for layer in network.layers)
    batch = max(1, min(1000, _BATCH_ELEMENTS // size))
    parts = [
        _expect_batch(model, parameters, images[start : start + batch])
        for start in range(0, len(images), batch)
    ]
    return Expectations(
        logits=np.concatenate([part.logits for part in parts]),
        predictions=np.concatenate([part.predictions for part in parts]),
        link_events=np.concatenate([part.link_events for part in parts]),
        tiles={
            tile.name: TileExpectations(
                *(
                    np.concatenate([getattr(part.tiles[tile.name], field.name) for part in parts])
                    for field in fields(TileExpectations)
                )
            )
            for tile in parameters.tiles
        },
    )


def _expect_batch(
    model: GoldenModel, parameters: DesignParameters, images: NDArray[np.uint8]
) -> Expectations:
    result = model.run(images, keep_levels=True)
    levels = [layer.numpy() for layer in result.levels or []]
    work = measure_frames(parameters, model.network, images, levels)
    link_events = np.stack([_per_image(events) for events in work.events], axis=1)
    tiles = {
        tile.name: TileExpectations(
            events_in=link_events[:, [projection.source + 1 for projection in tile.projections]].sum(axis=1),
            events_out=_per_image(work.tiles[tile.name].sent),
            integration=_per_image(*work.tiles[tile.name].integration),
            update=_per_image(work.tiles[tile.name].update),
            constant=_per_image(work.tiles[tile.name].constant),
        )
        for tile in parameters.tiles
    }
    return Expectations(
        logits=result.logits.numpy(),
        predictions=result.predictions.numpy(),
        link_events=link_events,
        tiles=tiles,
    )


def _per_image(*rows: NDArray[np.float64]) -> IntArray:
    """Sum over the rows of every image; the counts are whole numbers."""
    return np.rint(sum(part.sum(axis=1) for part in rows)).astype(np.int64)


@dataclass(frozen=True, eq=False)
class StageWork:
    """Cycles that one resource of a stage must work for each image, shape (images,)."""

    stage: str
    resource: str
    cycles: IntArray


def stage_work(expected: Expectations, parameters: DesignParameters) -> list[StageWork]:
    """Work of every resource that can bind: frame encoder; integration, update and encoder of each tile.

    As defined for the project's utilization figure: integration takes events times taps times groups, the update the
    neurons of touched pixels over update lanes, times the phases of shared multipliers, and those that send constant
    events once, an encoder its events.
    """
    work = [StageWork("frame_encoder", "encoder", expected.link_events[:, 0])]
    for tile in parameters.tiles:
        own = expected.tiles[tile.name]
        work += [
            StageWork(tile.name, "integration", own.integration),
            StageWork(tile.name, "update", own.update + own.constant),
            StageWork(tile.name, "encoder", own.events_out),
        ]
    return work
