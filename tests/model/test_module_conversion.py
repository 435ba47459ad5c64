"""Networks trained elsewhere: ReLU and QCFS modules become spiking networks, or are refused with the reason."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lmht.model import (
    QCFS,
    ConversionError,
    SpikingNetwork,
    UntraceableError,
    WindowLMHT,
    convert_module,
    evaluate,
)
from lmht.model.module_conversion import calibrate_threshold

PAGE = (Path(__file__).parents[2] / "docs/training.md").read_text(encoding="utf-8")


class Net(nn.Module):
    """Residual network that calls one ReLU module twice and two functions."""

    def __init__(self):
        super().__init__()
        self.conv1, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv2, self.conv3 = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.relu = nn.ReLU(inplace=True)
        self.drop, self.linear = nn.Dropout(0.5), nn.Linear(4 * 9, 3)

    def forward(self, image, scale=None):
        first = self.relu(self.norm(self.conv1(image)))
        second = self.relu(self.conv2(first) + first)
        third = F.relu(self.conv3(second)).relu()
        pooled = self.drop(F.avg_pool2d(third, 2))
        return self.linear(pooled.view(pooled.size(0), -1))


def images(count=30):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, 1, 6, 6, generator=generator)


def make(seed=0):
    torch.manual_seed(seed)
    module = Net()
    for _ in range(20):
        module.train()(images())
    return module


def test_relu_is_approached_as_the_staircase_gets_finer():
    module = make().eval()
    with torch.no_grad():
        expected = module(images())
        errors = [
            (convert_module(module, images(), levels, steps)(images()) - expected).abs().mean().item()
            for levels, steps in ((1, 1), (2, 2), (8, 4), (15, 8))
        ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.02 * expected.abs().mean().item() < errors[0]


def test_every_call_gets_neurons_of_its_own():
    module = make()
    state = {name: value.clone() for name, value in module.state_dict().items()}
    network = convert_module(module, images(), 4, 2)
    assert isinstance(network, SpikingNetwork)
    assert not network.training
    assert list(network.neurons()) == ["relu_neuron", "relu_neuron2", "relu_neuron3", "relu_neuron4"]
    for neuron in network.neurons().values():
        assert (neuron.levels, neuron.steps) == (4, 2)
        assert neuron.initial_membrane == neuron.theta / 2
    assert not any(isinstance(part, nn.ReLU | QCFS) for part in network.module.modules())
    assert module.training, "the module is left as it is"
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in state.items())
    with torch.no_grad():
        network.module.conv1.weight.zero_()
    assert module.conv1.weight.any(), "the layers are copies"


@torch.no_grad()
def test_converted_network_is_what_was_calibrated():
    """With Q = L T it computes what the module does with QCFS of the calibrated thresholds in place of ReLU."""
    network = convert_module(make(), images(), 2, 4)
    ends = iter([neuron.theta * 2 for neuron in network.neurons().values()])
    reference = make().eval()

    def quantized(value):
        return QCFS(8, next(ends))(value)

    first = quantized(reference.norm(reference.conv1(images())))
    second = quantized(reference.conv2(first) + first)
    third = quantized(quantized(reference.conv3(second)))
    expected = reference.linear(F.avg_pool2d(third, 2).flatten(1))
    # A current within rounding of a threshold may fall to either side.
    assert (network(images()) - expected).abs().amax(dim=1).le(1e-5).double().mean() > 0.9


@torch.no_grad()
def test_theorem_4_2_with_learned_upper_ends_and_a_shared_activation():
    """In dyadic numbers, to the bit; θ of QCFS is kept, whatever the images."""
    activation = QCFS(4, 2.0)
    module = nn.Sequential(
        nn.Conv2d(1, 3, 3),
        activation,
        nn.AvgPool2d(2),
        nn.Conv2d(3, 3, 1),
        activation,
        nn.Flatten(),
        nn.Linear(12, 2),
    ).double()
    generator = torch.Generator().manual_seed(0)
    for part in module.parameters():
        if part.dim():
            part.copy_(torch.randint(-16, 17, part.shape, generator=generator) / 16)
    values = torch.randint(0, 17, (50, 1, 6, 6), generator=generator).double() / 16
    network = convert_module(module, values[:2], 2, 2).double()
    assert [neuron.theta for neuron in network.neurons().values()] == [1.0]
    assert torch.equal(network(values), module(values))
    network.neurons()["1"].initial_membrane = 0.0
    assert not torch.equal(network(values), module(values))


def test_calibrated_threshold_has_the_least_error():
    currents = torch.randn(3000, generator=torch.Generator().manual_seed(0))
    largest = currents.max().item()

    def error(upper_end):
        return (QCFS(4, upper_end)(currents) - currents.clamp(min=0)).double().square().sum().item()

    found = calibrate_threshold(currents, 4)
    assert 0 < found < largest, "it does not pay to reach the largest"
    assert error(found) <= min(error(largest * part / 100) for part in range(1, 101)) * 1.02
    assert calibrate_threshold(torch.tensor([-1.0, 0.0]), 4) is None
    assert calibrate_threshold(torch.tensor([-1.0, 0.5]), 1) == 0.5


def test_example_of_the_page():
    (code,) = (
        block
        for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
        if "convert_module" in block
    )
    names = {}
    exec(compile(code, "training.md", "exec"), names)
    digits, module = names["digits"], names["module"].eval()
    with torch.no_grad():
        before = (module(digits.test_images / 255).argmax(dim=1) == digits.test_labels).double().mean().item()
    assert before >= 0.95
    assert names["accuracy"] >= before - 0.02
    coarse = convert_module(module, digits.train_images[:300], levels=1, steps=1)
    assert evaluate(coarse, digits.test_images, digits.test_labels) < names["accuracy"]


def head(*parts):
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), *parts, nn.Flatten(), nn.LazyLinear(3))


class Functions(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.conv, self.function = nn.Conv2d(1, 4, 3), function

    def forward(self, image):
        return self.function(F.relu(self.conv(image))).flatten(1)


def in_place(value):
    changed = F.relu(value, inplace=True)
    return changed + value


class Renamed(nn.Module):
    """A change in place of a value that `alias` names once more."""

    def __init__(self, alias):
        super().__init__()
        self.conv, self.alias = nn.Conv2d(1, 4, 3), alias

    def forward(self, image):
        value = F.relu(self.conv(image))
        same = self.alias(value)
        same += F.avg_pool2d(value, 1)
        return (same + value).mean((2, 3))


def lonely(value):
    same = F.dropout(value.contiguous(), 0.5, training=False)
    same += 1
    return F.relu(same, inplace=True).mean((2, 3))


@pytest.mark.parametrize(
    "alias",
    [
        lambda value: F.dropout(value, 0.5, training=False),
        nn.Identity(),
        nn.Dropout(0.2),
        lambda value: value.view(value.shape),
        lambda value: value.contiguous().reshape(value.shape),
    ],
)
def test_a_change_in_place_under_another_name_is_refused(alias):
    with pytest.raises(ConversionError, match=r"\(Renamed\): iadd: it changes its operand in place"):
        convert_module(Renamed(alias), images(), 2, 2)


def test_a_change_in_place_that_nothing_else_sees_is_converted():
    convert_module(Functions(lonely), images(), 2, 2)


@pytest.mark.parametrize("flatten", [lambda x: x.view(x.size(0), -1), lambda x: x.view(x.shape[0], -1)])
def test_a_view_of_maps_is_converted(flatten):
    """A spiking network's maps are not contiguous: the converted one reshapes."""
    module = Functions(flatten)
    viewed = convert_module(module, images(), 2, 2)
    module.function = lambda x: x.reshape(x.size(0), -1)
    assert torch.equal(viewed(images()), convert_module(module, images(), 2, 2)(images()))


