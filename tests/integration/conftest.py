"""Builds that the integration tests share."""

import numpy as np
import pytest
import torch

from lmht.gen.build import Build
from lmht.gen.compile import CompileOptions, compile_network
from lmht.model import Network, NetworkConfig, load_dataset


@pytest.fixture(scope="session")
def digits():
    """Pixels and labels of the bundled handwritten digits' test part."""
    dataset = load_dataset("digits")
    return dataset.test_images.numpy(), dataset.test_labels.numpy()


@pytest.fixture(scope="session")
def make_network(digits):
    """Function that makes an untrained network whose batch norms have seen the digits."""
    images = torch.from_numpy(digits[0])

    def make(architecture, **options):
        torch.manual_seed(0)
        network = Network(NetworkConfig(architecture=architecture, input_shape=(1, 8, 8), **options))
        for layer in network.layers:
            if layer.norm is not None:
                torch.nn.init.uniform_(layer.norm.weight, 0.5, 2.0)
                torch.nn.init.normal_(layer.norm.bias, 0.3, 0.5)
        # Two passes would do: the running statistics of one layer settle behind those of another.
        for _ in range(10):
            network.train()(images)
        return network.eval()

    return make


@pytest.fixture
def make_build(tmp_path):
    """Function that compiles a network; faults planted in the components before are in its Verilog."""

    def make(network, **options):
        compile_network(network, tmp_path / "build", CompileOptions(name="dut", **options))
        return Build.open(tmp_path / "build")

    return make


@pytest.fixture
def rng():
    return np.random.default_rng(2026)
