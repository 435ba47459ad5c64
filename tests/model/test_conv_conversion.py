"""QCFS networks with convolutions: Theorem 4.2 (ii) on whole networks, runs, hybrid training, and refusals."""

import pytest
import torch
from torch import nn

from lmht.gen.compile import CompileOptions, to_integers
from lmht.model import (
    QCFS,
    ConvNetworkConfig,
    QCFSNetwork,
    SpikingNetwork,
    TrainingConfig,
    build_network,
    convert_qcfs,
    convert_run,
    evaluate,
    load_checkpoint,
    read_own_source,
    train,
    train_hybrid,
)
from lmht.model.conversion import convert_with_config
from lmht.sim.golden import GoldenModel

from .conftest import stripes

GRID = 16
RECIPE = TrainingConfig(epochs=4, batch_size=16, learning_rate=2e-2, validation_fraction=0.2)
OWN = """
from torch import nn
from torch.nn import functional as F

class Net(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.conv1 = nn.Conv2d(config.input_shape[0], 6, 3, padding=1)
        self.neuron1 = config.make_neuron()
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1)
        self.neuron2 = config.make_neuron()
        self.linear = nn.Linear(6 * 16, config.classes)

    def forward(self, image):
        first = self.neuron1(self.conv1(image))
        second = self.neuron2(self.conv2(first) + first)
        return self.linear(F.{pool}(second, 2).flatten(1))

def build(config):
    return Net(config)
"""


def config(net="mnist-cnn", **changes):
    given = {"width": 0.25, "input_shape": (2, 8, 8), "classes": 3, "weight_bits": None, "activation": "qcfs"}
    return ConvNetworkConfig(net=net, **(given | changes))


def own_config(folder, pool="avg_pool2d", **changes):
    (folder / "mine.py").write_text(OWN.replace("{pool}", pool))
    source = read_own_source(f"{folder}/mine.py:build")
    return config(net=source.net, source_sha256=source.sha256, width=1.0, **changes), source


def exact_network(network_config, folder=None):
    """QCFS network in float64 whose weights, biases, upper ends and pixels are dyadic: every sum is exact."""
    network = build_network(network_config, folder).double().eval()
    generator = torch.Generator().manual_seed(0)

    def draw(low, high, shape):
        return torch.randint(low, high, shape, generator=generator) / GRID

    with torch.no_grad():
        for part in network.module.modules():
            if isinstance(part, nn.Conv2d | nn.Linear):
                part.weight.copy_(
                    draw(-GRID, GRID + 1, part.weight.shape) / (2 if part.weight[0].numel() > 40 else 1)
                )
                if part.bias is not None:
                    part.bias.copy_(draw(-4, GRID, part.bias.shape))
            elif isinstance(part, nn.BatchNorm2d):
                part.eps = 0.0
                part.bias.copy_(draw(-4, GRID, part.bias.shape))
        for index, part in enumerate(network.activations().values()):
            part.theta.fill_((2.0, 4.0, 1.0)[index % 3])
    return network


def pixels(count):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, GRID + 1, (count, 2, 8, 8), generator=generator).double() / GRID


def outputs(network, images, kind):
    """Outputs of all activations, or mean outputs of all neurons, by name; and the logits."""
    found, hooks = {}, []
    for name, part in network.module.named_modules():
        if isinstance(part, kind):
            hooks.append(
                part.register_forward_hook(lambda _, __, output, name=name: found.update({name: output}))
            )
    logits = network(images)
    for hook in hooks:
        hook.remove()
    return {
        name: output.unflatten(0, (-1, len(images))).mean(dim=0) for name, output in found.items()
    }, logits


@pytest.mark.parametrize(("levels", "steps"), [(1, 4), (2, 2), (4, 1), (2, 4)])
@pytest.mark.parametrize("net", ["mnist-cnn", "resnet20", "resnet19", "own"])
@torch.no_grad()
def test_theorem_4_2_on_whole_networks(net, levels, steps, tmp_path):
    """With Q = L T every layer's mean output is QCFS's, and so are the logits, to the bit.

    Average pooling (also global), strides, residual sums with and without a convolution, biases, batch norms.
    """
    numbers = {"levels": levels, "steps": steps}
    given = (
        own_config(tmp_path, **numbers)[0]
        if net == "own"
        else config(net, **numbers, width=0.05 if net == "resnet19" else 0.25)
    )
    source = exact_network(given, tmp_path)
    converted = convert_qcfs(source, levels, steps).double()
    images = pixels(40)
    expected, logits = outputs(source, images, QCFS)
    found, found_logits = outputs(converted, images, type(next(iter(converted.neurons().values()))))
    assert list(found) == list(expected) == list(converted.neurons())
    for name, output in expected.items():
        assert torch.equal(found[name], output), name
        assert len(torch.unique(output)) > 2, "the staircase is used"
    assert torch.equal(found_logits, logits)


@torch.no_grad()
def test_wrong_threshold_is_found():
    source = exact_network(config(levels=2, steps=2))
    converted = convert_qcfs(source, 2, 2).double()
    next(iter(converted.neurons().values())).initial_membrane = 0.0
    assert not torch.equal(converted(pixels(40)), source(pixels(40)))


