"""Random convolutional networks on random hardware with the images that are hardest for it, each from one seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmht.gen.build import Build
from lmht.gen.compile import CompileOptions, compile_network
from lmht.gen.integer import PIXEL_MAX, IntegerLayer, IntegerNetwork
from lmht.sim.golden_projection import GoldenProjection
from lmht.sim.random_conv_networks import random_conv_network
from lmht.sim.random_networks import random_images
from lmht.sim.report import VerifyReport
from lmht.sim.verify import verify

__all__ = ["STRESS", "RandomCase", "corner_images", "random_case", "spike_everywhere", "verify_case"]

STRESS = ((0.0, 0.0), (0.9, 0.0), (0.0, 0.97), (0.5, 0.9))
"""Probabilities that the input and the output pause in a cycle."""

_SPARSE, _DENSE = 0.06, 0.4


@dataclass(frozen=True, eq=False)
class RandomCase:
    """A network, its hardware, and what it is shown.

    Parameters
    ----------
    seed : int
    network : IntegerNetwork
    options : CompileOptions
    images : numpy.ndarray of uint8, shape (images, C, H, W)
    full : bool
        Every neuron of every layer spikes in every image.
    """

    seed: int
    network: IntegerNetwork
    options: CompileOptions
    images: NDArray[np.uint8]
    full: bool

    @property
    def residual(self) -> bool:
        """Whether branches meet."""
        return any(len(layer.projections) > 1 for layer in self.network.layers)

    def describe(self) -> str:
        """Seed, network and options that are not the default, in one line."""
        chosen = self.options.model_dump(exclude_defaults=True, exclude={"name"})
        options = ", ".join(f"{name} {value}" for name, value in chosen.items())
        return (
            f"seed {self.seed}: {self.network.architecture}{' (all spike)' if self.full else ''}; {options}"
        )


def random_case(seed: int, **network: Any) -> RandomCase:
    """The case of a seed; `network` as :func:`~lmht.sim.random_conv_networks.random_conv_network` takes it."""
    rng = np.random.default_rng(seed)
    integers = random_conv_network(rng, **network)
    full = bool(rng.random() < 0.25)
    if full:
        integers = spike_everywhere(integers)
    return RandomCase(seed, integers, _random_options(rng, integers), corner_images(rng, integers), full)


def verify_case(case: RandomCase, folder: Path, *, optimize: bool = False) -> Iterator[VerifyReport]:
    """Compile into `folder` and compare every logit, and every level of every layer, under each of :data:`STRESS`."""
    compile_network(case.network, folder, case.options)
    build = Build.open(folder)
    for idle, back_pressure in STRESS:
        yield verify(
            build,
            case.images,
            idle=idle,
            back_pressure=back_pressure,
            seed=case.seed,
            layer_images=len(case.images),
            optimize=optimize,
        )


def corner_images(rng: np.random.Generator, network: IntegerNetwork) -> NDArray[np.uint8]:
    """In random order: black images, two of them in a row; images without a zero; single pixels in every corner; sparse
    and dense ones. Shape (images, C, H, W)."""
    channels, height, width = network.input_shape
    images = [np.zeros((channels, height, width), np.uint8), np.full((channels, height, width), PIXEL_MAX)]
    for y in (0, height - 1):
        for x in (0, width - 1):
            corner = np.zeros((channels, height, width), np.uint8)
            corner[rng.integers(channels), y, x] = rng.integers(1, PIXEL_MAX, endpoint=True)
            images.append(corner)
    images += [*random_images(rng, 4, network.input_shape, _SPARSE)]
    images += [*random_images(rng, 4, network.input_shape, _DENSE)]
    order = rng.permutation(len(images))
    shuffled = [images[index] for index in order]
    return np.stack([*shuffled, images[1], images[0], images[0], images[1]]).astype(np.uint8)


def spike_everywhere(network: IntegerNetwork) -> IntegerNetwork:
    """The network with biases so large that every neuron of every hidden layer spikes whatever it receives."""
    return replace(network, layers=(*map(_always_spikes, network.layers[:-1]), network.layers[-1]))


def _always_spikes(layer: IntegerLayer) -> IntegerLayer:
    reach = np.sum([GoldenProjection(projection).reach for projection in layer.projections], axis=0)
    lowest = -(reach * layer.multipliers.sum(axis=1) >> layer.shift) - 1
    # A leak is below 2.
    return replace(layer, bias=2**layer.fraction_bits + 2 * abs(layer.initial_membrane) - lowest)


def _random_options(rng: np.random.Generator, network: IntegerNetwork) -> CompileOptions:
    """Hardware of any shape: lanes, tiles, multipliers, taps at once, bytes of a beat."""
    layers = network.layers
    lanes = tuple(int(rng.integers(1, layer.channels, endpoint=True)) for layer in layers)
    split = {
        index: int(rng.integers(2, min(3, layer.channels), endpoint=True))
        for index, layer in enumerate(layers)
        if layer.channels > 1 and rng.random() < 0.25
    }
    return CompileOptions(
        name="dut",
        lanes=lanes if rng.random() < 0.7 else int(rng.integers(1, 6, endpoint=True)),
        split=split,
        tap_unroll={index: True for index in range(len(layers)) if rng.random() < 0.25},
        update_lanes=int(rng.integers(1, 4, endpoint=True)),
        mix_multipliers=int(rng.integers(1, 16, endpoint=True)),
        bytes_per_beat=int(rng.choice([1, 2, 4, 8, 16])),
        skip_quiet=bool(rng.random() < 0.8),
    )
