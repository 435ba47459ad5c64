"""Everything that the capture refuses: one line with the module, its type, why, and what would be accepted."""

import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lmht.gen.capture import ACCEPTED, capture
from lmht.gen.capture_values import CaptureError
from lmht.model import LMHT, QCFS, SpikingNetwork, TimeBatchNorm, WindowLMHT

CONSTANTS = (
    "constants are mapped on the image alone, before the first layer; put others into a bias or a batch norm"
)


def neurons():
    return WindowLMHT(2, 2, 1.0)


class Net(nn.Module):
    """Stem of 6 x 8 x 8 spikes, the `steps` of a test with its `parts`, neurons, and a classifier."""

    def __init__(self, steps, **parts):
        super().__init__()
        self.stem, self.stem_neuron = nn.Conv2d(3, 6, 3, padding=1), neurons()
        for name, part in parts.items():
            setattr(self, name, part)
        self.steps = steps
        self.neuron = neurons()
        self.classifier = nn.Linear(384, 5)

    def forward(self, image):
        self.image = image
        spikes = self.steps(self, self.stem_neuron(self.stem(image)))
        return self.classifier(self.neuron(spikes).flatten(1))


def refusal(module, classes=5):
    network = SpikingNetwork(module, input_shape=(3, 8, 8), classes=classes)
    with pytest.raises(CaptureError) as caught:
        capture(network)
    message = str(caught.value)
    assert "\n" not in message
    return message


def conv(**options):
    return nn.Conv2d(6, 6, **{"kernel_size": 3, "padding": 1} | options)


def with_(value, module, name="weight"):
    with torch.no_grad():
        getattr(module, name)[0] = value
    return module


class Standardized(nn.Conv2d):
    def forward(self, value):
        return F.conv2d(value, self.weight - self.weight.mean(), self.bias, padding=1)


