"""Random shifts, crops, mirroring, squares cut out, and mixed images."""

import pytest
import torch

from lmht.model.augmentation import cutout, mixup, random_crop_flip, random_shift


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


@pytest.mark.parametrize("length", [1, 4, 5, 40])
def test_cutout_blackens_one_square_cut_off_at_the_border(length):
    images = torch.randint(1, 256, (500, 3, 6, 9), dtype=torch.uint8)
    result = cutout(images, length, torch.Generator().manual_seed(0))
    squares = torch.stack([square(y, x, length) for y in range(6) for x in range(9)])
    black = (result == 0).all(dim=1)
    assert torch.equal(result, torch.where(black[:, None], 0, images))
    found = (black[:, None] == squares).flatten(2).all(dim=2)
    assert found.any(dim=1).all()
    assert found.any(dim=0).all()


def square(y, x, length):
    """Where the square is whose middle is the pixel (y, x) of 6x9, pixel by pixel."""
    inside = torch.zeros(6, 9, dtype=torch.bool)
    for row in range(y - length // 2, y - length // 2 + length):
        for column in range(x - length // 2, x - length // 2 + length):
            if 0 <= row < 6 and 0 <= column < 9:
                inside[row, column] = True
    return inside


def test_mixup_adds_images_and_classes_in_the_same_shares():
    images = torch.rand(50, 2, 3, 3)
    labels = torch.arange(50) % 4
    mixed, targets = mixup(images, labels, 5, 0.7, torch.Generator().manual_seed(2))
    partners = torch.randperm(50, generator=torch.Generator().manual_seed(2))
    moved = partners != torch.arange(50)
    shares = ((mixed - images[partners]) / (images - images[partners]))[moved]
    share = shares.median()
    assert 0 < share < 1
    torch.testing.assert_close(mixed, share * images + (1 - share) * images[partners], atol=1e-5, rtol=0)
    for row, (first, second) in enumerate(zip(labels, labels[partners], strict=True)):
        expected = torch.zeros(5)
        expected[first] += share
        expected[second] += 1 - share
        torch.testing.assert_close(targets[row], expected, atol=1e-5, rtol=0)


def test_shares_of_mixup_are_beta_distributed():
    """Mean 1/2 and variance 1 / (4 (2 alpha + 1))."""
    generator = torch.Generator().manual_seed(0)
    shares = []
    for _ in range(3000):
        _, targets = mixup(torch.zeros(2, 1, 1, 1), torch.tensor([0, 1]), 2, 0.4, generator)
        shares.append(targets[0, 0])
    # Half of the time an image is mixed with itself.
    drawn = torch.stack(shares)
    assert abs((drawn == 1).double().mean() - 0.5) < 0.05
    drawn = drawn[drawn < 1]
    assert abs(drawn.mean() - 0.5) < 0.03
    assert abs(drawn.var() - 1 / (4 * 1.8)) < 0.01


@pytest.mark.parametrize(
    "change", [lambda i, g: cutout(i, 3, g), lambda i, g: mixup(i, LABELS, 3, 1.0, g)[0]]
)
def test_randomness_comes_from_the_generator_alone(change):
    images = torch.rand(9, 1, 6, 6)
    before = images.clone()
    first = change(images, torch.Generator().manual_seed(1))
    state = torch.get_rng_state()
    assert torch.equal(change(images, torch.Generator().manual_seed(1)), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(change(images, torch.Generator().manual_seed(2)), first)
    assert torch.equal(images, before)


LABELS = torch.arange(9) % 3
