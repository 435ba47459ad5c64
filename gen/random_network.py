"""Random integer networks whose neurons neither all sleep nor all saturate: inputs for tests and benches."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lmht.gen.integer import PIXEL_MAX, IntegerLayer, IntegerNetwork

__all__ = ["random_images", "random_network"]


def random_network(
    seed: int,
    *,
    input_shape: tuple[int, int, int] = (1, 4, 4),
    hidden: Sequence[int] = (12,),
    classes: int = 10,
    levels: int | Sequence[int] = 2,
    steps: int | Sequence[int] = 2,
    weight_bits: int = 4,
    fraction_bits: int = 8,
    multiplier_bits: int = 12,
    leak: bool = False,
    leak_bits: int = 8,
) -> IntegerNetwork:
    """An integer network with random weights, biases, multipliers, leaks and initial membranes.

    Multipliers are drawn independently for every output step, input step and neuron, which is as far from a
    uniform mixing matrix as it gets; the shift makes a typical current half of what the top level needs.

    Parameters
    ----------
    seed : int
        Equal arguments give equal networks.
    input_shape : tuple of int
        Channels, height and width.
    hidden : sequence of int
        Neurons of the hidden layers, perhaps none.
    classes : int
    levels, steps : int or sequence of int
        ``L`` and ``T`` of every hidden layer, or of each.
    weight_bits, fraction_bits, multiplier_bits, leak_bits : int
        ``WB``, ``F``, ``GB``, ``FL``.
    leak : bool
        Whether the hidden layers have leaks other than 1, from 0 to just below 2, another one at every step.
    """
    random = np.random.default_rng(seed)
    all_levels = [levels] * len(hidden) if isinstance(levels, int) else list(levels)
    all_steps = [steps] * len(hidden) if isinstance(steps, int) else list(steps)
    limit = 2 ** (weight_bits - 1) - 1
    inputs, input_steps, input_max_level = math.prod(input_shape), 1, PIXEL_MAX
    layers = []
    for neurons, own_levels, own_steps in zip(hidden, all_levels, all_steps, strict=True):
        weights = random.integers(-limit, limit, (neurons, inputs), endpoint=True)
        spread = _spread(inputs, limit, input_max_level)
        multipliers = random.integers(0, 2**multiplier_bits, (own_steps, input_steps, neurons))
        typical = spread * math.sqrt(input_steps) * 2**multiplier_bits / 2
        target = (own_levels + 1) / 2 * 2**fraction_bits
        layers.append(
            IntegerLayer(
                weights=weights,
                bias=random.integers(-spread // 2, spread, neurons, endpoint=True),
                multipliers=multipliers,
                shift=min(63, max(0, round(math.log2(typical / target)))),
                levels=own_levels,
                fraction_bits=fraction_bits,
                leak=random.integers(0, 2 ** (leak_bits + 1), own_steps) if leak else None,
                leak_bits=leak_bits,
                initial_membrane=int(random.integers(-(2**fraction_bits), 2**fraction_bits)),
                weight_bits=weight_bits,
                multiplier_bits=multiplier_bits,
                input_max_level=input_max_level,
            )
        )
        inputs, input_steps, input_max_level = neurons, own_steps, own_levels
    spread = _spread(inputs, limit, input_max_level)
    gains = random.integers(1, 2**multiplier_bits, classes)
    layers.append(
        IntegerLayer(
            weights=random.integers(-limit, limit, (classes, inputs), endpoint=True),
            bias=random.integers(-spread, spread, classes, endpoint=True),
            multipliers=np.broadcast_to(gains, (1, input_steps, classes)).copy(),
            shift=0,
            levels=None,
            fraction_bits=fraction_bits,
            leak_bits=leak_bits,
            weight_bits=weight_bits,
            multiplier_bits=multiplier_bits,
            input_max_level=input_max_level,
        )
    )
    return IntegerNetwork(name=f"random{seed}", input_shape=input_shape, layers=tuple(layers))


def random_images(
    seed: int, count: int, input_shape: tuple[int, int, int], *, density: float = 0.3
) -> np.ndarray:
    """Images of uint8 and shape (count, C, H, W) with a part `density` of pixels that are not 0."""
    random = np.random.default_rng(seed)
    pixels = random.integers(1, 256, (count, *input_shape), dtype=np.uint8)
    return np.where(random.random(pixels.shape) < density, pixels, 0).astype(np.uint8)


def _spread(inputs: int, limit: int, max_level: int) -> int:
    """Typical size of an accumulator, about its standard deviation with a third of the inputs active."""
    return max(1, round(math.sqrt(inputs / 3) * limit * 0.6 * max_level * 0.6))
