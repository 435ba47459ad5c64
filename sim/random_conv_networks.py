"""Random integer networks of convolutions, pooling and residual branches, small enough to simulate."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch

from lmht.gen.integer import PIXEL_MAX, IntegerLayer, IntegerNetwork
from lmht.gen.integer_projection import IntegerProjection
from lmht.rtl.checks import STEPS_LIMIT
from lmht.rtl.projection import IMAGE, Pooling
from lmht.sim.golden_layer import GoldenLayer
from lmht.sim.random_networks import SAMPLES, Shape, random_images, random_neurons, random_projection

__all__ = ["random_conv_network", "random_residual"]

KERNELS = (1, 3, 5, 7)
ATTEMPTS = 100
LEAST_GAIN = 512
"""Of an identity in accumulator units: its relative error is at most 2^-10 (NUMERICS.md, "Projections")."""


def random_residual(
    rng: np.random.Generator, *, channels: int, input_shape: Shape, stride: int = 1, **others: Any
) -> IntegerProjection:
    """A residual branch with wide weights: the identity where the shapes allow it, else a 1x1 convolution.

    `others` as :class:`IntegerProjection` takes them.
    """
    gains = rng.integers(LEAST_GAIN, 4 * LEAST_GAIN, channels) * rng.choice([-1, 1], channels)
    if stride == 1 and channels == input_shape[0]:
        weights, groups = np.ones((channels, 1, 1, 1), dtype=np.int64), channels
    else:
        narrow = random_projection(rng, channels=channels, input_shape=input_shape, kernel=(1, 1))
        weights, groups = narrow.weights, 1
    weights = weights * gains[:, None, None, None]
    return IntegerProjection(
        input_shape=input_shape,
        weights=weights,
        weight_bits=int(np.abs(weights).max()).bit_length() + 1,
        stride=(stride, stride),
        groups=groups,
        **others,
    )


def random_conv_network(
    rng: np.random.Generator,
    *,
    hidden_layers: tuple[int, int] = (1, 4),
    max_size: int = 9,
    max_channels: int = 6,
    max_classes: int = 6,
    max_steps: int = 4,
    max_levels: int = 4,
    steps: int | None = None,
    levels: int | None = None,
    weight_bits: int | None = None,
    leak: bool | None = None,
    diagonal: bool | None = None,
    quiet: bool | None = None,
    residuals: bool = True,
    pooling: bool = True,
    name: str = "random_conv",
) -> IntegerNetwork:
    """A network of random convolutions and a classifier over the last map.

    Kernels of 1, 3, 5 and 7, sometimes not square; strides 1 and 2; any padding, most often the one that keeps the
    size; groups up to depthwise; maps pooled by sum or maximum; identities and 1x1 convolutions from earlier layers.

    Parameters
    ----------
    rng : numpy.random.Generator
    hidden_layers : tuple of int
        Fewest and most layers in front of the classifier.
    max_size, max_channels : int
        Largest height, width and number of channels of any map; the image has 1 to 3 channels.
    max_classes, max_steps, max_levels : int
    steps, leak, diagonal : optional
        Of the network; None draws them. One network in 16 has more steps than `max_steps`, up to the most there may be,
        and the mixing of every third is diagonal.
    levels, weight_bits, quiet : optional
        Of every layer as :func:`random_neurons` and :class:`IntegerProjection` take them; None draws them for each.
    residuals, pooling : bool
        Whether there may be any.
    """
    # Drawn apart, so that a seed of other networks gives what it gave without them.
    (apart,) = rng.spawn(1)
    if steps is None and apart.random() < 1 / 16:
        steps = int(apart.integers(max_steps + 1, STEPS_LIMIT, endpoint=True))
    diagonal = bool(apart.random() < 1 / 3) if diagonal is None else diagonal
    steps = _draw(rng, steps, 1, max_steps)
    leak = bool(_draw(rng, leak, 0, 1))
    smallest = 1 if rng.random() < 0.1 else min(4, max_size)
    height, width = (int(size) for size in rng.integers(smallest, max_size, 2, endpoint=True))
    input_shape = (_draw(rng, None, 1, min(3, max_channels)), height, width)
    layers: list[IntegerLayer] = []
    images = torch.from_numpy(random_images(rng, SAMPLES, input_shape))
    maps = {IMAGE: images.permute(0, 2, 3, 1).unsqueeze(0)}
    # The map of a source is pooled for all its consumers alike, as a tile that pools has to.
    poolings = [_random_pooling(rng, input_shape, ("sum",)) if pooling else None]

    def source(index: int) -> dict[str, Any]:
        before = None if index == IMAGE else layers[index]
        return {
            "source": index,
            "input_shape": input_shape if before is None else before.shape,
            "input_steps": 1 if before is None else before.steps,
            "input_max_level": PIXEL_MAX if before is None else before.levels,
            "pooling": poolings[index + 1],
        }

    for index in range(int(rng.integers(*hidden_layers, endpoint=True))):
        sources = [source(other) for other in range(IMAGE, index)]
        for _ in range(ATTEMPTS):
            projections = _random_projections(
                rng,
                sources,
                channels=max_channels,
                size=max_size,
                weight_bits=_draw(rng, weight_bits, 2, 8),
                residuals=residuals,
            )
            samples = [maps[projection.source] for projection in projections]
            layer = random_neurons(
                rng,
                *projections,
                samples=samples,
                steps=steps,
                levels=_draw(rng, levels, 1, max_levels),
                leak=leak,
                diagonal=diagonal,
                quiet=bool(_draw(rng, quiet, 0, 1)),
            )
            maps[index] = _run(layer, samples)
            if _is_lively(maps[index], layer.levels):
                break
        else:
            raise RuntimeError(f"no layer of {ATTEMPTS} on {layers[-1:]} is neither silent nor saturated")
        layers.append(layer)
        poolings.append(_random_pooling(rng, layer.shape, ("sum", "max")) if pooling else None)
    classifier = random_projection(
        rng,
        channels=_draw(rng, None, 2, max_classes),
        weight_bits=_draw(rng, weight_bits, 2, 8),
        **source(len(layers) - 1),
    )
    layers.append(random_neurons(rng, classifier, steps=1, levels=None))
    return IntegerNetwork(name=name, input_shape=input_shape, layers=tuple(layers))


def _draw(rng: np.random.Generator, value: int | None, low: int, high: int) -> int:
    """`value`, or a random integer from `low` to `high`."""
    return int(rng.integers(low, high, endpoint=True)) if value is None else value


def _run(layer: IntegerLayer, samples: list[torch.Tensor]) -> torch.Tensor:
    """The levels that the layer sends, shape (T, images, H, W, C)."""
    levels = GoldenLayer(0, layer).run(samples).levels
    assert levels is not None
    return levels.to(torch.uint8)


def _is_lively(levels: torch.Tensor, largest: int | None) -> bool:
    """Whether some, not all, neurons spike, and not nearly all with their largest level."""
    active = float(levels.amax(dim=0).ne(0).double().mean())
    full = float(levels.eq(largest or 0).double().mean())
    return 0.08 <= active <= 0.95 and full <= 0.85


def _random_projections(
    rng: np.random.Generator,
    sources: list[dict[str, Any]],
    *,
    channels: int,
    size: int,
    weight_bits: int,
    residuals: bool,
) -> tuple[IntegerProjection, ...]:
    """A convolution over the last of the sources (as arguments of a projection) and maybe a branch from another one.

    `channels` and `size` are the largest of the output map.
    """
    main = sources[-1]
    # The image may be a branch only beside links that are sent once, too.
    branches = [branch for branch in sources[:-1] if branch["input_steps"] == main["input_steps"]]
    if residuals and branches and rng.random() < 0.7:
        source = branches[rng.integers(len(branches))]
        outputs = _random_channels(rng, source["input_shape"][0], channels)
        branch = _random_branch(rng, outputs, source)
        first = _random_convolution(rng, outputs, weight_bits, size, main, branch)
        if first is not None:
            return _shifted_beside(first, branch), branch
    outputs = _random_channels(rng, main["input_shape"][0], channels)
    first = _random_convolution(rng, outputs, weight_bits, size, main, None)
    if first is None:
        raise ValueError(
            f"max_size must allow a convolution over a map of {main['input_shape']}, not be {size}"
        )
    return (first,)


def _random_channels(rng: np.random.Generator, inputs: int, largest: int) -> int:
    """Output channels: as many as there are inputs, twice as many, or any number."""
    any_number = _draw(rng, None, 1, largest)
    return int(rng.choice([min(inputs, largest), min(inputs, largest), min(2 * inputs, largest), any_number]))


def _random_pooling(rng: np.random.Generator, shape: Shape, kinds: tuple[str, ...]) -> Pooling | None:
    """Pooling one time in three, most often by 2 x 2, if the map is large enough."""
    _, height, width = shape
    if height * width == 1 or rng.random() > 1 / 3:
        return None
    size = (2, 2) if rng.random() < 0.7 else (int(rng.integers(1, 3, endpoint=True)), 3)
    kind: Literal["sum", "max"] = "max" if rng.choice(kinds) == "max" else "sum"
    size = (min(size[0], height), min(size[1], width))
    return None if size == (1, 1) else Pooling(kind=kind, size=size)


def _random_branch(rng: np.random.Generator, channels: int, source: dict[str, Any]) -> IntegerProjection:
    """The identity where the channels are the same, most often; else a 1x1 convolution."""
    if source["pooling"] is not None and source["pooling"].kind == "sum" and rng.random() < 0.3:
        # Consumers that differ in their pooling cannot have the tile do it.
        source = source | {"pooling": None}
    return random_residual(rng, channels=channels, stride=int(rng.choice([1, 1, 2])), **source)


def _random_convolution(
    rng: np.random.Generator,
    channels: int,
    weight_bits: int,
    max_size: int,
    source: dict[str, Any],
    beside: IntegerProjection | None,
) -> IntegerProjection | None:
    """A convolution whose output map is at most `max_size` high and wide, or that of the projection `beside` it, if one
    is found."""
    inputs, *sizes = source["input_shape"]
    if source["pooling"] is not None:
        sizes = source["pooling"].pooled(*sizes)
    divisors = [count for count in range(1, inputs + 1) if inputs % count == channels % count == 0]

    def draw_axis() -> tuple[int, int, int]:
        kernel, stride = int(rng.choice(KERNELS)), int(rng.integers(1, 2, endpoint=True))
        return kernel, stride, kernel // 2 if rng.random() < 0.6 else int(rng.integers(kernel))

    # One in sixteen keeps the size, so a hundred fail only where nothing fits.
    for _ in range(100):
        rows = draw_axis()
        axes = (rows, rows if rng.random() < 0.75 else draw_axis())
        output = tuple(
            (size + 2 * padding - kernel) // stride + 1
            for size, (kernel, stride, padding) in zip(sizes, axes, strict=True)
        )
        if beside is None and not 1 <= min(output) <= max(output) <= max_size:
            continue
        if beside is not None and output != beside.output_shape[1:]:
            continue
        kernel, stride, padding = zip(*axes, strict=True)
        return random_projection(
            rng,
            channels=channels,
            kernel=kernel,
            stride=stride,
            padding=padding,
            groups=int(rng.choice(divisors)) if rng.random() < 0.5 else 1,
            weight_bits=weight_bits,
            **source,
        )
    return None


def _shifted_beside(first: IntegerProjection, residual: IntegerProjection) -> IntegerProjection:
    """`first` with the shift that makes it weigh about as much as `residual`."""
    norms = [
        np.linalg.norm(projection.weights) * projection.pooled_max_level for projection in (first, residual)
    ]
    return replace(first, shift=max(0, round(math.log2(norms[1] / norms[0]))))
