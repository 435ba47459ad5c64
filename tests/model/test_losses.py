"""Squared hinge loss against values and gradients by hand."""

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from lmht.model import TrainingConfig
from lmht.model.losses import squared_hinge, training_loss

# y s is 0.5, -2, -0.25 in the first row and 3, 1, -0.5 in the second: margins of 0.5, 3, 1.25 and 0, 0, 1.5.
SCORES = [[0.5, 2.0, 0.25], [-3.0, 1.0, 0.5]]
LABELS = torch.tensor([0, 1])


def test_value():
    loss = squared_hinge(torch.tensor(SCORES, dtype=torch.float64), LABELS)
    assert loss.item() == (0.5**2 + 3**2 + 1.25**2 + 0 + 0 + 1.5**2) / 6


def test_gradient():
    scores = torch.tensor(SCORES, dtype=torch.float64, requires_grad=True)
    squared_hinge(scores, LABELS).backward()
    expected = torch.tensor([[-2 * 0.5, 2 * 3, 2 * 1.25], [0, 0, 2 * 1.5]], dtype=torch.float64) / 6
    torch.testing.assert_close(scores.grad, expected, rtol=1e-15, atol=0)


def test_gradient_by_differences():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(5, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 3, 1, 1, 2])
    assert torch.autograd.gradcheck(lambda values: squared_hinge(values, labels), scores)


def test_loss_is_zero_beyond_the_margin():
    assert squared_hinge(torch.tensor([[1.0, -1.0], [-5.0, 7.0]]), torch.tensor([0, 1])) == 0


def test_peak_of_output_neurons_is_the_margin():
    """The right neuron at its peak and all others silent: no loss. One half way: margins of 1."""
    recipe = TrainingConfig(loss="squared-hinge")
    values = torch.tensor([[0.5, 0.0, 0.0], [0.0, 0.5, 0.0]])
    assert training_loss(recipe, values, LABELS, 0.5) == 0
    half = training_loss(recipe, torch.full((2, 3), 0.25), LABELS, 0.5)
    assert half == 1
    assert training_loss(recipe, torch.tensor(SCORES), LABELS, None) == squared_hinge(
        torch.tensor(SCORES), LABELS
    )


def test_cross_entropy_stays_the_default():
    recipe = TrainingConfig(label_smoothing=0.1)
    expected = F.cross_entropy(torch.tensor(SCORES), LABELS, label_smoothing=0.1)
    for peak in (None, 1.0):
        assert torch.equal(training_loss(recipe, torch.tensor(SCORES), LABELS, peak), expected)


def test_smoothing_needs_probabilities():
    with pytest.raises(ValidationError, match=r"label_smoothing must be 0 with loss squared-hinge, not 0\.1"):
        TrainingConfig(loss="squared-hinge", label_smoothing=0.1)
    with pytest.raises(ValidationError, match="'cross-entropy' or 'squared-hinge'"):
        TrainingConfig(loss="mse")
