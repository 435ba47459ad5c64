"""Binary expansion in the compiler: the integers are equal to the multi-level network's wherever Lemma 4.1 applies."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from lmht.gen.build import Build
from lmht.gen.capture import capture
from lmht.gen.cli import main
from lmht.gen.compile import CompileOptions, compile_network, to_integers
from lmht.gen.expand_binary import expand_binary
from lmht.gen.fold_batch_norm import fold_batch_norm
from lmht.model import (
    Network,
    NetworkConfig,
    QuantConv2d,
    QuantLinear,
    SpikingNetwork,
    WindowLMHT,
    convert_qcfs,
    load_dataset,
)
from lmht.sim.golden import GoldenModel


def integers(network, **options):
    return to_integers(network, CompileOptions(**options), name="n")


def window_spikes(levels, size):
    """Spikes of every window of `size` binary steps, of levels of shape (L T, images, neurons)."""
    return levels.long().unflatten(0, (-1, size)).sum(dim=1)


def settle(network, shape):
    """Running statistics of random images, in evaluation mode."""
    images = torch.randint(0, 256, (128, *shape), dtype=torch.uint8)
    for _ in range(20):
        network.train()(images)
    return network.eval()


def converted_network(levels, steps, seed=0):
    """What conversion gives: Ω = 1/T, λ = 1 and v[-1] = θ/2, for which the lemma always holds."""
    torch.manual_seed(seed)
    config = NetworkConfig(architecture="48-16-12-10", input_shape=(3, 4, 4), activation="qcfs")
    source = Network(config)
    for layer in source.layers[:-1]:
        nn.init.normal_(layer.norm.weight)
        nn.init.normal_(layer.norm.bias, std=0.5)
    return convert_qcfs(settle(source, (3, 4, 4)), levels, steps)


def residual_convolutions(levels, steps, pool=nn.AvgPool2d):
    """Convolution, pooling, a residual block and a classifier, with Ω = 1/T, λ = 1 and v[-1] = θ/2."""

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Sequential(
                QuantConv2d(1, 4, 3, padding=1, weight_bits=4), nn.BatchNorm2d(4), neuron()
            )
            self.pool = pool(2)
            self.body = nn.Sequential(QuantConv2d(4, 4, 3, padding=1, weight_bits=4), nn.BatchNorm2d(4))
            self.neuron = neuron()
            self.classifier = QuantLinear(4 * 3 * 3, 5, weight_bits=4)

        def forward(self, image):
            spikes = self.pool(self.stem(image))
            return self.classifier(self.neuron(self.body(spikes) + spikes).flatten(1))

    def neuron():
        return WindowLMHT(levels, steps, 0.5, 0.25, mixing="uniform", leak=1.0)

    torch.manual_seed(0)
    return settle(SpikingNetwork(Residual(), input_shape=(1, 6, 6), classes=5), (1, 6, 6))


def check_equal(network, levels, count=300):
    """Windows of binary steps have the spikes of the multi-level integers, and the logits the same value."""
    plain, binary = integers(network), integers(network, binary=True)
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (count, *plain.input_shape), dtype=torch.uint8, generator=generator)
    expected = GoldenModel(plain).run(images, keep_levels=True)
    found = GoldenModel(binary).run(images, keep_levels=True)
    for spikes, wanted in zip(found.levels, expected.levels, strict=True):
        assert spikes.max() == 1
        assert torch.equal(window_spikes(spikes, levels), wanted.long())
        assert len(torch.unique(wanted)) > levels / 2
    assert torch.equal(
        found.logits.double() * binary.logit_scale, expected.logits.double() * plain.logit_scale
    )


@pytest.mark.parametrize(("levels", "steps"), [(1, 4), (2, 1), (2, 2), (4, 2), (2, 4), (8, 1)])
def test_converted_network_is_equal_to_the_bit(levels, steps):
    check_equal(converted_network(levels, steps), levels)


@pytest.mark.parametrize(("levels", "steps"), [(2, 2), (4, 1)])
def test_residual_convolutions_are_equal_to_the_bit(levels, steps):
    check_equal(residual_convolutions(levels, steps), levels, count=60)


def test_levels_that_are_no_power_of_two():
    """Thirds of currents and biases are rounded: few windows differ."""
    network = converted_network(3, 2)
    images = torch.randint(0, 256, (300, 3, 4, 4), dtype=torch.uint8)
    expected = GoldenModel(integers(network)).run(images, keep_levels=True)
    found = GoldenModel(integers(network, binary=True)).run(images, keep_levels=True)
    for spikes, wanted in zip(found.levels, expected.levels, strict=True):
        assert (window_spikes(spikes, 3) != wanted.long()).double().mean() < 0.05


def test_lemma_is_needed(make_network):
    """A membrane outside the lemma's condition: the layers differ, as they must."""
    network = make_network("48-16-12-10", levels=4, steps=2, leak=0.9)
    with torch.no_grad():
        network.layers[1].norm.bias.sub_(0.3)
    images = torch.randint(0, 256, (2000, 3, 4, 4), dtype=torch.uint8)
    expected = GoldenModel(integers(network)).run(images, keep_levels=True).levels[1].long()
    found = window_spikes(
        GoldenModel(integers(network, binary=True)).run(images, keep_levels=True).levels[1], 4
    )
    assert 0 < (found != expected).double().mean() < 0.1