class Hooked(nn.Conv2d):
    def __init__(self):
        super().__init__(6, 6, 3, padding=1)
        self.register_forward_hook(lambda module, inputs, output: output * 2)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (nn.ReLU(), "part (ReLU): it is no spiking neuron; use WindowLMHT"),
        (QCFS(4), "part (QCFS): it is no spiking neuron; use WindowLMHT"),
        (
            LMHT(2, 2),
            "part (LMHT): its steps are a dimension of their own; use WindowLMHT, whose steps are merged into the "
            "batch",
        ),
        (
            TimeBatchNorm(8),
            "part (TimeBatchNorm): its steps are a dimension of their own; use BatchNorm1d or BatchNorm2d",
        ),
        (nn.GELU(), f"part (GELU): it is not mapped; {ACCEPTED}"),
        (nn.ConvTranspose2d(6, 6, 3), f"part (ConvTranspose2d): it is not mapped; {ACCEPTED}"),
        (nn.GroupNorm(2, 6), f"part (GroupNorm): it is not mapped; {ACCEPTED}"),
        (conv(dilation=2), "part (Conv2d): dilation (2, 2) is not mapped; use 1"),
        (conv(stride=3), "part (Conv2d): stride (3, 3) is not mapped; use 1, 2, 4, 8"),
        (conv(padding_mode="reflect"), "part (Conv2d): padding_mode reflect is not mapped; use zeros"),
        (
            conv(padding=3),
            "part (Conv2d): padding (3, 3) is not mapped for kernel (3, 3); use less than the kernel",
        ),
        (
            conv(kernel_size=2, padding="same"),
            "part (Conv2d): padding 'same' of kernel (2, 2) is one-sided and not mapped; use an odd kernel",
        ),
        (with_(float("nan"), conv()), "part (Conv2d): weight must be finite, not nan"),
        (with_(float("inf"), conv(), "bias"), "part (Conv2d): bias must be finite, not inf"),
        (
            with_(float("nan"), nn.BatchNorm2d(6), "running_var"),
            "part (BatchNorm2d): running_var must be finite, not nan",
        ),
        (
            with_(-1.0, nn.BatchNorm2d(6), "running_var"),
            "part (BatchNorm2d): running_var must be at least 0, not -1",
        ),
        (
            nn.BatchNorm2d(6, track_running_stats=False),
            "part (BatchNorm2d): it has no running statistics; use track_running_stats=True",
        ),
        (
            Standardized(6, 6, 3),
            "part (Standardized): it has its own forward and is not mapped; use Conv2d itself",
        ),
        (Hooked(), "part (Hooked): it has hooks, which hardware would not run; remove them"),
        (
            nn.MaxPool2d(3, stride=2),
            "part (MaxPool2d): windows that overlap or leave gaps are not mapped: stride (2, 2) must be the kernel "
            "(3, 3)",
        ),
        (nn.MaxPool2d(2, padding=1), "part (MaxPool2d): padding (1, 1) is not mapped; use 0"),
        (nn.MaxPool2d(2, dilation=2), "part (MaxPool2d): dilation (2, 2) is not mapped; use 1"),
        (
            nn.MaxPool2d(2, return_indices=True),
            "part (MaxPool2d): return_indices is not mapped; leave it out",
        ),
        (
            nn.AvgPool2d(3, ceil_mode=True),
            "part (AvgPool2d): ceil_mode with windows (3, 3) that do not fill the map (8, 8) is not mapped; use False",
        ),
        (
            nn.AvgPool2d(2, divisor_override=3),
            "part (AvgPool2d): divisor_override 3 is not mapped; leave it out",
        ),
        (
            nn.AdaptiveAvgPool2d(3),
            "part (AdaptiveAvgPool2d): output_size (3, 3) does not divide the map (8, 8), so that windows overlap; "
            "use sizes that divide it",
        ),
        (
            nn.AdaptiveMaxPool2d(0),
            "part (AdaptiveMaxPool2d): output_size (0, 0) does not divide the map (8, 8), so that windows overlap; "
            "use sizes that divide it",
        ),
        (
            nn.Linear(8, 6),
            "part (Linear): its input is a map and only its last dimension would be multiplied; "
            "flatten it before",
        ),
        (nn.Flatten(0), "part (Flatten): its result must have shape (4, 384), not (1536,)"),
        (
            nn.Sequential(conv(), nn.AvgPool2d(2)),
            "part.1 (AvgPool2d): average pooling in front of neurons is not mapped; put it behind the neurons, onto "
            "their spikes",
        ),
        (
            nn.Sequential(conv(), nn.MaxPool2d(2), nn.BatchNorm2d(6)),
            "part.1 (MaxPool2d): max pooling in front of neurons is not mapped; put it behind the neurons, onto their "
            "spikes",
        ),
        (
            nn.Sequential(nn.BatchNorm2d(6), conv()),
            "part.1 (Conv2d): its input is a current or a sum; put neurons in front, so that it takes their spikes or "
            "the image",
        ),
        (
            nn.Sequential(nn.MaxPool2d(2), nn.AvgPool2d(2)),
            "part.1 (AvgPool2d): average and max pooling in a row are not mapped; use one kind, or neurons in between",
        ),
        (
            nn.Sequential(conv(), nn.Flatten(), nn.BatchNorm1d(384)),
            "part.2 (BatchNorm1d): it has statistics of its own for every pixel of a flattened map; put it before the "
            "flattening",
        ),
        (
            nn.Sequential(nn.Flatten(), nn.AvgPool2d(2)),
            "part.1 (AvgPool2d): its input is flattened; pool maps of (rows, channels, height, width)",
        ),
        (
            nn.Sequential(nn.Flatten(), conv()),
            "part.1 (Conv2d): its input is flattened; convolve maps of (rows, channels, height, width)",
        ),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(7, 6)),
            "part.1 (Linear): in_features is 7, and its input has 384",
        ),
        (WindowLMHT(16, 2), "part (WindowLMHT): levels must be between 1 and 15, not 16"),
    ],
)
def test_modules(part, message):
    assert refusal(Net(lambda net, x: net.part(x), part=part)) == message


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (lambda net, x: torch.relu(x), f"network (Net): relu: it is not mapped; {ACCEPTED}"),
        (lambda net, x: x * 2, f"network (Net): mul: {CONSTANTS}"),
        (lambda net, x: torch.cat([x, x], 1), f"network (Net): cat: it is not mapped; {ACCEPTED}"),
        (
            lambda net, x: x + 1,
            f"network (Net): add: {CONSTANTS}",
        ),
        (lambda net, x: torch.add(x, x, alpha=2), "network (Net): add: alpha 2 is not mapped; leave it out"),
        (
            lambda net, x: net.conv(x + net.conv2(x)),
            "conv (Conv2d): its input is a current or a sum; put neurons in front, so that it takes their spikes or "
            "the image",
        ),
        (
            lambda net, x: x + x + x,
            "network (Net): add: a sum of more than two branches is not mapped; put neurons behind every sum of two",
        ),
        (
            lambda net, x: x + net.halve(x),
            "network (Net): add: branches must have the same shape, not (6, 8, 8) and (6, 4, 4)",
        ),
        (
            lambda net, x: net.conv(x) + net.image_conv(net.image),
            "network (Net): add: the image and spikes cannot be added: the image has no steps; convolve it into "
            "neurons first",
        ),
        (
            lambda net, x: net.conv(net.other(net.conv(x))),
            "conv (Conv2d): it is called 2 times; use a module of its own for every place",
        ),
        (
            lambda net, x: net.other(net.conv2(net.other(net.conv(x)))),
            "other (WindowLMHT): it is called 2 times; use a module of its own for every place",
        ),
        (
            lambda net, x: x.add_(net.conv(x)),
            "network (Net): add_: it changes its operand in place, which is used elsewhere too, perhaps under another "
            "name; use a plain sum",
        ),
        (
            lambda net, x: F.conv2d(x, net.conv.weight),
            f"network (Net): conv2d: it is not mapped; {ACCEPTED}",
        ),
        (
            lambda net, x: x + torch.ones(6, 8, 8),
            f"network (Net): add: {CONSTANTS}",
        ),
        (
            lambda net, x: F.dropout(x, 0.5),
            "network (Net): dropout: dropout would stay on outside training; pass training=self.training",
        ),
        (
            lambda net, x: x.mean(1, keepdim=True),
            "network (Net): mean: a mean over dimensions (1,) is not mapped; average over height and width, (2, 3)",
        ),
        (
            lambda net, x: x.mean((2, 3), dtype=torch.float64),
            "network (Net): mean: its arguments are not mapped (got an unexpected keyword argument 'dtype')",
        ),
        (
            lambda net, x: x.reshape(-1, 3, 8, 8),
            "network (Net): reshape: its result must have shape (4, 384), not (8, 3, 8, 8)",
        ),
        (
            lambda net, x: torch.mean(x),
            "network (Net): mean: a mean over everything is not mapped; average over height and width, (2, 3)",
        ),
    ],
)
def test_functions(steps, message):
    parts = {
        "conv": conv(),
        "conv2": conv(),
        "other": neurons(),
        "image_conv": nn.Conv2d(3, 6, 1),
        "halve": nn.MaxPool2d(2),
    }
    assert refusal(Net(steps, **parts)) == message


