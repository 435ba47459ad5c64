"""AutoAugment: learned pairs of image operations (Cubuk et al., "AutoAugment: Learning Augmentation Strategies from
Data", CVPR 2019, tables of the appendix)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from . import image_operations as operations

__all__ = ["AUTO_AUGMENT_POLICIES", "auto_augment"]

LAST_BIN = 9
"""A magnitude of the tables is one of ten, 0 to 9, evenly from the first to the last of its operation."""


class _Operation(NamedTuple):
    """An operation and its magnitudes; with ``signed``, the sign is drawn, and the magnitude added to ``neutral``."""

    change: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    first: float = 0.0
    last: float = 0.0
    signed: bool = False
    neutral: float = 0.0


_OPERATIONS = {
    "ShearX": _Operation(operations.shear_x, 0, 0.3, signed=True),
    "ShearY": _Operation(operations.shear_y, 0, 0.3, signed=True),
    # 150 pixels of the 331 that the policies were first learned on.
    "TranslateX": _Operation(operations.translate_x, 0, 150 / 331, signed=True),
    "TranslateY": _Operation(operations.translate_y, 0, 150 / 331, signed=True),
    "Rotate": _Operation(operations.rotate, 0, 30, signed=True),
    "Brightness": _Operation(operations.adjust_brightness, 0, 0.9, signed=True, neutral=1),
    "Color": _Operation(operations.adjust_color, 0, 0.9, signed=True, neutral=1),
    "Contrast": _Operation(operations.adjust_contrast, 0, 0.9, signed=True, neutral=1),
    "Sharpness": _Operation(operations.adjust_sharpness, 0, 0.9, signed=True, neutral=1),
    "Posterize": _Operation(operations.posterize, 8, 4),
    "Solarize": _Operation(operations.solarize, 255, 0),
    "AutoContrast": _Operation(operations.auto_contrast),
    "Equalize": _Operation(operations.equalize),
    "Invert": _Operation(operations.invert),
}
_NAMES = tuple(_OPERATIONS)

# Operation, probability, magnitude, and the same of the second one.
_CIFAR10 = """
Invert 0.1 7        Contrast 0.2 6
Rotate 0.7 2        TranslateX 0.3 9
Sharpness 0.8 1     Sharpness 0.9 3
ShearY 0.5 8        TranslateY 0.7 9
AutoContrast 0.5 8  Equalize 0.9 2
ShearY 0.2 7        Posterize 0.3 7
Color 0.4 3         Brightness 0.6 7
Sharpness 0.3 9     Brightness 0.7 9
Equalize 0.6 5      Equalize 0.5 1
Contrast 0.6 7      Sharpness 0.6 5
Color 0.7 7         TranslateX 0.5 8
Equalize 0.3 7      AutoContrast 0.4 8
TranslateY 0.4 3    Sharpness 0.2 6
Brightness 0.9 6    Color 0.2 8
Solarize 0.5 2      Invert 0.0 3
Equalize 0.2 0      AutoContrast 0.6 0
Equalize 0.2 8      Equalize 0.6 4
Color 0.9 9         Equalize 0.6 6
AutoContrast 0.8 4  Solarize 0.2 8
Brightness 0.1 3    Color 0.7 0
Solarize 0.4 5      AutoContrast 0.9 3
TranslateY 0.9 9    TranslateY 0.7 9
AutoContrast 0.9 2  Solarize 0.8 3
Equalize 0.8 8      Invert 0.1 3
TranslateY 0.7 9    AutoContrast 0.9 1
"""
_IMAGENET = """
Posterize 0.4 8     Rotate 0.6 9
Solarize 0.6 5      AutoContrast 0.6 5
Equalize 0.8 8      Equalize 0.6 3
Posterize 0.6 7     Posterize 0.6 6
Equalize 0.4 7      Solarize 0.2 4
Equalize 0.4 4      Rotate 0.8 8
Solarize 0.6 3      Equalize 0.6 7
Posterize 0.8 5     Equalize 1.0 2
Rotate 0.2 3        Solarize 0.6 8
Equalize 0.6 8      Posterize 0.4 6
Rotate 0.8 8        Color 0.4 0
Rotate 0.4 9        Equalize 0.6 2
Equalize 0.0 7      Equalize 0.8 8
Invert 0.6 4        Equalize 1.0 8
Color 0.6 4         Contrast 1.0 8
Rotate 0.8 8        Color 1.0 2
Color 0.8 8         Solarize 0.8 7
Sharpness 0.4 7     Invert 0.6 8
ShearX 0.6 5        Equalize 1.0 9
Color 0.4 0         Equalize 0.6 3
Equalize 0.4 7      Solarize 0.2 4
Solarize 0.6 5      AutoContrast 0.6 5
Invert 0.6 4        Equalize 1.0 8
Color 0.6 4         Contrast 1.0 8
Equalize 0.8 8      Equalize 0.6 3
"""


class _Policy(NamedTuple):
    """Pairs of operations, in tensors of shape (pairs, 2)."""

    operation: torch.Tensor
    probability: torch.Tensor
    magnitude: torch.Tensor


def _parse(table: str) -> _Policy:
    words = [line.split() for line in table.strip().splitlines()]
    pairs = [(row[:3], row[3:]) for row in words]
    return _Policy(
        torch.tensor([[_NAMES.index(name) for name, _, _ in pair] for pair in pairs]),
        torch.tensor([[float(probability) for _, probability, _ in pair] for pair in pairs]),
        torch.tensor([[int(magnitude) for _, _, magnitude in pair] for pair in pairs]),
    )


AUTO_AUGMENT_POLICIES = {"cifar10": _parse(_CIFAR10), "imagenet": _parse(_IMAGENET)}
"""Policies by the data set that they were learned on."""


def auto_augment(images: torch.Tensor, policy: str, generator: torch.Generator) -> torch.Tensor:
    """Change every image by one pair of operations of the policy, each applied with its probability.

    Parameters
    ----------
    images : torch.Tensor of uint8, shape (N, C, H, W)
        Images of 1 channel (grey) or 3 (RGB).
    policy : {"cifar10", "imagenet"}
        One of :data:`AUTO_AUGMENT_POLICIES`.
    generator : torch.Generator
        Source of the pairs, then of what is applied, then of the signs.

    Returns
    -------
    torch.Tensor of uint8, shape (N, C, H, W)
        Changed copies; what comes from outside an image is black.
    """
    table = AUTO_AUGMENT_POLICIES[policy]
    count = len(images)
    pair = torch.randint(len(table.operation), (count,), generator=generator)
    applied = torch.rand(count, 2, generator=generator) < table.probability[pair]
    sign = 2 * torch.randint(2, (count, 2), generator=generator) - 1
    result = images.clone()
    for place in range(2):
        drawn = table.operation[pair, place]
        for index, operation in enumerate(_OPERATIONS.values()):
            chosen = ((drawn == index) & applied[:, place]).nonzero().squeeze(1)
            if not len(chosen):
                continue
            magnitudes = _magnitudes(operation, table.magnitude[pair[chosen], place], sign[chosen, place])
            where = chosen.to(images.device)
            result[where] = operation.change(result[where], magnitudes.to(images.device))
    return result


def _magnitudes(operation: _Operation, bins: torch.Tensor, signs: torch.Tensor) -> torch.Tensor:
    """What a bin of the tables stands for, ``float64``."""
    sizes = operation.first + (operation.last - operation.first) * bins.double() / LAST_BIN
    return operation.neutral + signs * sizes if operation.signed else sizes
