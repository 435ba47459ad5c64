"""Networks around a user's module: equal to the equations layer by layer, and checked at their ends."""

import pytest
import torch
from torch import nn

from lmht.model import LMHT, SpikingNetwork, WindowLMHT


class Residual(nn.Module):
    """Stem, a residual connection before the second neurons, pooling, and a classifier."""

    def __init__(self, steps=3):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.first = WindowLMHT(2, steps, 0.5)
        self.inner = nn.Conv2d(4, 4, 3, padding=1)
        self.second = WindowLMHT(3, steps, 0.25, 0.1, leak=0.75)
        self.pool = nn.AvgPool2d(2)
        self.classifier = nn.Linear(4 * 3 * 3, 5)

    def forward(self, image):
        spikes = self.first(self.norm(self.conv(image)))
        return self.classifier(self.pool(self.second(self.inner(spikes) + spikes)).flatten(1))


def make_network(steps=3):
    torch.manual_seed(0)
    module = Residual(steps)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    module.norm.running_mean.normal_()
    return SpikingNetwork(module, input_shape=(2, 6, 6), classes=5).eval()


def by_steps(neuron, currents):
    """The window of LM-HT neurons over a list of currents, one for each step."""
    window = LMHT(neuron.levels, neuron.steps, neuron.theta, neuron.initial_membrane, leak=0.75)
    if neuron.has_learned_leak:
        window = LMHT(neuron.levels, neuron.steps, neuron.theta, neuron.initial_membrane)
    window.load_state_dict(neuron.state_dict())
    return list(window.forward_plain(torch.stack(currents)))


def reference(module, images):
    """Logits and levels with every step computed by itself."""
    steps = range(module.first.steps)
    stem = module.norm(module.conv(images.float() / 255))
    first = by_steps(module.first, [stem for _ in steps])
    second = by_steps(module.second, [module.inner(spikes) + spikes for spikes in first])
    logits = [module.classifier(module.pool(spikes).flatten(1)) for spikes in second]
    levels = {
        name: (torch.stack(outputs) / getattr(module, name).theta).round().long()
        for name, outputs in (("first", first), ("second", second))
    }
    return torch.stack(logits).mean(dim=0), levels


def check_against_reference(network, images):
    with torch.no_grad():
        logits, levels = reference(network.module, images)
        torch.testing.assert_close(network(images), logits)
    found = network.spike_levels(images)
    assert list(found) == list(levels)
    for name, expected in levels.items():
        assert found[name].dtype == torch.int64
        assert torch.equal(found[name], expected)
        assert expected.unique().numel() > 1


def draw_images(count=7):
    generator = torch.Generator().manual_seed(2)
    return torch.randint(0, 256, (count, 2, 6, 6), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_equals_step_by_step(steps):
    check_against_reference(make_network(steps), draw_images())


@pytest.mark.parametrize("fault", ["batch", "mean", "order"])
def test_planted_fault_is_noticed(monkeypatch, fault):
    network = make_network(2)
    if fault == "batch":
        # Taken for an analog image of 2 B rows, the spikes of both steps would be repeated.
        monkeypatch.setattr(WindowLMHT, "_check_rows", lambda self, current: len(current))
    elif fault == "mean":
        network.module.classifier.register_forward_hook(lambda _, __, output: output.cumsum(dim=0))
    else:
        network.module.first.register_forward_hook(
            lambda _, __, output: output.unflatten(0, (2, -1)).transpose(0, 1).flatten(0, 1)
        )
    with pytest.raises((AssertionError, ValueError)):
        check_against_reference(network, draw_images())


def test_integers_and_fractions_are_the_same_image():
    network, images = make_network(), draw_images()
    assert torch.equal(network(images), network(images.float() / 255))


def test_batches_of_other_sizes_one_after_the_other():
    network, images = make_network(), draw_images()
    whole = network(images)
    torch.testing.assert_close(torch.cat([network(images[:2]), network(images[2:])]), whole)


def test_hooks_are_removed_after_an_error():
    network = make_network()
    with pytest.raises(ValueError, match="images must have shape"):
        network.spike_levels(draw_images()[:, :1])
    assert not any(neuron._forward_hooks for neuron in network.neurons().values())


@pytest.mark.parametrize("shape", [(7, 1, 6, 6), (7, 2, 6, 5), (2, 6, 6), (7, 72)])
def test_wrong_images(shape):
    with pytest.raises(ValueError, match="images") as caught:
        make_network()(torch.zeros(shape))
    assert str(caught.value) == f"images must have shape (batch, 2, 6, 6), not {shape}"


def test_module_without_neurons():
    with pytest.raises(ValueError, match="has none") as caught:
        SpikingNetwork(nn.Flatten(), input_shape=(1, 2, 2), classes=4)
    assert str(caught.value) == "module must have neurons (WindowLMHT), and has none"


def test_neurons_of_different_windows():
    module = nn.Sequential(WindowLMHT(2, 2), nn.Sequential(WindowLMHT(1, 2), WindowLMHT(2, 3)))
    with pytest.raises(ValueError, match="same number of steps") as caught:
        SpikingNetwork(module, input_shape=(1, 2, 2), classes=4)
    assert str(caught.value) == (
        "all neurons must have the same number of steps, not 2 in '0' and 3 in '1.1'"
    )


@pytest.mark.parametrize(
    ("module", "found"),
    [
        (nn.Sequential(WindowLMHT(2, 2), nn.Flatten(), nn.Linear(4, 3)), (6, 3)),
        (nn.Sequential(WindowLMHT(2, 2)), (6, 1, 2, 2)),
        (nn.Sequential(WindowLMHT(2, 2), nn.Flatten(), nn.Unflatten(0, (2, 3))), (2, 3, 4)),
    ],
)
def test_output_of_another_shape(module, found):
    network = SpikingNetwork(module, input_shape=(1, 2, 2), classes=4)
    with pytest.raises(ValueError, match="output") as caught:
        network(torch.zeros(3, 1, 2, 2))
    assert str(caught.value) == (
        f"the module's output must have shape (6, 4), 2 steps of 3 images and 4 classes, not {found}"
    )


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"input_shape": (0, 2, 2)}, ValueError, "input_shape must be at least 1, not 0"),
        ({"input_shape": (1, 2.0, 2)}, TypeError, "input_shape must be an integer, not 2.0"),
        ({"classes": 0}, ValueError, "classes must be at least 1, not 0"),
    ],
)
def test_init_wrong_argument(changes, error, message):
    with pytest.raises(error) as caught:
        SpikingNetwork(WindowLMHT(2, 2), **({"input_shape": (1, 2, 2), "classes": 4} | changes))
    assert str(caught.value) == message


def test_init_wrong_module():
    with pytest.raises(TypeError, match=r"module must be a torch\.nn\.Module, not 3"):
        SpikingNetwork(3, input_shape=(1, 2, 2), classes=4)
