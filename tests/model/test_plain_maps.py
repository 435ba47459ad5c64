"""Strided convolutions with which PyTorch reads or writes beyond channels-last maps get plain ones."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from lmht.model import SpikingNetwork, WindowLMHT
from lmht.model.memory_order import in_best_format, plain_strides


class Chain(nn.Module):
    """Two convolutions with neurons, the second one given, and a global average."""

    def __init__(self, first, second):
        super().__init__()
        self.first, self.neuron1, self.second, self.neuron2 = first, neurons(), second, neurons()
        self.classifier = nn.Linear(second.out_channels, 3)

    def forward(self, image):
        spikes = self.neuron2(self.second(self.neuron1(self.first(image))))
        return self.classifier(spikes.mean((2, 3)))


def neurons():
    return WindowLMHT(3, 2, 0.25)


FAULTY = {
    "one channel in, stride (1, 2)": (1, 4, (2, 3), (1, 2), (1, 1)),
    "one channel in, stride (1, 4)": (1, 4, (3, 3), (1, 4), (1, 1)),
    "one channel in, 1 x 1": (1, 4, 1, 2, 0),
    "one channel out": (2, 1, 3, (1, 2), 1),
    "few channels, 1 x 1": (2, 4, 1, 2, 0),
    "more channels, 1 x 1": (6, 8, 1, (2, 1), 0),
}


@pytest.mark.parametrize("kind", FAULTY)
@pytest.mark.parametrize("odd", [False, True])
def test_convolutions_see_and_give_back_plain_strides(kind, odd):
    inputs, outputs, *shape = FAULTY[kind]
    module = Chain(nn.Conv2d(2, inputs, 1), nn.Conv2d(inputs, outputs, *shape))
    network = SpikingNetwork(module, input_shape=(2, 8, 8), classes=3)
    seen = []
    for layer in (module.first, module.second):
        layer.register_forward_hook(lambda _, given, result: seen.extend([given[0], result]))
        layer.register_full_backward_hook(lambda _, __, gradient: seen.append(gradient[0]))
    images = torch.rand(3, 8, 8, 2).permute(0, 3, 1, 2) if odd else torch.rand(3, 2, 8, 8)
    network(images).square().sum().backward()
    assert len(seen) == 6
    for tensor in seen:
        assert tensor.stride() == torch.empty(tensor.shape).stride()


@pytest.mark.parametrize("kind", FAULTY)
def test_logits_and_gradients_are_those_of_double_precision(kind):
    """In a process of its own, which PyTorch's fault would end."""
    text = f"""
import sys
import torch
from lmht.model import SpikingNetwork
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_plain_maps import FAULTY, Chain, nn
torch.set_num_threads(1)
inputs, outputs, *shape = FAULTY[{kind!r}]
for trial in range(20):
    torch.manual_seed(trial)
    convolution = nn.Conv2d(inputs, outputs, *shape)
    network = SpikingNetwork(Chain(nn.Conv2d(2, inputs, 1), convolution), input_shape=(2, 8, 8), classes=3)
    kept = []
    convolution.register_forward_hook(lambda _, given, result: kept.extend([given[0], result]))
    for junk in [torch.full((size,), 1e6) for size in (9, 17, 33, 65, 129, 257)]:
        del junk
    logits = network(torch.rand(3, 2, 8, 8))
    kept[1].retain_grad()
    logits.square().sum().backward()
    spikes = kept[0].detach().double()
    weight = convolution.weight.detach().double().requires_grad_()
    bias = convolution.bias.detach().double()
    wanted = nn.functional.conv2d(spikes, weight, bias, convolution.stride, convolution.padding)
    wanted.backward(kept[1].grad.double())
    torch.testing.assert_close(kept[1].double(), wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(convolution.weight.grad.double(), weight.grad, rtol=1e-4, atol=1e-4)
"""
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "convolution",
    [nn.Conv2d(16, 32, 1, 2), nn.Conv2d(1, 4, 3), nn.Conv2d(2, 4, 3, 2), nn.Conv2d(4, 4, 3, 2, groups=4)],
)
def test_others_keep_the_quick_format(convolution):
    found = in_best_format(torch.rand(2, 3, 4, 4), nn.Sequential(convolution))
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_plain_strides_of_one_channel():
    odd = torch.rand(2, 4, 5, 1).permute(0, 3, 1, 2)
    assert odd.stride() == (20, 1, 5, 1)
    assert plain_strides(odd).stride() == (20, 20, 5, 1)
    assert torch.equal(plain_strides(odd), odd)


@pytest.mark.parametrize(
    "flatten",
    [
        lambda x: x.view(x.size(0), -1),
        lambda x: x.view(-1, 64),
        lambda x: x.view((x.shape[0], 64)),
    ],
)
def test_view_of_a_map(flatten):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.neuron, self.classifier = nn.Conv2d(3, 4, 3), neurons(), nn.Linear(64, 3)

        def forward(self, image):
            return self.classifier(flatten(self.neuron(self.conv(image))))

    network = SpikingNetwork(Net(), input_shape=(3, 6, 6), classes=3)
    for training in (True, False):
        with pytest.raises(
            ValueError, match=r"Net \(test_plain_maps\.py:\d+\): view cannot make vectors of maps"
        ):
            network.train(training)(torch.rand(2, 3, 6, 6))
