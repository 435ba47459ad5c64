"""Every operation of AutoAugment against Pillow's, bit for bit."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from lmht.model import image_operations as operations

AFFINE = Image.Transform.AFFINE
ENHANCED = np.concatenate([1 + np.linspace(0, 0.9, 10), 1 - np.linspace(0, 0.9, 10)])
SHEARED = np.concatenate([np.linspace(0, 0.3, 10), -np.linspace(0, 0.3, 10)])
MOVED = np.concatenate([np.linspace(0, 150 / 331, 10), -np.linspace(0, 150 / 331, 10)])
TURNED = np.concatenate([np.linspace(0, 30, 10), -np.linspace(0, 30, 10)])
NONE = np.zeros(1)

# What Pillow does to one image, and the magnitudes.
PILLOW = {
    "shear_x": (lambda image, by: image.transform(image.size, AFFINE, (1, by, 0, 0, 1, 0)), SHEARED),
    "shear_y": (lambda image, by: image.transform(image.size, AFFINE, (1, 0, 0, by, 1, 0)), SHEARED),
    "translate_x": (
        lambda image, by: image.transform(image.size, AFFINE, (1, 0, int(by * image.width), 0, 1, 0)),
        MOVED,
    ),
    "translate_y": (
        lambda image, by: image.transform(image.size, AFFINE, (1, 0, 0, 0, 1, int(by * image.height))),
        MOVED,
    ),
    "rotate": (lambda image, by: image.rotate(by), TURNED),
    "adjust_brightness": (lambda image, by: ImageEnhance.Brightness(image).enhance(by), ENHANCED),
    "adjust_color": (lambda image, by: ImageEnhance.Color(image).enhance(by), ENHANCED),
    "adjust_contrast": (lambda image, by: ImageEnhance.Contrast(image).enhance(by), ENHANCED),
    "adjust_sharpness": (lambda image, by: ImageEnhance.Sharpness(image).enhance(by), ENHANCED),
    "posterize": (lambda image, by: ImageOps.posterize(image, round(by)), np.linspace(8, 4, 10)),
    "solarize": (lambda image, by: ImageOps.solarize(image, by), np.linspace(255, 0, 10)),
    "auto_contrast": (lambda image, by: ImageOps.autocontrast(image), NONE),
    "equalize": (lambda image, by: ImageOps.equalize(image), NONE),
    "invert": (lambda image, by: ImageOps.invert(image), NONE),
}
RANDOM = np.random.default_rng(0)
IMAGES = {
    "noise": RANDOM.integers(0, 256, (40, 3, 32, 32), dtype=np.uint8),
    # Large even areas, with histograms of few, high bars.
    "areas": np.kron(RANDOM.integers(20, 210, (40, 3, 4, 5), dtype=np.uint8), np.ones((6, 8), np.uint8)),
    "pale": RANDOM.integers(100, 103, (40, 3, 20, 37), dtype=np.uint8),
    "even": np.full((2, 3, 4, 4), 77, np.uint8),
    "tiny": RANDOM.integers(0, 256, (8, 3, 1, 2), dtype=np.uint8),
}


def by_pillow(change, images, magnitudes):
    results = []
    for pixels, magnitude in zip(images, magnitudes, strict=True):
        grey = len(pixels) == 1
        image = Image.fromarray(pixels[0] if grey else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
        changed = np.asarray(change(image, float(magnitude)))
        results.append(changed[None] if grey else changed.transpose(2, 0, 1))
    return np.stack(results)


def differing(name, images):
    change, values = PILLOW[name]
    magnitudes = RANDOM.choice(values, len(images))
    result = getattr(operations, name)(torch.from_numpy(images.copy()), torch.from_numpy(magnitudes))
    assert result.dtype == torch.uint8
    return int((result.numpy() != by_pillow(change, images, magnitudes)).sum())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.parametrize("name", PILLOW)
def test_equals_pillow(name, kind, channels):
    assert differing(name, IMAGES[kind][:, :channels]) == 0


def test_all_operations_are_compared():
    assert sorted(PILLOW) == sorted(operations.__all__)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("_fixed", lambda values: torch.round(values * 256).to(torch.int64)[:, None, None] * 256),
        ("_grey", lambda images: images.float().mean(dim=1, keepdim=True).to(torch.uint8)),
        ("_blend", lambda start, images, by: torch.lerp(start.float(), images.float(), 0.5).to(torch.uint8)),
    ],
)
def test_fault_in_a_common_part_is_found(name, fault, monkeypatch):
    monkeypatch.setattr(operations, name, fault)
    assert any(differing(each, IMAGES["noise"]) for each in PILLOW)


def test_images_are_left_as_they_were():
    images = torch.from_numpy(IMAGES["noise"].copy())
    for name, (_, values) in PILLOW.items():
        getattr(operations, name)(images, torch.from_numpy(RANDOM.choice(values, len(images))))
    assert np.array_equal(images.numpy(), IMAGES["noise"])
