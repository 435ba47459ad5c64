"""Random shifts, crops and mirroring."""

import pytest
import torch

from lmht.model.augmentation import random_crop_flip, random_shift


def shifted(image, down, right):
    """One image (C, H, W) moved, by copying pixel by pixel."""
    moved = torch.zeros_like(image)
    _, height, width = image.shape
    for row in range(height):
        for column in range(width):
            if 0 <= row - down < height and 0 <= column - right < width:
                moved[:, row, column] = image[:, row - down, column - right]
    return moved


@pytest.mark.parametrize("pixels", [1, 2])
def test_every_image_is_one_of_its_shifts(pixels):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(1, 256, (200, 2, 4, 5), dtype=torch.uint8, generator=generator)
    result = random_shift(images, pixels, generator)
    assert result.shape == images.shape
    assert result.dtype == images.dtype
    seen = set()
    span = range(-pixels, pixels + 1)
    for before, after in zip(images, result, strict=True):
        found = [(dy, dx) for dy in span for dx in span if torch.equal(shifted(before, dy, dx), after)]
        assert found
        seen.update(found)
    assert len(seen) == len(span) ** 2


def test_no_shift_changes_nothing():
    images = torch.randint(0, 256, (5, 1, 4, 4), dtype=torch.uint8)
    assert torch.equal(random_shift(images, 0, torch.Generator()), images)


def test_crop_is_a_shift_and_about_half_are_mirrored():
    images = torch.randint(1, 256, (400, 3, 5, 6), dtype=torch.uint8)
    result = random_crop_flip(images, 2, torch.Generator().manual_seed(4))
    moved = random_shift(images, 2, torch.Generator().manual_seed(4))
    same = (result == moved).flatten(1).all(dim=1)
    mirrored = (result == moved.flip(3)).flatten(1).all(dim=1)
    assert (same | mirrored).all()
    assert 140 < (mirrored & ~same).sum() < 260
    assert result.dtype == images.dtype


def test_crop_flip_takes_all_its_randomness_from_the_generator():
    images = torch.randint(0, 256, (9, 1, 4, 4), dtype=torch.uint8)
    first = random_crop_flip(images, 1, torch.Generator().manual_seed(1))
    torch.rand(3)
    assert torch.equal(random_crop_flip(images, 1, torch.Generator().manual_seed(1)), first)