@pytest.mark.parametrize(
    "steps",
    [
        lambda net, x: x.view(x.size(0), -1),
        lambda net, x: x.view(-1, 384),
        lambda net, x: net.conv(x).view(x.shape[0], 384),
        lambda net, x: net.other(net.conv(x)).view(x.size(dim=0), -1),
        lambda net, x: x.view(size=(x.size(0), 384)),
    ],
)
def test_view_of_a_map_in_channels_last_format(steps):
    message = refusal(Net(steps, conv=conv(), other=neurons()))
    start = r"network \(Net\): view: it fails on an image of shape \(3, 8, 8\) \(RuntimeError: view size is not compat"
    assert re.match(start, message)
    assert "reshape" in message


def test_max_pooling_of_the_image():
    module = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(3, 6, 3), neurons(), nn.Flatten(), nn.Linear(24, 5))
    assert refusal(module) == (
        "0 (MaxPool2d): max pooling of the image is not mapped; pool the spikes of neurons, or take the average"
    )


@pytest.mark.parametrize(
    "steps",
    [
        lambda net, x: x if x.sum() > 0 else net.conv(x),
        lambda net, x: net.conv(x) if x.shape[1] == 6 else x,
        lambda net, x: sum(net.conv(x) for _ in range(x.size(0))),
        lambda net, x: x * int(x.max()),
    ],
)
def test_data_dependent_control_flow(steps):
    message = refusal(Net(steps, conv=conv()))
    assert re.match(r"Net \(test_capture_refusals.py:\d+\): ", message)
    assert "way depends on data or on a size" in message or "forward cannot be followed" in message


