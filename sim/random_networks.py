"""Random integer networks whose neurons are neither silent nor saturated, to verify hardware with."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from lmht.gen.choose_widths import choose_widths
from lmht.gen.integer import PIXEL_MAX, IntegerLayer, IntegerNetwork
from lmht.gen.integer_projection import IntegerProjection
from lmht.gen.plan import PlanOptions, expected_events, plan
from lmht.rtl.parameters import DesignParameters
from lmht.rtl.projection import IMAGE, Pooling
from lmht.sim.golden_projection import GoldenProjection

__all__ = [
    "random_design",
    "random_images",
    "random_layer",
    "random_network",
    "random_neurons",
    "random_projection",
]

Shape = tuple[int, int, int]
SAMPLES = 24
"""Images that a layer is adjusted to."""


def random_projection(
    rng: np.random.Generator,
    *,
    channels: int,
    input_shape: Shape,
    kernel: tuple[int, int] | None = None,
    weight_bits: int = 4,
    pooling: Pooling | None = None,
    groups: int = 1,
    source: int = IMAGE,
    **others: Any,
) -> IntegerProjection:
    """Random weights, not all 0 for any output channel; `others` as :class:`IntegerProjection` takes them.

    Parameters
    ----------
    rng : numpy.random.Generator
    channels : int
        Output channels.
    input_shape : tuple of int
        Channels, height and width of the source's map, before pooling.
    kernel : tuple of int or None
        None for the whole map behind the pooling: fully connected.
    """
    inputs, *size = input_shape
    if kernel is None:
        kernel = (size[0], size[1]) if pooling is None else pooling.pooled(size[0], size[1])
    limit = 2 ** (weight_bits - 1) - 1
    weights = rng.integers(-limit, limit, (channels, inputs // groups, *kernel), endpoint=True)
    weights[~weights.any(axis=(1, 2, 3)), 0, 0, 0] = limit
    return IntegerProjection(
        source=source,
        input_shape=input_shape,
        weights=weights,
        weight_bits=weight_bits,
        pooling=pooling,
        groups=groups,
        **others,
    )


def random_layer(
    rng: np.random.Generator,
    *,
    inputs: int | Shape,
    neurons: int,
    steps: int,
    levels: int | None,
    leak: bool = False,
    quiet: bool = False,
    uniform_mixing: bool = False,
    diagonal: bool = False,
    fraction_bits: int = 8,
    multiplier_bits: int = 12,
    leak_bits: int = 8,
    density: float = 0.3,
    **projection: Any,
) -> IntegerLayer:
    """:func:`random_neurons` behind one :func:`random_projection`, to which further arguments go: by default a fully
    connected layer.

    Parameters
    ----------
    rng : numpy.random.Generator
    inputs : int or tuple of int
        Number of inputs, or channels, height and width of the source's map.
    neurons : int
        Output channels.
    """
    input_shape = (inputs, 1, 1) if isinstance(inputs, int) else inputs
    return random_neurons(
        rng,
        random_projection(rng, channels=neurons, input_shape=input_shape, **projection),
        steps=steps,
        levels=levels,
        leak=leak,
        quiet=quiet,
        uniform_mixing=uniform_mixing,
        diagonal=diagonal,
        fraction_bits=fraction_bits,
        multiplier_bits=multiplier_bits,
        leak_bits=leak_bits,
        density=density,
    )


def random_neurons(
    rng: np.random.Generator,
    *projections: IntegerProjection,
    steps: int,
    levels: int | None,
    samples: Sequence[torch.Tensor] | None = None,
    leak: bool = False,
    quiet: bool = False,
    uniform_mixing: bool = False,
    diagonal: bool = False,
    fraction_bits: int = 8,
    multiplier_bits: int = 12,
    leak_bits: int = 8,
    density: float = 0.3,
) -> IntegerLayer:
    """A layer of given projections with random biases, mixing and (with `leak`) leaks below and above 1.

    The gain is set so that the current of a step is of the order of θ for typical inputs.

    Parameters
    ----------
    rng : numpy.random.Generator
    *projections : IntegerProjection
        One or two. The sign of an output channel's weights may change.
    steps : int
        ``T``.
    levels : int or None
        ``L``; None for a classifier.
    samples : sequence of torch.Tensor, optional
        Typical levels of every projection's source, uint8 of shape (T_in, images, H, W, C); by default independent of
        each other, and of them the part `density` not 0.
    quiet : bool
        Whether all levels are 0 at pixels without input; otherwise the bias alone makes some neurons spike.
    uniform_mixing : bool
        Whether all ``G`` of a channel are the same, as of a network with a uniform Ω.
    diagonal : bool
        Whether the mixing is diagonal where it can be, that is for ``T = T_in > 1``.
    """
    if samples is None:
        samples = [_random_levels(rng, projection, density) for projection in projections]
    channels, input_steps = len(projections[0].weights), projections[0].input_steps
    sums = [
        GoldenProjection(projection).run(levels, torch.int64).numpy().reshape(-1, channels)
        for projection, levels in zip(projections, samples, strict=True)
    ]
    if quiet:
        # What the bias never lifts over θ must be lifted by the inputs.
        signs = [np.where(part.mean(axis=0) < 0, -1, 1) for part in sums]
        projections = tuple(
            replace(projection, weights=projection.weights * sign[:, None, None, None])
            for projection, sign in zip(projections, signs, strict=True)
        )
        sums = [part * sign for part, sign in zip(sums, signs, strict=True)]
    total = np.sum(sums, axis=0)
    spread = total.std(axis=0) + 0.5
    noise = rng.normal(0, spread / 2)
    if levels is None:
        factors = rng.integers(1, 2**multiplier_bits, channels)
        return IntegerLayer(
            projections=projections,
            bias=np.rint(noise * factors * input_steps).astype(np.int64)[None],
            multipliers=np.broadcast_to(factors, (1, input_steps, channels)).copy(),
            shift=0,
            levels=None,
            multiplier_bits=multiplier_bits,
        )
    bias = -np.abs(noise) if quiet else noise - total.mean(axis=0)
    mixing = rng.uniform(0, 0 if uniform_mixing else 2, (steps, input_steps)) + uniform_mixing
    mixing /= mixing.sum(axis=1, keepdims=True)
    if diagonal and steps == input_steps > 1:
        # A step of it receives as much as one of full mixing does, and no two the same.
        mixing = steps * mixing.diagonal()[:, None]
    gain = 2**fraction_bits * levels / spread * rng.uniform(0.4, 1.6, channels)
    exact = mixing[:, :, None] * gain
    shift = max(0, min(63, math.floor(math.log2((2**multiplier_bits - 1) / exact.max()))))
    return IntegerLayer(
        projections=projections,
        # As if every row of Ω had a sum of its own: no step has the bias of another.
        bias=np.rint(bias * exact.sum(axis=1) * np.linspace(0.8, 1.2, steps)[:, None]).astype(np.int64),
        multipliers=np.minimum(np.rint(exact * 2.0**shift), 2**multiplier_bits - 1).astype(np.int64),
        shift=shift,
        levels=levels,
        fraction_bits=fraction_bits,
        leak=rng.integers(2 ** (leak_bits - 1), 3 * 2 ** (leak_bits - 1), steps) if leak else None,
        leak_bits=leak_bits,
        # A leak above 1 would carry a start above 0 over θ.
        initial_membrane=0 if quiet and leak else int(rng.integers(0, 2**fraction_bits)),
        multiplier_bits=multiplier_bits,
    )


def _random_levels(rng: np.random.Generator, projection: IntegerProjection, density: float) -> torch.Tensor:
    channels, height, width = projection.input_shape
    shape = (projection.input_steps, SAMPLES, height, width, channels)
    levels = rng.integers(1, projection.input_max_level, shape, endpoint=True)
    return torch.from_numpy(np.where(rng.random(shape) < density, levels, 0).astype(np.uint8))


def random_network(
    rng: np.random.Generator,
    *,
    input_shape: Shape = (1, 8, 8),
    widths: tuple[int, ...] = (24, 10),
    steps: int = 2,
    levels: int = 2,
    weight_bits: int = 4,
    leak: bool = False,
    uniform_mixing: bool = False,
    diagonal: bool = False,
    multiplier_bits: int = 12,
    fraction_bits: int = 8,
    name: str = "random",
) -> IntegerNetwork:
    """A sequence of fully connected layers; the image is sent once, all other links carry `steps` levels."""
    layers: list[IntegerLayer] = []
    for index, neurons in enumerate(widths):
        last = index == len(widths) - 1
        layers.append(
            random_layer(
                rng,
                source=index - 1,
                inputs=layers[-1].shape if layers else input_shape,
                neurons=neurons,
                steps=1 if last else steps,
                levels=None if last else levels,
                input_steps=steps if layers else 1,
                input_max_level=levels if layers else PIXEL_MAX,
                weight_bits=weight_bits,
                leak=leak and not last,
                uniform_mixing=uniform_mixing,
                diagonal=diagonal,
                multiplier_bits=multiplier_bits,
                fraction_bits=fraction_bits,
            )
        )
    return IntegerNetwork(name=name, input_shape=input_shape, layers=tuple(layers))


def random_design(
    rng: np.random.Generator,
    *,
    plan_options: PlanOptions | None = None,
    name: str = "design",
    make: Callable[..., IntegerNetwork] = random_network,
    **network: Any,
) -> tuple[IntegerNetwork, DesignParameters]:
    """A random network, of :func:`random_network` or another function, and the hardware planned for it."""
    integer = make(rng, **network)
    return integer, plan(
        integer,
        choose_widths(integer),
        name=name,
        options=plan_options or PlanOptions(),
        events=expected_events(integer),
    )


def random_images(
    rng: np.random.Generator, count: int, input_shape: Shape, density: float = 0.3
) -> np.ndarray:
    """Images of uint8, shape (count, C, H, W), of which the part `density` is not 0; one is black, one has no zero."""
    images = rng.integers(1, PIXEL_MAX, (count, *input_shape), endpoint=True)
    images[rng.random(images.shape) >= density] = 0
    if count > 2:
        images[1] = 0
        images[2] = rng.integers(1, PIXEL_MAX, input_shape, endpoint=True)
    return images.astype(np.uint8)
