"""Numbers of NumPy and PyTorch are numbers; what is none, or lies outside its range, is named."""

import numpy as np
import pytest
import torch

from lmht.model import LMHT, QuantConv2d, QuantLinear
from lmht.model.checks import check_integer, check_number, check_positive

KINDS = [
    np.float32,
    np.float64,
    np.float16,
    torch.tensor,
    np.array,
    lambda x: torch.nn.Parameter(torch.tensor(x)),
]


@pytest.mark.parametrize("kind", KINDS)
def test_numbers(kind):
    assert check_number("theta", kind(0.5)) == 0.5
    assert type(check_positive("theta", kind(0.5))) is float
    with pytest.raises(ValueError, match=r"theta must be above 0, not -0\.5"):
        check_positive("theta", kind(-0.5))
    with pytest.raises(TypeError, match="levels must be an integer"):
        check_integer("levels", kind(2.0), 1)


@pytest.mark.parametrize("kind", [np.int64, np.uint8, torch.tensor, np.array])
def test_integers(kind):
    found = check_integer("levels", kind(3), 1, 4)
    assert (found, type(found)) == (3, int)
    assert check_number("theta", kind(3)) == 3.0
    with pytest.raises(ValueError, match="levels must be between 1 and 2, not 3"):
        check_integer("levels", kind(3), 1, 2)


@pytest.mark.parametrize(
    "value",
    [True, np.True_, torch.tensor(True), "3", None, np.array([3]), torch.tensor([3]), np.complex64(1)],
)
def test_what_is_no_number(value):
    with pytest.raises(TypeError, match="levels must be an integer, not"):
        check_integer("levels", value, 1)
    with pytest.raises(TypeError, match="theta must be a number, not"):
        check_number("theta", value)


@pytest.mark.parametrize("integer", [np.int64, torch.tensor])
@pytest.mark.parametrize("number", [np.float32, torch.tensor])
def test_neurons_and_layers_take_them(integer, number):
    neuron = LMHT(
        integer(2), integer(3), number(0.5), number(0.25), leak=number(0.75), fraction_bits=integer(8)
    )
    plain = LMHT(2, 3, 0.5, 0.25, leak=0.75, fraction_bits=8)
    assert repr(neuron) == repr(plain)
    currents = torch.rand(3, 4, 5)
    assert torch.equal(neuron(currents), plain(currents))
    assert QuantLinear(integer(3), integer(2), weight_bits=integer(4)).weight_bits == 4
    assert QuantConv2d(integer(3), integer(2), 3, weight_bits=integer(4)).weight.shape == (2, 3, 3, 3)
    with pytest.raises(ValueError, match=r"leak must be between 0 and 1\.5, not 2"):
        LMHT(2, 2, leak=number(2.0))
