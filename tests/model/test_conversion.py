"""Conversion of whole QCFS networks: Theorem 4.2 (ii) exactly, Theorem 4.4 in expectation, and its errors."""

import math

import pytest
import torch

from lmht.model import (
    QCFS,
    Network,
    NetworkConfig,
    RunConfig,
    RunError,
    TrainingConfig,
    convert_qcfs,
    convert_run,
    evaluate,
    load_checkpoint,
    load_dataset,
    save_checkpoint,
    train,
)

GRID = 16
UPPER_ENDS = (2.0, 0.5)


def qcfs_network(upper_ends=UPPER_ENDS, **changes):
    """Network whose weights, biases and pixels are multiples of 1/16: float64 holds every sum exactly."""
    config = {"architecture": "12-9-7-3", "input_shape": (1, 3, 4), "weight_bits": None, "activation": "qcfs"}
    network = Network(NetworkConfig(**(config | changes))).double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in network.layers:
            shape = layer.linear.weight.shape
            layer.linear.weight.copy_(torch.randint(-GRID, GRID + 1, shape, generator=generator) / GRID)
        for layer, upper_end in zip(network.layers[:-1], upper_ends, strict=True):
            layer.norm.eps = 0.0  # with variance 1, the norm adds its bias and no more
            layer.norm.bias.copy_(torch.randint(-4, GRID, layer.norm.bias.shape, generator=generator) / GRID)
            layer.activation.theta.fill_(upper_end)
    return network


def pixels(count):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, GRID + 1, (count, 1, 3, 4), generator=generator).double() / GRID


def keep_exact(network, source):
    """Carry over what no configuration holds: the exact norm, and float64."""
    network.double()
    for layer, original in zip(network.layers[:-1], source.layers[:-1], strict=True):
        layer.norm.eps = original.norm.eps
    return network


def layer_values(network, images):
    """Input, current and output of every hidden layer, each (T_in or T, batch, ...)."""
    values, value = [], images.flatten(1)[None]
    for layer in network.layers[:-1]:
        output = layer(value)
        values.append((value, layer.norm(layer.linear(value)), output))
        value = output
    return values


@pytest.mark.parametrize(
    ("levels", "steps"), [(1, 4), (2, 2), (4, 1), (1, 8), (2, 4), (4, 2), (8, 1), (4, 8)]
)
@torch.no_grad()
def test_theorem_4_2_on_a_whole_network(levels, steps):
    """With Q = L T, every layer's mean output over the window is QCFS's, and so are the logits, to the bit.

    The first layer's current is the same at every step. Those after it differ from step to step; Ω = 1/T
    makes them uniform again.
    """
    source = qcfs_network(levels=levels, steps=steps)
    converted = keep_exact(convert_qcfs(source, levels, steps), source)
    images = pixels(200)
    pairs = zip(layer_values(converted, images), layer_values(source, images), strict=True)
    for index, ((_, current, output), (_, z, expected)) in enumerate(pairs):
        assert torch.equal(current.mean(dim=0), z[0])
        assert torch.equal(output.mean(dim=0), expected[0])
        seen = torch.unique(expected / UPPER_ENDS[index] * levels * steps)
        assert (seen[0], seen[-1]) == (0, levels * steps)
        assert len(seen) > 0.8 * levels * steps
    assert torch.equal(converted(images), source(images))


@pytest.mark.parametrize(("levels", "steps"), [(3, 1), (1, 3), (3, 2), (5, 3)])
@torch.no_grad()
def test_theorem_4_2_with_levels_that_are_no_power_of_two(levels, steps):
    """1/3 is rounded, so spikes are counted: as many in a window as QCFS has steps."""
    source = qcfs_network(levels=levels, steps=steps)
    # Currents are multiples of 1/256 and the thresholds among those are whole; 1/1024 keeps them apart.
    for layer in source.layers[:-1]:
        layer.norm.bias.add_(1 / 1024)
    converted = keep_exact(convert_qcfs(source, levels, steps), source)
    images = pixels(200)
    spikes = converted.layers[0](images.flatten(1)[None]).sum(dim=0) / converted.layers[0].neuron.theta
    quanta = source.layers[0](images.flatten(1)[None])[0] / UPPER_ENDS[0] * levels * steps
    assert torch.equal(spikes.round(), quanta.round())


