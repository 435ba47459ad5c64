"""Networks of more than 8 steps, up to the most there may be, end to end: every logit and level of the Verilog."""

import pytest
import torch
from torch import nn

from lmht.model import ConvNetworkConfig, build_network
from lmht.rtl.checks import STEPS_LIMIT
from lmht.sim.verify import verify

IMAGES = 24
KINDS = {
    "LM-HT": {"levels": 2},
    "IF": {"levels": 1, "mixing": "identity", "leak": 1.0},
    "LIF, L=15": {"levels": 15, "mixing": "identity", "leak": 0.9},
}


def check(build, digits):
    pixels, labels = digits
    report = verify(build, pixels[:IMAGES], labels[:IMAGES], layer_images=IMAGES, optimize=False)
    assert report.ok, report.message
    assert report.logits == 10 * IMAGES
    assert report.layer_images == IMAGES
    assert min(row.events_out for row in report.stages) > 1


@pytest.mark.slow
@pytest.mark.parametrize(("steps", "kind"), [(10, "LM-HT"), (STEPS_LIMIT, "LM-HT"), (STEPS_LIMIT, "IF")])
def test_fully_connected(steps, kind, digits, make_network, make_build):
    network = make_network("64-8-6-10", steps=steps, **KINDS[kind])
    build = make_build(network, lanes=2, mix_multipliers=steps)
    assert [layer.steps for layer in build.network.layers] == [steps, steps, 1]
    check(build, digits)


@pytest.mark.slow
@pytest.mark.parametrize(("steps", "kind"), [(10, "IF"), (STEPS_LIMIT, "LIF, L=15")])
def test_convolutional(steps, kind, digits, make_build):
    torch.manual_seed(0)
    config = ConvNetworkConfig(
        net="mnist-cnn", width=0.125, input_shape=(1, 8, 8), classes=10, steps=steps, **KINDS[kind]
    )
    network = build_network(config)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.normal_(module.bias, 0.3, 0.5)
            module.momentum = None
    with torch.no_grad():
        for _ in range(3):
            network.train()(torch.from_numpy(digits[0]))
    build = make_build(network.eval(), lanes=2, mix_multipliers=1)
    # A word of the taps that has more than two parts.
    assert (build.parameters.link(0).payload_bits > 128) == (steps == STEPS_LIMIT)
    check(build, digits)
