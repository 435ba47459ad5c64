"""Random integer networks whose neurons are neither silent nor saturated, to verify hardware with."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lmht.gen.choose_widths import choose_widths
from lmht.gen.integer import PIXEL_MAX, IntegerLayer, IntegerNetwork
from lmht.gen.plan import PlanOptions, expected_events, plan
from lmht.rtl.parameters import DesignParameters

__all__ = ["random_design", "random_images", "random_layer", "random_network"]


def random_layer(
    rng: np.random.Generator,
    *,
    inputs: int,
    neurons: int,
    steps: int,
    levels: int | None,
    input_steps: int = 1,
    input_max_level: int = PIXEL_MAX,
    weight_bits: int = 4,
    leak: bool = False,
    uniform_mixing: bool = False,
    fraction_bits: int = 8,
    multiplier_bits: int = 12,
    leak_bits: int = 8,
    density: float = 0.3,
) -> IntegerLayer:
    """A layer with random weights, biases, mixing and (with `leak`) leaks below and above 1.

    The gain is set so that the current of a step is of the order of θ for inputs of which the part `density` is not 0.
    """
    limit = 2 ** (weight_bits - 1) - 1
    weights = rng.integers(-limit, limit, (neurons, inputs), endpoint=True)
    spread = math.sqrt(inputs * density * (limit * (limit + 1) / 3) * (input_max_level / 2) ** 2) + 1
    bias = np.rint(rng.normal(0, spread / 2, neurons)).astype(np.int64)
    if levels is None:
        factors = rng.integers(1, 2**multiplier_bits, neurons)
        multipliers = np.broadcast_to(factors, (1, input_steps, neurons)).copy()
        return IntegerLayer(
            weights=weights,
            bias=bias,
            multipliers=multipliers,
            shift=0,
            levels=None,
            weight_bits=weight_bits,
            multiplier_bits=multiplier_bits,
            input_max_level=input_max_level,
        )
    mixing = np.full((steps, input_steps), 1.0) if uniform_mixing else rng.uniform(0, 2, (steps, input_steps))
    gain = 2**fraction_bits * levels / spread * rng.uniform(0.3, 2.0, neurons) / math.sqrt(input_steps)
    exact = mixing[:, :, None] * gain
    shift = max(0, min(63, math.floor(math.log2((2**multiplier_bits - 1) / exact.max()))))
    multipliers = np.minimum(np.rint(exact * 2.0**shift), 2**multiplier_bits - 1).astype(np.int64)
    return IntegerLayer(
        weights=weights,
        bias=bias,
        multipliers=multipliers,
        shift=shift,
        levels=levels,
        fraction_bits=fraction_bits,
        leak=rng.integers(2 ** (leak_bits - 1), 3 * 2 ** (leak_bits - 1), steps) if leak else None,
        leak_bits=leak_bits,
        initial_membrane=int(rng.integers(0, 2**fraction_bits)),
        weight_bits=weight_bits,
        multiplier_bits=multiplier_bits,
        input_max_level=input_max_level,
    )


def random_network(
    rng: np.random.Generator,
    *,
    input_shape: tuple[int, int, int] = (1, 8, 8),
    widths: tuple[int, ...] = (24, 10),
    steps: int = 2,
    levels: int = 2,
    weight_bits: int = 4,
    leak: bool = False,
    uniform_mixing: bool = False,
    multiplier_bits: int = 12,
    fraction_bits: int = 8,
    name: str = "random",
) -> IntegerNetwork:
    """A network of :func:`random_layer`; the image is sent once, all other links carry `steps` levels."""
    layers = []
    inputs, input_steps, input_max_level = math.prod(input_shape), 1, PIXEL_MAX
    for index, neurons in enumerate(widths):
        last = index == len(widths) - 1
        layers.append(
            random_layer(
                rng,
                inputs=inputs,
                neurons=neurons,
                steps=1 if last else steps,
                levels=None if last else levels,
                input_steps=input_steps,
                input_max_level=input_max_level,
                weight_bits=weight_bits,
                leak=leak,
                uniform_mixing=uniform_mixing,
                multiplier_bits=multiplier_bits,
                fraction_bits=fraction_bits,
            )
        )
        inputs, input_steps, input_max_level = neurons, steps, levels
    return IntegerNetwork(name=name, input_shape=input_shape, layers=tuple(layers))


def random_design(
    rng: np.random.Generator, *, plan_options: PlanOptions | None = None, name: str = "design", **network: Any
) -> tuple[IntegerNetwork, DesignParameters]:
    """A :func:`random_network` and the hardware planned for it."""
    integer = random_network(rng, **network)
    return integer, plan(
        integer,
        choose_widths(integer),
        name=name,
        options=plan_options or PlanOptions(),
        events=expected_events(integer),
    )


def random_images(
    rng: np.random.Generator, count: int, input_shape: tuple[int, int, int], density: float = 0.3
) -> np.ndarray:
    """Images of uint8, shape (count, C, H, W), of which the part `density` is not 0; one is black, one has no zero."""
    images = rng.integers(1, PIXEL_MAX, (count, *input_shape), endpoint=True)
    images[rng.random(images.shape) >= density] = 0
    if count > 2:
        images[1] = 0
        images[2] = rng.integers(1, PIXEL_MAX, input_shape, endpoint=True)
    return images.astype(np.uint8)
