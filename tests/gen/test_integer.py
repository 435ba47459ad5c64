import re
from dataclasses import replace

import numpy as np
import pytest

from lmht.gen.integer import IntegerLayer, IntegerNetwork
from lmht.gen.integer_projection import IntegerProjection
from lmht.rtl.projection import IMAGE, Pooling


def dense(weights, *, source=IMAGE, input_shape=(1, 1, 3), **others):
    return IntegerProjection.dense(np.array(weights), source=source, input_shape=input_shape, **others)


def convolution(source, shape, channels, kernel=3, **others):
    groups = others.get("groups", 1)
    return IntegerProjection(
        source=source,
        input_shape=shape,
        weights=np.ones((channels, shape[0] // groups, kernel, kernel), dtype=int),
        padding=(kernel // 2, kernel // 2),
        **{"input_steps": 2, "input_max_level": 2} | others,
    )


def fields(**changes):
    values = {
        "projections": (dense([[1, -7, 0], [7, 2, 3]]),),
        "bias": np.array([[5, -5], [0, 9]]),
        "multipliers": np.ones((2, 1, 2), dtype=np.int64),
        "shift": 3,
        "levels": 2,
    }
    return values | changes


def classifier(projection=None, **changes):
    if projection is None:
        projection = dense(
            np.ones((4, 2), int), source=0, input_shape=(2, 1, 1), input_steps=2, input_max_level=2
        )
    channels = len(projection.weights)
    values = {
        "projections": (projection,),
        "bias": np.zeros((1, channels), dtype=np.int64),
        "multipliers": np.full((1, projection.input_steps, channels), 9),
        "shift": 0,
        "levels": None,
    }
    return IntegerLayer(**values | changes)


def spiking(*projections, steps=2, levels=2):
    channels = len(projections[0].weights)
    return IntegerLayer(
        projections=projections,
        bias=np.zeros((steps, channels), dtype=int),
        multipliers=np.ones((steps, projections[0].input_steps, channels), dtype=int),
        shift=0,
        levels=levels,
    )


def network(**changes):
    values = {"name": "n", "input_shape": (1, 1, 3), "layers": (IntegerLayer(**fields()), classifier())}
    return IntegerNetwork(**(values | changes))


@pytest.fixture
def residual():
    """Convolution, pooling, a block with an identity, one with a strided branch, and the classifier."""
    pooling = Pooling(kind="max", size=(2, 2))
    first = convolution(IMAGE, (3, 8, 6), 4, input_steps=1, input_max_level=255)
    second = convolution(0, (4, 8, 6), 4, pooling=pooling, groups=4)
    third = convolution(1, (4, 4, 3), 4, stride=(1, 1))
    fourth = (
        convolution(2, (4, 4, 3), 8, kernel=5, stride=(2, 2)),
        convolution(1, (4, 4, 3), 8, kernel=1, stride=(2, 2), weight_bits=12),
    )
    identity = convolution(0, (4, 8, 6), 4, kernel=1, pooling=pooling, groups=4, weight_bits=11)
    last = IntegerProjection.dense(
        np.ones((10, 8), dtype=int),
        source=3,
        input_shape=(8, 2, 2),
        pooling=Pooling(kind="sum", size=(2, 2)),
        input_steps=2,
        input_max_level=2,
    )
    layers = (
        spiking(first),
        spiking(second),
        spiking(third, identity),
        spiking(*fourth),
        classifier(last),
    )
    return IntegerNetwork(name="residual", input_shape=(3, 8, 6), layers=layers)


def test_sizes():
    first, last = network().layers
    assert (first.shape, first.channels, first.neurons) == ((2, 1, 1), 2, 2)
    assert (first.input_steps, first.steps) == (1, 2)
    assert (last.input_steps, last.steps, last.is_classifier) == (2, 1, True)
    assert (network().architecture, network().classes, network().inputs) == ("3-2-4", 4, 3)
    assert network().is_sequence


def test_a_network_of_branches(residual):
    assert [layer.shape for layer in residual.layers] == [
        (4, 8, 6),
        (4, 4, 3),
        (4, 4, 3),
        (8, 2, 2),
        (10, 1, 1),
    ]
    assert [layer.neurons for layer in residual.layers] == [192, 48, 48, 32, 10]
    assert residual.architecture == "3x8x6-4C3-M2-4C3g4-4C3+0-8C5s2+1-P2-10"
    assert not residual.is_sequence
    assert residual.consumers(IMAGE) == ((0, 0),)
    assert residual.consumers(0) == ((1, 0), (2, 1))
    assert residual.consumers(1) == ((2, 0), (3, 1))
    assert residual.consumers(4) == ()


def test_arrays_are_read_only_copies_in_c_order():
    multipliers = np.broadcast_to(np.array([3, 4]), (2, 1, 2))
    layer = IntegerLayer(**fields(multipliers=multipliers))
    assert layer.multipliers.flags.c_contiguous
    with pytest.raises(ValueError, match="read-only"):
        layer.multipliers[0] = 1
    with pytest.raises(TypeError):
        network(meta={"accuracy": 1}).meta["accuracy"] = 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"projections": ()}, "projections must be between 1 and 2, not 0"),
        (
            {"projections": (dense(np.ones((2, 3), int), source=0, weight_bits=9),)},
            "weight_bits of the first projection must be between 2 and 8, not 9",
        ),
        (
            {"projections": (dense(np.ones((2, 3), int)), dense(np.ones((3, 3), int)))},
            "projections must have the same output_shape, not (2, 1, 1) and (3, 1, 1)",
        ),
        (
            {"projections": (dense(np.ones((2, 3), int)), dense(np.ones((2, 3), int), input_steps=2))},
            "projections must have the same input_steps, not 1 and 2",
        ),
        ({"bias": np.zeros((2, 3), dtype=int)}, "bias must have shape (2, 2), not (2, 3)"),
        ({"bias": np.zeros(2, dtype=int)}, "bias must have shape (2, 2), not (2,)"),
        ({"bias": np.zeros((1, 2), dtype=int)}, "bias must have shape (2, 2), not (1, 2)"),
        (
            {"bias": np.array([[0, 0], [0, 2**47]])},
            f"bias must be between {-(2**47)} and {2**47 - 1}, not {2**47}",
        ),
        ({"multipliers": np.full((2, 1, 2), 4096)}, "multipliers must be between 0 and 4095, not 4096"),
        (
            {"multipliers": np.ones((2, 1, 3), dtype=int)},
            "multipliers must have shape (any, any, 2), not (2, 1, 3)",
        ),
        (
            {"multipliers": np.ones((2, 2, 2), dtype=int)},
            "multipliers must have 1 input steps as the projections, not 2",
        ),
        (
            {
                "projections": (dense([[1], [2]], source=0, input_shape=(1, 1, 1), input_steps=3),),
                "multipliers": np.ones((2, 1, 2), dtype=int),
            },
            "multipliers must have 3 input steps as the projections, not 1",
        ),
        ({"multipliers": np.ones((33, 1, 2), dtype=int)}, "steps must be between 1 and 32, not 33"),
        ({"shift": 64}, "shift must be between 0 and 63, not 64"),
        ({"levels": 16}, "levels must be between 1 and 15, not 16"),
        ({"leak": np.array([1, 512])}, "leak must be between 0 and 511, not 512"),
        ({"fraction_bits": -1}, "fraction_bits must be between 0 and 24, not -1"),
    ],
)
def test_init_wrong_value(changes, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        IntegerLayer(**fields(**changes))


def test_diagonal_mixing():
    inputs = dense([[1], [2]], source=0, input_shape=(1, 1, 1), input_steps=2, input_max_level=1)
    layer = IntegerLayer(**fields(projections=(inputs,), multipliers=np.array([[[3, 4]], [[5, 6]]])))
    assert layer.diagonal
    assert layer.full_multipliers().tolist() == [[[3, 4], [0, 0]], [[0, 0], [5, 6]]]
    full = IntegerLayer(**fields(projections=(inputs,), multipliers=layer.full_multipliers()))
    assert not full.diagonal
    image_fed = IntegerLayer(**fields())
    assert not image_fed.diagonal
    assert image_fed.full_multipliers() is image_fed.multipliers


def test_init_wrong_type():
    with pytest.raises(TypeError, match=r"^bias must be an array of integers, not list$"):
        IntegerLayer(**fields(bias=[1, 2]))
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
    with pytest.raises(ValueError, match=r"^a classifier must have one output pixel, not 4 x 3$"):
        classifier(convolution(0, (4, 4, 3), 2))


def changed(network, index, **projection):
    """The network with other values in the first projection of a layer."""
    layers = list(network.layers)
    first, *others = layers[index].projections
    layers[index] = replace(layers[index], projections=(replace(first, **projection), *others))
    return replace(network, layers=tuple(layers))


def test_init_wrong_network(residual):
    with pytest.raises(ValueError, match=r"^layer 1: input_max_level must be 2 as its source says, not 3$"):
        changed(residual, 1, input_max_level=3)
    with pytest.raises(
        ValueError, match=r"^layer 0: input_shape must be \(3, 8, 5\) as its source says, not"
    ):
        replace(residual, input_shape=(3, 8, 5))
    with pytest.raises(ValueError, match=r"^layer 2: source must be between -1 and 1, not 2$"):
        changed(residual, 2, source=2)
    with pytest.raises(ValueError, match=r"^layer 0: the last layer, and no other, must be a classifier$"):
        network(layers=(IntegerLayer(**fields()),))
    with pytest.raises(ValueError, match=r"^layers must hold at least 1 layer, not 0$"):
        network(layers=())
    with pytest.raises(ValueError, match=r"^logit_scale must be finite and above 0, not 0$"):
        network(logit_scale=0)
    steps = dense(np.ones((4, 2), int), source=0, input_shape=(2, 1, 1), input_max_level=2)
    with pytest.raises(ValueError, match=r"^layer 1: input_steps must be 2 as its source says, not 1$"):
        network(layers=(IntegerLayer(**fields()), classifier(steps)))


def test_every_source_must_feed_a_layer():
    projection = convolution(IMAGE, (1, 1, 3), 2, kernel=1, input_steps=1, input_max_level=255)
    first, second = spiking(projection), spiking(projection)
    last = convolution(1, (2, 1, 3), 2, kernel=1)
    layers = (first, second, classifier(replace(last, weights=np.ones((2, 2, 1, 3), int), padding=(0, 0))))
    with pytest.raises(ValueError, match=r"^layer 0 must feed a layer, not none$"):
        IntegerNetwork(name="n", input_shape=(1, 1, 3), layers=layers)