@pytest.mark.parametrize(("levels", "steps", "quanta"), [(1, 1, 8), (2, 3, 4), (4, 2, 1), (3, 5, 7)])
@torch.no_grad()
def test_theorem_4_4_over_membranes(levels, steps, quanta):
    """For any L, T, Q: the expected output is clamp(J, 0, θ_q), in every layer of the network.

    A membrane ``v[-1]`` uniform in [0, θ) and a QCFS offset uniform in [0, 1) instead of 1/2 have this as their
    expectation for the same mean current J. Given J, the mean of one window takes two values θ / T apart, so
    by Hoeffding's inequality the mean of n samples is further than ε from its expectation with a probability
    of at most ``2 exp(-2 n ε² / (θ/T)²)``. ε is chosen for 1e-9 over all neurons together.
    """
    source = qcfs_network(levels=levels, steps=steps, quanta=quanta)
    converted = keep_exact(convert_qcfs(source, levels, steps), source)
    images, samples = pixels(8), 2000
    generator = torch.Generator().manual_seed(2)
    offsets = torch.rand(samples, generator=generator, dtype=torch.float64)
    for index, (value, current, _) in enumerate(layer_values(converted, images)):
        layer, upper_end = converted.layers[index], UPPER_ENDS[index]
        theta = layer.neuron.theta
        assert theta == upper_end / levels
        mean_current = current.mean(dim=0)
        window, single = torch.zeros_like(mean_current), torch.zeros_like(mean_current)
        for offset in offsets.tolist():
            layer.neuron.initial_membrane = offset * theta
            window += layer(value).mean(dim=0) / samples
            staircase = torch.floor(mean_current * quanta / upper_end + offset) / quanta
            single += upper_end * staircase.clamp(0, 1) / samples
        layer.neuron.initial_membrane = theta / 2
        expected = mean_current.clamp(0, upper_end)
        spread = math.sqrt(math.log(2 * expected.numel() / 1e-9) / (2 * samples))
        assert (window - expected).abs().max() <= spread * theta / steps
        assert (single - expected).abs().max() <= spread * upper_end / quanta


@pytest.mark.parametrize(("levels", "steps", "quanta"), [(1, 1, 8), (2, 3, 4), (4, 2, 1), (3, 5, 7)])
def test_theorem_4_4_over_currents(levels, steps, quanta):
    """Currents spread evenly over [0, θ_q] give neurons as converted (v = θ/2) and QCFS the mean θ_q / 2.

    Midpoints of a grid with whole numbers of cells per step of either staircase make it an identity up to rounding.
    """
    source = qcfs_network(levels=levels, steps=steps, quanta=quanta)
    neuron = convert_qcfs(source, levels, steps).layers[0].neuron.double()
    cells = 2 * quanta * levels * steps * 50
    currents = (torch.arange(cells, dtype=torch.float64) + 0.5) / cells * UPPER_ENDS[0]
    window = neuron(currents.expand(steps, cells)).mean().item()
    single = QCFS(quanta, UPPER_ENDS[0]).double()(currents).mean().item()
    assert window == pytest.approx(UPPER_ENDS[0] / 2, rel=1e-9)
    assert single == pytest.approx(UPPER_ENDS[0] / 2, rel=1e-9)


def test_settings_of_the_neurons():
    source = qcfs_network()
    converted = convert_qcfs(source, 4, 3)
    assert not converted.training
    for layer, upper_end in zip(converted.layers[:-1], UPPER_ENDS, strict=True):
        neuron = layer.neuron
        assert (neuron.levels, neuron.steps, neuron.theta) == (4, 3, upper_end / 4)
        assert neuron.initial_membrane == upper_end / 8
        assert torch.equal(neuron.mixing_matrix(), torch.full((3, 3), 1.0) / 3)
        assert neuron.leak().item() == 1
        assert neuron.omega_logits.requires_grad
    for layer, original in zip(converted.layers, source.layers, strict=True):
        assert torch.equal(layer.linear.weight, original.linear.weight.float())
    assert NetworkConfig.model_validate_json(converted.config.model_dump_json()) == converted.config


def test_fixed_mixing_and_leak_stay_fixed():
    converted = convert_qcfs(qcfs_network(mixing="uniform", leak=1.0), 2, 2)
    assert (converted.config.mixing, converted.config.leak) == ("uniform", 1.0)


