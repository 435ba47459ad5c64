import json
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmht.gen.integer_files import (
    JSON_FILE,
    TENSOR_FILE,
    IntegerNetworkError,
    load_integer_network,
    save_integer_network,
)
from lmht.sim.random_conv_networks import random_conv_network
from lmht.sim.random_networks import random_network


@pytest.fixture
def network():
    return random_network(np.random.default_rng(1), input_shape=(2, 2, 3), widths=(5, 4), leak=True)


def assert_equal(one, other):
    assert (one.name, one.input_shape, one.logit_scale) == (other.name, other.input_shape, other.logit_scale)
    assert dict(one.meta) == dict(other.meta)
    for left, right in zip(one.layers, other.layers, strict=True):
        for name in set(left.__dataclass_fields__) - {"projections"}:
            np.testing.assert_array_equal(getattr(left, name), getattr(right, name), err_msg=name)
        for first, second in zip(left.projections, right.projections, strict=True):
            for name in first.__dataclass_fields__:
                np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**31))
def test_convolutions_come_back(seed, tmp_path):
    network = random_conv_network(np.random.default_rng(seed), max_size=6)
    network = replace(network, meta={"accuracy": 0.5, "data": {"name": "mnist"}}, logit_scale=1 / 3)
    save_integer_network(network, tmp_path)
    assert_equal(load_integer_network(tmp_path), network)


def test_wide_weights_are_stored_wide_and_others_in_a_byte(tmp_path):
    rng = np.random.default_rng(5)
    branches = (random_conv_network(rng, hidden_layers=(4, 4)) for _ in range(100))
    network = next(one for one in branches if any(len(layer.projections) == 2 for layer in one.layers))
    save_integer_network(network, tmp_path)
    tensors = safetensors.numpy.load_file(tmp_path / TENSOR_FILE)
    for index, layer in enumerate(network.layers):
        found = [
            tensors[f"layer{index}.projection{number}.weights"].dtype
            for number in range(len(layer.projections))
        ]
        assert found == [np.int8, np.int32][: len(layer.projections)]


def test_round_trip_and_same_bytes(network, tmp_path):
    save_integer_network(network, tmp_path / "one")
    assert_equal(load_integer_network(tmp_path / "one"), network)
    save_integer_network(load_integer_network(tmp_path / "one"), tmp_path / "two")
    for name in (JSON_FILE, TENSOR_FILE):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def edit(folder, change):
    record = json.loads((folder / JSON_FILE).read_text())
    change(record)
    (folder / JSON_FILE).write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r["layers"][0].update(shift=99), "layer 0: shift must be between 0 and 63, not 99"),
        (lambda r: r["layers"][0].pop("shift"), "layers.0.shift: Field required"),
        (
            lambda r: r.update(
                version=1, layers=[{"shift": 3, "levels": 2, "weight_bits": 4, "leak": False}]
            ),
            "version: must be 3, not 1: written by an older lmht; compile the network anew",
        ),
        (
            lambda r: r.update(version=2),
            "version: must be 3, not 2: written by an older lmht; compile the network anew",
        ),
        (
            lambda r: r.update(version=4),
            "version: must be 3, not 4: written by a newer lmht; compile the network anew",
        ),
        (lambda r: r.pop("version") and r.update(version="3"), "version: Input should be 3, not '3'"),
        (lambda r: r.update(format="x"), "format: Input should be 'lmht-integer-network', not 'x'"),
        (
            lambda r: r.update(input_shape=[1, 1, 1]),
            "layer 0: input_shape must be (1, 1, 1) as its source says, not (2, 2, 3)",
        ),
        (
            lambda r: r["layers"][0].update(leak=False),
            "tensor layer0.leak is unknown to integer_network.json",
        ),
        (
            lambda r: r["layers"][1]["projections"][0].update(weight_bits=2),
            "layer 1: weights must be between -1 and 1, not ",
        ),
        (
            lambda r: r["layers"][0]["projections"][0].update(stride=[1, 3]),
            "layer 0: columns of stride must be one of 1, 2, 4, 8, not 3",
        ),
        (
            lambda r: r["layers"][0]["projections"][0].update(pooling={"kind": "mean", "size": [2, 2]}),
            "layers.0.projections.0.pooling.kind: Input should be 'sum' or 'max', not 'mean'",
        ),
        (
            lambda r: r["layers"][0]["projections"].append(r["layers"][0]["projections"][0]),
            "tensor layer0.projection1.weights is missing",
        ),
        (
            lambda r: r["layers"][0].update(projections=[]),
            "layer 0: projections must be between 1 and 2, not 0",
        ),
    ],
)
def test_load_wrong_json(network, tmp_path, change, message):
    save_integer_network(network, tmp_path)
    edit(tmp_path, change)
    with pytest.raises(IntegerNetworkError) as error:
        load_integer_network(tmp_path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_load_missing_or_damaged(network, tmp_path):
    with pytest.raises(IntegerNetworkError, match="no such file"):
        load_integer_network(tmp_path)
    save_integer_network(network, tmp_path)
    content = (tmp_path / TENSOR_FILE).read_bytes()
    (tmp_path / TENSOR_FILE).write_bytes(content[:-10])
    with pytest.raises(IntegerNetworkError, match="not a valid safetensors file"):
        load_integer_network(tmp_path)
    (tmp_path / JSON_FILE).write_bytes(b'{"format"')
    with pytest.raises(IntegerNetworkError, match="Invalid JSON"):
        load_integer_network(tmp_path)
