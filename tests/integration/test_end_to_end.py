"""From a network to simulated Verilog: every logit equal to the golden model's, for every kind of network."""

import numpy as np
import pytest

from lmht.sim.random_networks import random_images, random_network
from lmht.sim.verify import verify

IMAGES = 300

# What NetworkConfig, or random_network, and CompileOptions are given.
TORCH_NETWORKS = {
    "IF, L=1 T=4": ({"levels": 1, "steps": 4, "mixing": "identity", "leak": 1.0}, {"lanes": 5}),
    "LIF, leak 0.8": ({"levels": 2, "steps": 3, "mixing": "identity", "leak": 0.8}, {"lanes": 4}),
    "one step, L=4": ({"levels": 4, "steps": 1}, {"lanes": 3}),
}
RANDOM_NETWORKS = {
    "L=3 T=3, 7 lanes": ({"levels": 3, "steps": 3}, {"lanes": 7}),
    "L=1 T=8, leaks around 1": ({"levels": 1, "steps": 8, "leak": True}, {"lanes": 8}),
    "2-bit weights, 1 lane": ({"weight_bits": 2}, {"lanes": 1}),
    "8-bit weights, all multipliers": ({"weight_bits": 8}, {"lanes": 6, "mix_multipliers": 4}),
    "128 lanes": ({"widths": (200, 10)}, {"lanes": (128, 10), "update_lanes": 4}),
    "three layers": ({"widths": (32, 32, 10)}, {"lanes": 4, "bytes_per_beat": 1}),
    "layer on three tiles": ({"widths": (25, 10)}, {"lanes": 3, "split": {0: 3}, "bytes_per_beat": 16}),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", TORCH_NETWORKS)
def test_trained_kinds_of_networks(kind, digits, make_network, make_build):
    network, options = TORCH_NETWORKS[kind]
    build = make_build(make_network("64-24-10", **network), **options)
    pixels, labels = digits
    report = verify(build, pixels[:IMAGES], labels[:IMAGES], optimize=False)
    assert report.ok, report.message
    assert report.images == IMAGES
    assert 0 <= report.accuracy <= 1
    assert min(row.events_out for row in report.stages) > 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", RANDOM_NETWORKS)
def test_random_networks_under_idle_and_back_pressure(kind, make_build, rng):
    network, options = RANDOM_NETWORKS[kind]
    integers = random_network(rng, **{"widths": (24, 10), **network})
    build = make_build(integers, **options)
    images = random_images(rng, IMAGES, integers.input_shape)
    for idle, back_pressure in ((0.0, 0.0), (0.4, 0.0), (0.0, 0.6), (0.3, 0.3)):
        report = verify(build, images, idle=idle, back_pressure=back_pressure, seed=7, optimize=False)
        assert report.ok, report.message


@pytest.mark.slow
def test_both_engines_agree(make_build, rng):
    integers = random_network(rng, widths=(20, 10), steps=2, levels=2)
    build = make_build(integers, lanes=4, split={0: 2})
    images = random_images(rng, 20, integers.input_shape)
    harness = verify(build, images, optimize=False)
    cocotb = verify(build, images, engine="cocotb")
    stressed = verify(build, images, engine="cocotb", idle=0.4, back_pressure=0.4, seed=11)
    for report in (harness, cocotb, stressed):
        assert report.ok, report.message
    # Without pauses both engines drive the same pins in the same cycles.
    assert cocotb.cycles == harness.cycles
    np.testing.assert_array_equal(cocotb.classes, harness.classes)
    assert stressed.cycles.latency_mean > cocotb.cycles.latency_mean