def test_configuration_builds_the_converted_network():
    source = build_network(config("resnet20", mixing="uniform"))
    converted, spiking = convert_with_config(source, 3, 2)
    assert (spiking.activation, spiking.levels, spiking.steps, spiking.mixing) == ("lmht", 3, 2, "uniform")
    assert ConvNetworkConfig.model_validate_json(spiking.model_dump_json()) == spiking
    rebuilt = build_network(spiking).eval()
    rebuilt.load_state_dict(converted.state_dict())
    for name, neuron in rebuilt.neurons().items():
        assert neuron.theta == converted.neurons()[name].theta == source.activations()[name].theta.item() / 3
        assert neuron.initial_membrane == neuron.theta / 2
    images = torch.randint(0, 256, (3, 2, 8, 8), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(rebuilt(images), converted(images))
    assert isinstance(source, QCFSNetwork), "it is left as it is"
    assert len(source.activations()) == len(rebuilt.neurons())


DATASET = stripes(240)


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_run_is_trained_and_converted(tmp_path):
    given = config(weight_bits=4, width=0.5)
    source = train(given, RECIPE, DATASET, tmp_path / "qcfs")
    network, loaded = load_checkpoint(tmp_path / "qcfs")
    assert isinstance(network, QCFSNetwork)
    assert loaded == source
    assert source.test_accuracy >= 0.9
    assert any(part.theta.item() != 2 for part in network.activations().values()), "upper ends are learned"
    run = convert_run(tmp_path / "qcfs", tmp_path / "converted", 2, 2, DATASET)
    assert run.conversion.quanta == 4
    assert abs(run.test_accuracy - source.test_accuracy) <= 0.03
    spiking, record = load_checkpoint(tmp_path / "converted")
    assert record == run
    assert not isinstance(spiking, QCFSNetwork)
    assert evaluate(spiking, DATASET.test_images, DATASET.test_labels) == run.test_accuracy
    integers = to_integers(spiking, CompileOptions(), name="converted")
    assert integers.layers[0].initial_membrane == 2 ** (integers.layers[0].fraction_bits - 1), (
        "half a threshold"
    )
    with torch.no_grad():
        expected = spiking(DATASET.test_images).argmax(dim=1)
    assert (GoldenModel(integers).run(DATASET.test_images).predictions == expected).double().mean() >= 0.95


def test_hybrid_training_resumes_to_the_same_files(tmp_path, monkeypatch):
    from lmht.model import training

    given, source = own_config(tmp_path, weight_bits=4)
    whole = train_hybrid(given, RECIPE, DATASET, tmp_path / "whole", source=source)
    assert whole.conversion.quanta == 4
    assert whole.network.thetas.keys() == {"neuron1", "neuron2"}
    assert whole.test_accuracy >= 0.8
    original, calls = training.save_checkpoint, []

    def interrupt(*arguments):
        calls.append(None)
        # Four epochs and the end of the QCFS network; this is the fine-tuning's only epoch.
        if len(calls) == 6:
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(training, "save_checkpoint", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train_hybrid(given, RECIPE, DATASET, tmp_path / "resumed", source=source)
    assert not (tmp_path / "resumed" / "config.json").exists()
    source.path.unlink()
    train_hybrid(given, RECIPE, DATASET, tmp_path / "resumed")
    assert files(tmp_path / "resumed") == files(tmp_path / "whole")
    assert isinstance(load_checkpoint(tmp_path / "resumed")[0], SpikingNetwork)


def test_converted_run_keeps_the_file_of_the_user(tmp_path):
    given, source = own_config(tmp_path)
    train(given, RECIPE.model_copy(update={"epochs": 1}), DATASET, tmp_path / "qcfs", source=source)
    source.path.unlink()
    convert_run(tmp_path / "qcfs", tmp_path / "converted", 4, 1)
    assert files(tmp_path / "converted")["mine.py"] == source.content
    assert load_checkpoint(tmp_path / "converted")[0].steps == 1


def test_max_pooling_is_refused_before_training(tmp_path):
    given, source = own_config(tmp_path, "max_pool2d")
    with pytest.raises(ValueError, match="average pooling") as caught:
        train(given, RECIPE, DATASET, tmp_path / "run", source=source)
    assert str(caught.value) == (
        f"{tmp_path}/mine.py: the network cannot be used: ConversionError: network (Net): max_pool2d: the mean over "
        "the steps of a maximum is not the maximum of the means; use average pooling"
    )
    assert not (tmp_path / "run").exists()
    spiking = given.model_copy(update={"activation": "lmht"})
    train(spiking, RECIPE.model_copy(update={"epochs": 1}), DATASET, tmp_path / "run", source=source)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activation": "lmht", "quanta": 4}, "quanta must be None with activation lmht, not 4"),
        ({"leak": 0.5}, "leak must be learned or 1.0 with activation qcfs, not 0.5"),
        ({"mixing": "identity"}, "mixing must be learned or uniform with activation qcfs, not identity"),
        ({"thetas": {"neuron1": 1.0}}, "thetas must be None with activation qcfs, not {'neuron1': 1.0}"),
    ],
)
def test_wrong_configuration(changes, message):
    with pytest.raises(ValueError, match="must be") as caught:
        config(**changes)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("thetas", "end"),
    [
        ({"neuron1": 1.0}, "'neuron2' is missing"),
        ({"neuron1": 1.0, "neuron2": 1.0, "x": 2.0}, "'x' is none of them"),
    ],
)
def test_thresholds_of_other_neurons(thetas, end):
    with pytest.raises(ValueError, match="thetas") as caught:
        build_network(config(activation="lmht", thetas=thetas))
    assert str(caught.value) == f"thetas must have one number for each of the network's neurons; {end}"


def test_upper_end_that_is_not_positive():
    source = build_network(config())
    with torch.no_grad():
        source.activations()["neuron2"].theta.fill_(-0.25)
    with pytest.raises(ValueError, match="theta") as caught:
        convert_qcfs(source, 2, 2)
    assert str(caught.value) == "neuron2: theta must be above 0 for conversion, not -0.25"


def test_no_spikes_before_conversion():
    with pytest.raises(ValueError, match="convert the network first"):
        build_network(config()).spike_levels(torch.zeros(1, 2, 8, 8))
