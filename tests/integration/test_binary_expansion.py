"""A network on multi-level hardware and on binary hardware: both equal to their golden models, and compared."""

import pytest
import torch

from lmht.model import NetworkConfig, TrainingConfig, load_checkpoint, load_dataset, train
from lmht.sim.golden import GoldenModel
from lmht.sim.verify import verify

IMAGES = 120


@pytest.mark.slow
def test_trained_network_on_binary_hardware(tmp_path, digits, make_build):
    """Learned mixing and leak: the Verilog of the expanded network verifies, and its classes are the network's."""
    config = NetworkConfig(architecture="64-24-16-10", input_shape=(1, 8, 8), levels=2, steps=2)
    recipe = TrainingConfig(epochs=4, batch_size=64, learning_rate=5e-3)
    train(config, recipe, load_dataset("digits"), tmp_path / "run", progress=False)
    network, _ = load_checkpoint(tmp_path / "run")
    plain, binary = make_build(network, lanes=4), make_build(network, lanes=4, binary=True)
    pixels, labels = digits
    report = verify(binary, pixels[:IMAGES], labels[:IMAGES], optimize=False)
    assert report.ok, report.message
    images = torch.from_numpy(pixels)
    expected = GoldenModel(plain.network).run(images, keep_levels=True)
    found = GoldenModel(binary.network).run(images, keep_levels=True)
    assert (found.predictions == expected.predictions).double().mean() > 0.98
    # A level of 2 is one event to the multi-level layer and two to the binary one, in its own steps of one event.
    assert all(spikes.max() == 1 for spikes in found.levels)
    assert abs(found.spikes.sum() / expected.spikes.sum() - 1) < 0.01
