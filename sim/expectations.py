"""What every stage of a design must do for given images, from the golden model alone."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lmht.gen.integer import IntegerNetwork
from lmht.rtl.parameters import DesignParameters
from lmht.sim.golden import GoldenModel

__all__ = ["Expectations", "StageWork", "expect", "stage_work"]

_BATCH = 1000

IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Expectations:
    """Golden results of a set of images.

    Parameters
    ----------
    logits : numpy.ndarray of int64, shape (images, classes)
    predictions : numpy.ndarray of int64, shape (images,)
    events_in : numpy.ndarray of int64, shape (images, layers)
        Events into each layer.
    events_out : dict of numpy.ndarray of int64, each of shape (images,)
        Events that each tile sends, by its name; a classifier sends all its logits.
    """

    logits: IntArray
    predictions: IntArray
    events_in: IntArray
    events_out: dict[str, IntArray] = field(default_factory=dict)

    def counters(self, parameters: DesignParameters) -> dict[str, int]:
        """Value of every counter that the images decide, in the order of the data path.

        Counters of stalls depend on timing and are left out.
        """
        images = len(self.logits)
        totals = {"frame_encoder_frames": images, "frame_encoder_events": int(self.events_in[:, 0].sum())}
        for layer, tiles in enumerate((*parameters.layers, ())):
            last = layer == len(parameters.layers)
            inflow = images * parameters.classes if last else int(self.events_in[:, layer].sum())
            destinations = 1 if last else len(tiles)
            totals[f"router{layer}_events_in"] = inflow
            totals[f"router{layer}_events_out"] = destinations * inflow
            for tile in tiles:
                totals |= {
                    f"{tile.name}_frames": images,
                    f"{tile.name}_events_in": inflow,
                    f"{tile.name}_dropped": 0,
                    f"{tile.name}_integrate": inflow * tile.groups,
                    f"{tile.name}_update": images * tile.update_cycles,
                    f"{tile.name}_events_out": int(self.events_out[tile.name].sum()),
                }
        return totals | {"readout_frames": images, "readout_dropped": 0}


def expect(network: IntegerNetwork, parameters: DesignParameters, images: NDArray[np.uint8]) -> Expectations:
    """Run the golden model on images of shape (N, C, H, W)."""
    model = GoldenModel(network)
    logits, predictions, events_in = [], [], []
    events_out: dict[str, list[IntArray]] = {tile.name: [] for tile in parameters.tiles}
    split = any(len(tiles) > 1 for tiles in parameters.layers[:-1])
    for start in range(0, len(images), _BATCH):
        result = model.run(images[start : start + _BATCH], keep_levels=split)
        logits.append(result.logits.numpy())
        predictions.append(result.predictions.numpy())
        events_in.append(result.events.numpy())
        for tile in parameters.tiles:
            if tile.neuron.is_classifier:
                sent = np.full(len(result.logits), tile.channels, np.int64)
            elif result.levels is None:
                sent = events_in[-1][:, tile.layer + 1]
            else:
                own = slice(tile.channel_offset, tile.channel_offset + tile.channels)
                sent = np.count_nonzero(result.levels[tile.layer].numpy()[:, :, own].any(axis=0), axis=1)
            events_out[tile.name].append(sent)
    return Expectations(
        logits=np.concatenate(logits),
        predictions=np.concatenate(predictions),
        events_in=np.concatenate(events_in),
        events_out={name: np.concatenate(parts) for name, parts in events_out.items()},
    )


@dataclass(frozen=True, eq=False)
class StageWork:
    """Cycles that one resource of a stage must work for each image, shape (images,)."""

    stage: str
    resource: str
    cycles: IntArray


def stage_work(expected: Expectations, parameters: DesignParameters) -> list[StageWork]:
    """Work of every resource that can bind: frame encoder; integration, update and encoder of each tile.

    As defined for the project's utilization figure: integration takes events times groups, the update touched neurons
    over update lanes (all neurons of a linear layer) times the phases of shared multipliers, an encoder its events.
    """
    images = len(expected.logits)
    work = [StageWork("frame_encoder", "encoder", expected.events_in[:, 0])]
    for tile in parameters.tiles:
        work += [
            StageWork(tile.name, "integration", expected.events_in[:, tile.layer] * tile.groups),
            StageWork(tile.name, "update", np.full(images, tile.update_cycles, np.int64)),
            StageWork(tile.name, "encoder", expected.events_out[tile.name]),
        ]
    return work
