import re

import numpy as np
import pytest

from lmht.gen.integer import IntegerLayer, IntegerNetwork


def fields(**changes):
    values = {
        "weights": np.array([[1, -7, 0], [7, 2, 3]]),
        "bias": np.array([5, -5]),
        "multipliers": np.ones((2, 1, 2), dtype=np.int64),
        "shift": 3,
        "levels": 2,
    }
    return values | changes


def classifier(inputs=2, steps=2, **changes):
    return IntegerLayer(
        **fields(
            weights=np.ones((4, inputs), dtype=np.int64),
            bias=np.zeros(4, dtype=np.int64),
            multipliers=np.full((1, steps, 4), 9),
            shift=0,
            levels=None,
            input_max_level=2,
        )
        | changes
    )


def network(**changes):
    values = {"name": "n", "input_shape": (1, 1, 3), "layers": (IntegerLayer(**fields()), classifier())}
    return IntegerNetwork(**(values | changes))


def test_sizes():
    first, last = network().layers
    assert (first.inputs, first.neurons, first.input_steps, first.steps) == (3, 2, 1, 2)
    assert (last.input_steps, last.steps, last.is_classifier) == (2, 1, True)
    assert (network().architecture, network().classes, network().inputs) == ("3-2-4", 4, 3)


def test_arrays_are_read_only_copies_in_c_order():
    multipliers = np.broadcast_to(np.array([3, 4]), (2, 1, 2))
    layer = IntegerLayer(**fields(multipliers=multipliers))
    assert layer.multipliers.flags.c_contiguous
    with pytest.raises(ValueError, match="read-only"):
        layer.multipliers[0] = 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": np.array([[1, 8, 0], [0, 0, 0]])}, "weights must be between -7 and 7, not 8"),
        ({"weights": np.array([[1, -8, 0], [0, 0, 0]])}, "weights must be between -7 and 7, not -8"),
        ({"weights": np.zeros(3, dtype=int)}, "weights must have shape (any, any), not (3,)"),
        ({"bias": np.zeros(3, dtype=int)}, "bias must have shape (2), not (3,)"),
        ({"multipliers": np.full((2, 1, 2), 4096)}, "multipliers must be between 0 and 4095, not 4096"),
        (
            {"multipliers": np.ones((2, 1, 3), dtype=int)},
            "multipliers must have shape (any, any, 2), not (2, 1, 3)",
        ),
        ({"multipliers": np.ones((9, 1, 2), dtype=int)}, "steps must be between 1 and 8, not 9"),
        ({"shift": 64}, "shift must be between 0 and 63, not 64"),
        ({"levels": 16}, "levels must be between 1 and 15, not 16"),
        ({"leak": np.array([1, 512])}, "leak must be between 0 and 511, not 512"),
        ({"weight_bits": 9}, "weight_bits must be between 2 and 8, not 9"),
        ({"fraction_bits": -1}, "fraction_bits must be between 0 and 24, not -1"),
    ],
)
def test_init_wrong_value(changes, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        IntegerLayer(**fields(**changes))


def test_init_wrong_type():
    with pytest.raises(TypeError, match=r"^bias must be an array of integers, not list$"):
        IntegerLayer(**fields(bias=[1, 2]))
    with pytest.raises(TypeError, match=r"^weights must be an array of integers, not ndarray$"):
        IntegerLayer(**fields(weights=np.ones((2, 3))))
    with pytest.raises(TypeError, match=r"^shift must be an integer, not 1\.0$"):
        IntegerLayer(**fields(shift=1.0))


def test_init_wrong_classifier():
    with pytest.raises(
        ValueError, match=r"^multipliers of a classifier must be the same at every input step$"
    ):
        classifier(multipliers=np.arange(8).reshape(1, 2, 4))
    with pytest.raises(
        ValueError, match=r"^a classifier must have 1 step, shift 0, no leak and initial_membrane 0$"
    ):
        classifier(shift=1)


def test_init_wrong_network():
    with pytest.raises(ValueError, match=r"^layer 1: input_steps must be 2 as its source says, not 1$"):
        network(layers=(IntegerLayer(**fields()), classifier(steps=1)))
    with pytest.raises(ValueError, match=r"^layer 1: input_max_level must be 2 as its source says, not 3$"):
        network(layers=(IntegerLayer(**fields()), classifier(input_max_level=3)))
    with pytest.raises(ValueError, match=r"^layer 0: inputs must be 4 as its source says, not 3$"):
        network(input_shape=(1, 2, 2))
    with pytest.raises(ValueError, match=r"^layer 0: the last layer, and no other, must be a classifier$"):
        network(layers=(IntegerLayer(**fields()),))