@pytest.fixture(scope="module", params=[4, 8])
def digits_run(request, tmp_path_factory):
    """QCFS network on the digits with Q = 4 or 8."""
    folder = tmp_path_factory.mktemp("qcfs")
    config = NetworkConfig(
        architecture="64-64-10", input_shape=(1, 8, 8), activation="qcfs", quanta=request.param
    )
    recipe = TrainingConfig(epochs=12, batch_size=64, learning_rate=5e-3, weight_decay=1e-2)
    train(config, recipe, load_dataset("digits"), folder)
    return folder


def test_digits_keep_their_accuracy(digits_run, tmp_path):
    """L T = Q: the same classes but for rounding. Half or twice the steps: within three points."""
    digits = load_dataset("digits")
    network, source = load_checkpoint(digits_run)
    assert source.test_accuracy >= 0.95
    quanta = source.network.qcfs_levels
    for levels, steps in ((1, quanta), (quanta, 1), (2, quanta // 2)):
        run = convert_run(digits_run, tmp_path / f"{levels}-{steps}", levels, steps, digits)
        assert abs(run.test_accuracy - source.test_accuracy) <= 0.003
        assert run.conversion.source_test_accuracy == source.test_accuracy
        assert run.conversion.source_sha256 == source.weights_sha256
        assert abs(run.best_accuracy - source.best_accuracy) <= 0.01
    for levels, steps in ((2, quanta // 4), (2, quanta)):
        other = evaluate(convert_qcfs(network, levels, steps), digits.test_images, digits.test_labels)
        assert abs(other - source.test_accuracy) <= 0.03


def test_converted_run_loads_again(digits_run, tmp_path):
    run = convert_run(digits_run, tmp_path, 2, 2)
    network, loaded = load_checkpoint(tmp_path)
    assert loaded == run
    assert (run.test_accuracy, run.conversion.test_accuracy) == (None, None)
    source, _ = load_checkpoint(digits_run)
    images = load_dataset("digits").test_images[:50]
    assert torch.equal(network(images), convert_qcfs(source, 2, 2)(images))


@pytest.mark.parametrize(
    ("levels", "steps", "message"),
    [(0, 2, "levels must be at least 1, not 0"), (2, -1, "steps must be at least 1, not -1")],
)
def test_convert_wrong_number(levels, steps, message):
    with pytest.raises(ValueError, match="must") as caught:
        convert_qcfs(qcfs_network(), levels, steps)
    assert str(caught.value) == message


def test_convert_network_without_qcfs():
    with pytest.raises(ValueError, match="activation") as caught:
        convert_qcfs(Network(NetworkConfig(architecture="784-5-10")), 2, 2)
    assert str(caught.value) == "activation must be qcfs for conversion, not lmht"


def test_convert_negative_upper_end():
    with pytest.raises(ValueError, match="theta") as caught:
        convert_qcfs(qcfs_network(upper_ends=(1.0, -0.25)), 2, 2)
    assert str(caught.value) == "layer 1: theta must be above 0 for conversion, not -0.25"


def test_convert_run_folders(digits_run, tmp_path):
    with pytest.raises(RunError) as caught:
        convert_run(digits_run, digits_run, 2, 2, overwrite=True)
    assert str(caught.value) == f"{digits_run} holds the network to be converted; choose another folder"
    convert_run(digits_run, tmp_path, 2, 2)
    with pytest.raises(RunError) as caught:
        convert_run(digits_run, tmp_path, 2, 4)
    assert str(caught.value) == f"{tmp_path} already holds a run; choose another folder or overwrite"
    assert convert_run(digits_run, tmp_path, 2, 4, overwrite=True).network.steps == 4
    network, run = load_checkpoint(digits_run)
    unfinished = RunConfig.model_validate(run.model_dump() | {"finished": False})
    save_checkpoint(tmp_path / "unfinished", network.state_dict(), unfinished)
    with pytest.raises(RunError) as caught:
        convert_run(tmp_path / "unfinished", tmp_path / "out", 2, 2)
    assert str(caught.value) == (
        f"{tmp_path / 'unfinished'} holds an unfinished run; train it to its end before conversion"
    )
