"""AutoAugment: one pair of operations an image, with the probabilities and magnitudes of its policy."""

import pytest
import torch

from lmht.model import auto_augment as module
from lmht.model import image_operations as operations
from lmht.model.auto_augment import AUTO_AUGMENT_POLICIES, auto_augment

IMAGES = torch.randint(
    0, 256, (300, 3, 20, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)


def augment(images, policy="cifar10", seed=0):
    return auto_augment(images, policy, torch.Generator().manual_seed(seed))


def one_pair(monkeypatch, table):
    """A policy of this one pair."""
    monkeypatch.setitem(AUTO_AUGMENT_POLICIES, "cifar10", module._parse(table))


@pytest.mark.parametrize("policy", ["cifar10", "imagenet"])
def test_policies_have_25_pairs(policy):
    table = AUTO_AUGMENT_POLICIES[policy]
    assert [tensor.shape for tensor in table] == [(25, 2)] * 3
    assert ((table.probability >= 0) & (table.probability <= 1)).all()
    assert ((table.magnitude >= 0) & (table.magnitude <= 9)).all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("policy", ["cifar10", "imagenet"])
def test_seed_decides(policy, channels):
    images = IMAGES[:, :channels]
    first = augment(images, policy)
    state = torch.get_rng_state()
    assert torch.equal(augment(images, policy), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(augment(images, policy, seed=1), first)
    assert first.shape == images.shape
    changed = (first != images).flatten(1).any(dim=1)
    assert 0.5 < changed.float().mean() < 0.99


def test_operations_follow_each_other(monkeypatch):
    one_pair(monkeypatch, "Solarize 1.0 4  Posterize 1.0 8")
    magnitudes = torch.full((300,), 255 - 255 * 4 / 9, dtype=torch.float64)
    # 8 - 4 * 8 / 9 bits are 4.4, so 4.
    expected = operations.solarize(IMAGES, magnitudes) & 0xF0
    assert torch.equal(augment(IMAGES), expected)


def test_probability(monkeypatch):
    one_pair(monkeypatch, "Invert 0.3 0  Invert 0.0 9")
    changed = (augment(IMAGES) == 255 - IMAGES).flatten(1).all(dim=1)
    assert torch.equal(augment(IMAGES)[~changed], IMAGES[~changed])
    assert 60 < changed.sum() < 120


@pytest.mark.parametrize(
    ("name", "change", "sizes"),
    [
        ("TranslateX", operations.translate_x, 150 / 331),
        ("Rotate", operations.rotate, 30.0),
        ("Brightness", operations.adjust_brightness, 0.9),
    ],
)
def test_half_of_the_signs_are_turned(monkeypatch, name, change, sizes):
    one_pair(monkeypatch, f"{name} 1.0 9  Invert 0.0 0")
    neutral = 1.0 if name == "Brightness" else 0.0
    result = augment(IMAGES)
    matches = []
    for sign in (1, -1):
        magnitudes = torch.full((300,), neutral + sign * sizes, dtype=torch.float64)
        matches.append((result == change(IMAGES, magnitudes)).flatten(1).all(dim=1))
    assert (matches[0] | matches[1]).all()
    assert 110 < matches[0].sum() < 190


def test_every_pair_is_drawn(monkeypatch):
    """Two pairs, of which each image gets one alone."""
    one_pair(monkeypatch, "Invert 1.0 0  Posterize 0.0 0\nSolarize 1.0 9  Invert 1.0 0")
    result = augment(IMAGES)
    inverted = (result == 255 - IMAGES).flatten(1).all(dim=1)
    # Solarized at 0, everything is inverted, and then once more.
    same = (result == IMAGES).flatten(1).all(dim=1)
    assert (inverted ^ same).all()
    assert 110 < inverted.sum() < 190
