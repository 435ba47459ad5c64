import json

import numpy as np
import pytest

from lmht.gen.integer_files import (
    JSON_FILE,
    TENSOR_FILE,
    IntegerNetworkError,
    load_integer_network,
    save_integer_network,
)
from lmht.sim.random_networks import random_network


@pytest.fixture
def network():
    return random_network(np.random.default_rng(1), input_shape=(2, 2, 3), widths=(5, 4), leak=True)


def assert_equal(one, other):
    assert (one.name, one.input_shape, one.logit_scale) == (other.name, other.input_shape, other.logit_scale)
    assert dict(one.meta) == dict(other.meta)
    for left, right in zip(one.layers, other.layers, strict=True):
        for name in left.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(left, name), getattr(right, name), err_msg=name)


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
        (lambda r: r.update(version=2), "version: Input should be 1, not 2"),
        (lambda r: r.update(format="x"), "format: Input should be 'lmht-integer-network', not 'x'"),
        (lambda r: r.update(input_shape=[1, 1, 1]), "layer 0: inputs must be 1 as its source says, not 12"),
        (
            lambda r: r["layers"][0].update(leak=False),
            "tensor layer0.leak is unknown to integer_network.json",
        ),
        (lambda r: r["layers"][1].update(weight_bits=2), "layer 1: weights must be between -1 and 1, not "),
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