def test_leak_acts_at_the_first_step_of_a_window(make_network):
    layer = integers(make_network(levels=2, steps=3), binary=True).layers[0]
    factor = int(layer.leak[0])
    assert factor < 256
    assert layer.leak.tolist() == [factor, 256] * 3
    assert (layer.levels, layer.steps, layer.fraction_bits) == (1, 6, 9)


def test_matrix_of_binary_steps(make_network):
    network = make_network("48-12-9-10", levels=2, steps=2)
    first, second, _ = fold_batch_norm(network).layers
    image_fed, spike_fed, _ = expand_binary(fold_batch_norm(network)).layers
    for t in range(4):
        for u in range(4):
            assert spike_fed.neuron.mixing[t, u] == second.neuron.mixing[t // 2, u // 2] / 2
    np.testing.assert_allclose(
        image_fed.neuron.mixing.sum(axis=1), np.repeat(first.neuron.mixing.sum(axis=1), 2) / 2, rtol=1e-12
    )
    np.testing.assert_array_equal(image_fed.bias, first.bias)
    np.testing.assert_array_equal(spike_fed.bias, second.bias / 2)


def test_too_many_binary_steps(make_network):
    with pytest.raises(ValueError, match="levels x steps") as caught:
        integers(make_network(levels=4, steps=9), binary=True)
    assert str(caught.value) == (
        "levels x steps must be between 1 and 32 for binary expansion, not 4 x 9 = 36"
    )


def test_max_pooling():
    with pytest.raises(
        ValueError, match=r"^levels must be 1 for binary expansion of .* max pooling, not 2: "
    ):
        integers(residual_convolutions(2, 2, nn.MaxPool2d), binary=True)
    integers(residual_convolutions(1, 2, nn.MaxPool2d), binary=True)


def test_layers_of_different_levels():
    folded = capture(residual_convolutions(2, 2))
    changed = replace(folded.layers[1], neuron=replace(folded.layers[1].neuron, levels=4))
    with pytest.raises(ValueError, match=r"same in all layers .*, not L = 2, T = 2 and L = 4, T = 2$"):
        expand_binary(replace(folded, layers=(folded.layers[0], changed, folded.layers[2])))


def test_network_without_neurons(make_network):
    with pytest.raises(ValueError, match="must have neurons for binary expansion"):
        integers(make_network("48-10"), binary=True)


def test_fraction_bits_leave_room(make_network):
    with pytest.raises(ValueError, match=r"^fraction_bits must be between 0 and 23, not 24$"):
        integers(make_network(), binary=True, fraction_bits=24)


def test_integers_are_not_expanded(small_network, tmp_path):
    with pytest.raises(ValueError, match=r"^binary must be off for a network of integers"):
        compile_network(small_network, tmp_path / "build", CompileOptions(binary=True))
    assert not (tmp_path / "build").exists()


def test_command_line(tmp_path, capsys):
    """The command says what it did, the manifest records it, and the golden model has the network's accuracy."""
    run = tmp_path / "run"
    assert main(["train", "--net", "64-24-10", "--epochs", "3", "--levels", "2", "--out", str(run)]) == 0
    capsys.readouterr()
    assert main(["compile", str(run), "--binary", "--out", str(tmp_path / "build")]) == 0
    assert "binary steps: L = 2, T = 2 became L = 1, T = 4" in capsys.readouterr().out
    assert main(["compile", str(run), "--out", str(tmp_path / "plain")]) == 0
    assert "binary steps" not in capsys.readouterr().out
    manifest = json.loads((tmp_path / "build" / "manifest.json").read_text())
    assert manifest["source"]["binary_expansion"] == {"levels": 2, "steps": 2}
    plain = Build.open(tmp_path / "plain")
    assert plain.source.binary_expansion is None
    images = load_dataset("digits").test_images
    found, expected = (
        GoldenModel(build.network).run(images).predictions
        for build in (Build.open(tmp_path / "build"), plain)
    )
    assert (found == expected).double().mean() > 0.98


def test_command_line_refuses_many_steps(tmp_path, capsys):
    run = tmp_path / "run"
    options = ["--net", "64-8-10", "--epochs", "1", "--levels", "3", "--steps", "11"]
    assert main(["train", *options, "--out", str(run)]) == 0
    capsys.readouterr()
    assert main(["compile", str(run), "--binary", "--out", str(tmp_path / "build")]) == 2
    assert capsys.readouterr().err == (
        "error: levels x steps must be between 1 and 32 for binary expansion, not 3 x 11 = 33\n"
    )