def test_broken_forward():
    message = refusal(Net(lambda net, x: net.missing(x)))
    assert "forward cannot be followed (AttributeError: 'Net' object has no attribute 'missing')" in message
    message = refusal(Net(lambda net, x: net.conv(x), conv=nn.Conv2d(7, 6, 3)))
    assert message.startswith("conv (Conv2d): it fails on an image of shape (3, 8, 8) (RuntimeError: ")


class Ends(nn.Module):
    """A network whose logits are what `end` makes of spikes of 6 x 8 x 8."""

    def __init__(self, end):
        super().__init__()
        self.stem, self.neuron, self.end = nn.Conv2d(3, 6, 3, padding=1), neurons(), end
        self.first, self.second = nn.Linear(384, 5), nn.Linear(384, 5)

    def forward(self, image):
        self.image = image
        return self.end(self, self.neuron(self.stem(image)))


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (
            lambda net, x: (net.first(x.flatten(1)), net.second(x.flatten(1))),
            "network: its result must be one tensor of logits, not of type tuple",
        ),
        (
            lambda net, x: net.first(x.flatten(1)) + net.second(x.flatten(1)),
            "network (Ends): add: the sum of two classifiers is not mapped; use one Linear layer",
        ),
        (
            lambda net, x: x.mean((2, 3)),
            "network (Ends): mean: the network must end with a Linear layer (or a convolution) as its classifier",
        ),
        (
            lambda net, x: net.first(x.flatten(1)).mean(0),
            "network (Ends): mean: average pooling in front of neurons is not mapped; put it behind the neurons, onto "
            "their spikes",
        ),
        (
            lambda net, x: net.first(x.flatten(1)[:, :384]),
            f"network (Ends): getitem: it is not mapped; {ACCEPTED}",
        ),
        (
            lambda net, x: nn.functional.softmax(net.first(x.flatten(1)), dim=1),
            f"network (Ends): softmax: it is not mapped; {ACCEPTED}",
        ),
    ],
)
def test_ends(end, message):
    assert refusal(Ends(end)) == message


def test_wrong_number_of_logits():
    assert refusal(Ends(lambda net, x: net.first(x.flatten(1))), classes=7) == (
        "first (Linear): the network's result must have shape (4, 7), steps times images and classes, not (4, 5)"
    )


def test_convolution_that_ends_in_a_map():
    module = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), neurons(), nn.Conv2d(6, 5, 1), nn.Flatten())
    assert refusal(module, classes=320) == (
        "3 (Flatten): a classifier has one pixel, not 8 x 8; pool or flatten the spikes before it"
    )


def test_logits_of_the_image_alone():
    module = Ends(lambda net, x: net.image_linear(net.image.flatten(1)))
    module.image_linear = nn.Linear(192, 5)
    assert refusal(module) == (
        "image_linear (Linear): the network's result must have shape (4, 5), steps times images and classes, not (2, 5)"
    )


def test_neurons_that_reach_no_logit():
    module = Ends(lambda net, x: (net.aside(x), net.first(x.flatten(1)))[1])
    module.aside = neurons()
    assert refusal(module) == "aside (WindowLMHT): its spikes reach no logit; leave it out"


def test_a_tensor_with_two_names_is_changed_in_place():
    def steps(net, x):
        same = net.conv(x)
        current = same
        current += x
        return same

    message = refusal(Net(steps, conv=conv()))
    assert message.startswith("network (Net): iadd: it changes its operand in place")


def test_a_forward_that_changes_from_call_to_call():
    calls = []

    def alternate(net, x):
        calls.append(net)
        return (net.first if len(calls) % 2 else net.second)(x.flatten(1))

    assert refusal(Ends(alternate)) == (
        "network: it computes something else than when it was traced; forward must do the same at every call"
    )