MAX = "the mean over the steps of a maximum is not the maximum of the means; use average pooling"


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (head(nn.ReLU(), nn.MaxPool2d(2)), f"2 (MaxPool2d): {MAX}"),
        (Functions(lambda value: F.max_pool2d(value, 2)), f"network (Functions): max_pool2d: {MAX}"),
        (Functions(lambda value: value.amax(dim=(2, 3))), f"network (Functions): amax: {MAX}"),
        (head(WindowLMHT(2, 2)), "1 (WindowLMHT): it spikes already; only QCFS and ReLU are converted"),
        (head(), "Sequential: it has neither QCFS nor ReLU to be converted"),
        (
            Functions(in_place),
            "network (Functions): relu: it changes its operand in place, which is used elsewhere too",
        ),
    ],
    ids=["module", "function", "method", "spikes", "nothing", "in place"],
)
def test_refusals(module, message):
    with pytest.raises(ConversionError) as caught:
        convert_module(module, images(), 2, 2)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("module", "place"),
    [
        (head(nn.ReLU(), nn.Sigmoid()), "2 (Sigmoid): "),
        (head(nn.LeakyReLU(), nn.ReLU()), "1 (LeakyReLU): "),
        (Functions(lambda value: value * value), "network (Functions): mul: "),
        (Functions(lambda value: value.softmax(1)), "network (Functions): softmax: "),
    ],
    ids=["sigmoid", "leaky", "product", "softmax"],
)
def test_what_does_not_keep_means_is_refused(module, place):
    with pytest.raises(
        ConversionError, match=r"it is not known to turn means .* accepted are Conv2d"
    ) as caught:
        convert_module(module, images(), 2, 2)
    assert str(caught.value).startswith(place)


def test_way_that_depends_on_data():
    with pytest.raises(UntraceableError, match="depends on data"):
        convert_module(Functions(lambda value: value if value.sum() > 0 else -value), images(), 2, 2)


def test_rows_of_the_image_behind_neurons():
    class OfTheImage(Net):
        def forward(self, image):
            return self.linear(F.avg_pool2d(F.relu(self.conv1(image)), 2).view(image.shape[0], -1))

    with pytest.raises(ConversionError, match="take a size from the value that is reshaped") as caught:
        convert_module(OfTheImage(), images(), 2, 2)
    assert "mat1 and mat2 shapes cannot be multiplied (2x72 and 36x3)" in str(caught.value)


def test_silent_layer():
    module = Net().eval()
    with torch.no_grad():
        module.norm.bias.fill_(-100.0)
    with pytest.raises(ValueError, match="never") as caught:
        convert_module(module, images(), 2, 2)
    assert str(caught.value) == "relu (ReLU): its current is never above 0 on the calibration images"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"levels": 0}, "levels must be at least 1, not 0"),
        ({"steps": 0}, "steps must be at least 1, not 0"),
        ({"leak": 0.5}, "leak must be learned or 1.0 for conversion, not 0.5"),
        ({"mixing": "identity"}, "mixing must be learned or uniform for conversion, not identity"),
        (
            {"calibration_images": torch.zeros(0, 1, 6, 6)},
            "calibration_images must have shape (at least 1, C, H, W), not (0, 1, 6, 6)",
        ),
        ({"module": nn.ReLU()}, "the module's output must have shape (B, classes), not (30, 1, 6, 6)"),
    ],
)
def test_wrong_argument(changes, message):
    given = {"module": make(), "calibration_images": images(), "levels": 2, "steps": 2}
    with pytest.raises(ValueError, match="must") as caught:
        convert_module(**(given | changes))
    assert str(caught.value) == message
