"""Batch norm over time and batch."""

import pytest
import torch
from torch import nn

from lmht.model import TimeBatchNorm


@pytest.mark.parametrize("shape", [(4, 5, 3), (4, 5, 3, 2, 6), (1, 20, 3)])
def test_statistics_run_over_everything_but_the_channel(shape):
    current = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 3 + 2
    norm = TimeBatchNorm(3)
    normalized = norm(current)
    assert normalized.shape == current.shape
    per_channel = current.movedim(2, 0).flatten(1)
    mean, variance = per_channel.mean(dim=1), per_channel.var(dim=1, unbiased=False)
    expected = (per_channel - mean[:, None]) / torch.sqrt(variance + norm.eps)[:, None]
    torch.testing.assert_close(normalized.movedim(2, 0).flatten(1), expected)
    torch.testing.assert_close(norm.running_mean, 0.1 * mean)


def test_equals_batch_norm_of_merged_steps_in_both_modes():
    norm, plain = TimeBatchNorm(3), nn.BatchNorm1d(3)
    current = torch.randn(2, 8, 3)
    assert torch.equal(norm(current), plain(current.flatten(0, 1)).view(2, 8, 3))
    norm.eval(), plain.eval()
    assert torch.equal(norm(current), plain(current.flatten(0, 1)).view(2, 8, 3))


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (2, 4, 3, 3)])
def test_forward_wrong_shape(shape):
    with pytest.raises(ValueError, match="current must have shape") as caught:
        TimeBatchNorm(5)(torch.zeros(shape))
    assert str(caught.value) == f"current must have shape (T, batch, 5, ...), not {shape}"


def test_init_wrong_features():
    with pytest.raises(ValueError, match="features") as caught:
        TimeBatchNorm(0)
    assert str(caught.value) == "features must be at least 1, not 0"
