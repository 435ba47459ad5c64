"""Networks that the compiler's tests share, and one thread, since the tensors are too small to share out."""

import numpy as np
import pytest
import torch
from hypothesis import settings

from lmht.gen.compile import CompileOptions, compile_network
from lmht.model import Network, NetworkConfig
from lmht.sim.random_networks import random_network

# The first use of a tensor operation may take longer than the default deadline on a busy machine.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def make_network():
    """Function that makes an untrained network with plausible batch norms, some gains of them negative."""

    def make(architecture="48-20-10", input_shape=(3, 4, 4), seed=0, **options):
        torch.manual_seed(seed)
        config = NetworkConfig(architecture=architecture, input_shape=input_shape, **options)
        network = Network(config)
        for layer in network.layers:
            if layer.neuron is not None and layer.neuron.mixing == "learned":
                torch.nn.init.normal_(layer.neuron.omega_logits)
            if layer.neuron is not None and layer.neuron.has_learned_leak:
                torch.nn.init.constant_(layer.neuron.leak_logit, -0.5)
            if layer.norm is not None:
                torch.nn.init.normal_(layer.norm.weight)
                torch.nn.init.normal_(layer.norm.bias, std=0.5)
        images = torch.randint(0, 256, (256, *input_shape), dtype=torch.uint8)
        # Two passes settle the running statistics of one layer behind another.
        for _ in range(20):
            network.train()(images)
        return network.eval()

    return make


@pytest.fixture(scope="session")
def small_network():
    """A random integer network of 16-12-4 with a leak."""
    rng = np.random.default_rng(0)
    return random_network(rng, input_shape=(1, 4, 4), widths=(12, 4), leak=True)


@pytest.fixture(scope="session")
def small_build(small_network, tmp_path_factory):
    """Folder of a build of that network, with its first layer on two tiles; copy it before changing it."""
    folder = tmp_path_factory.mktemp("builds") / "compact"
    compile_network(small_network, folder, CompileOptions(name="compact", lanes=4, split={0: 2}))
    return folder
