"""Neurons that train with the hardware's roundings: against whole numbers, the fused window, and a compiled network."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lmht.gen.cli import main
from lmht.gen.compile import CompileOptions, to_integers
from lmht.model import (
    LMHT,
    Network,
    NetworkConfig,
    TrainingConfig,
    WindowLMHT,
    load_checkpoint,
    load_dataset,
    train,
)
from lmht.model.integer_window import LEAK_BITS
from lmht.model.surrogate import RoundHalfUp
from lmht.sim.golden import GoldenModel


def whole_number_levels(mixed, leak, levels, fraction_bits, initial):
    """Steps 3 to 5 of NUMERICS.md for one neuron, in Python's integers; `mixed` is J."""
    membrane, fired = initial, []
    for current in mixed:
        charged = ((leak * membrane + (1 << (LEAK_BITS - 1))) >> LEAK_BITS) + current
        level = min(max(charged >> fraction_bits, 0), levels)
        membrane = charged - (level << fraction_bits)
        fired.append(level)
    return fired


def check_whole_numbers(levels, steps, fraction_bits, leak, theta, mixing, seed):
    neuron = LMHT(levels, steps, theta, 0.3, mixing=mixing, leak=leak, fraction_bits=fraction_bits).double()
    current = torch.randn(steps, 30, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2
    with torch.no_grad():
        for parameter in neuron.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)))
        found = (neuron(current) / theta).round().long()
        omega = torch.eye(steps) if mixing == "identity" else neuron.mixing_matrix()
        number = neuron.leak().item()
    scale = 2**fraction_bits / theta
    # Alone, neurons do not know the scale of the weights, with which hardware rounds Ω.
    mixed = torch.floor(omega.double() @ (current * scale) + 0.5).long()
    initial = round(0.3 / theta * 2**fraction_bits)
    for index in range(30):
        expected = whole_number_levels(
            mixed[:, index].tolist(), round(number * 2**LEAK_BITS), levels, fraction_bits, initial
        )
        assert found[:, index].tolist() == expected


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 15),
    st.integers(1, 8),
    st.integers(0, 10),
    st.sampled_from(["learned", 0.0, 0.75, 1.0]),
    st.sampled_from([0.5, 2 / 3, 1.0]),
    st.sampled_from(["learned", "identity", "uniform"]),
    st.integers(0, 10**6),
)
def test_whole_numbers(levels, steps, fraction_bits, leak, theta, mixing, seed):
    check_whole_numbers(levels, steps, fraction_bits, leak, theta, mixing, seed)


@pytest.mark.parametrize("fault", [torch.round, torch.floor, torch.ceil])
def test_planted_rounding_is_noticed(monkeypatch, fault):
    monkeypatch.setattr(RoundHalfUp, "apply", lambda value: fault(value))
    # Thresholds and a leak of 1/2 lie on halves, where the ways to round differ.
    with pytest.raises(AssertionError):
        check_whole_numbers(3, 8, 2, 0.5, 0.5, "identity", 1)


def test_many_bits_are_the_fused_window():
    """Outputs and gradients of the floating-point window, up to neurons that a rounding tips over."""
    torch.manual_seed(0)
    fine, plain = LMHT(3, 4, 0.5, fraction_bits=16), LMHT(3, 4, 0.5)
    current, upstream = torch.randn(2, 4, 4000)
    results = []
    for neuron in (fine, plain):
        leaf = current.clone().requires_grad_()
        output = neuron(leaf)
        output.backward(upstream)
        results.append((output.detach(), leaf.grad, *(parameter.grad for parameter in neuron.parameters())))
    for found, expected in zip(results[0][:2], results[1][:2], strict=True):
        assert (found != expected).any(dim=0).double().mean() < 0.6
        torch.testing.assert_close(found.median(), expected.median(), atol=1e-3, rtol=1e-3)
        assert ((found - expected).abs() > 1e-3).double().mean() < 0.01
    for found, expected in zip(results[0][2:], results[1][2:], strict=True):
        torch.testing.assert_close(found, expected, rtol=0.05, atol=3.0)


def test_types_and_shapes():
    neuron = WindowLMHT(2, 2, fraction_bits=4)
    neuron.batch = 3
    for dtype in (torch.float32, torch.bfloat16):
        image = torch.randn(3, 4, 5, 5).to(dtype).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            output = neuron(image)
        assert output.dtype == dtype
        assert output.shape == (6, 4, 5, 5)
    assert "fraction_bits=4" in repr(neuron)


@pytest.mark.parametrize("value", [-1, 17])
def test_out_of_range(value):
    with pytest.raises(ValueError, match="fraction_bits must be"):
        LMHT(2, 2, fraction_bits=value)


def test_trained_network_is_closer_to_its_integers(tmp_path):
    """With 2 fraction bits, the levels of the integers are those that were trained with far more often."""
    digits = load_dataset("digits")
    images = digits.test_images
    differing = {}
    for bits in (None, 2):
        config = NetworkConfig(architecture="64-24-10", input_shape=(1, 8, 8), fraction_bits=bits)
        train(
            config,
            TrainingConfig(epochs=4, batch_size=64, learning_rate=5e-3),
            digits,
            tmp_path / str(bits),
            progress=False,
        )
        network, run = load_checkpoint(tmp_path / str(bits))
        assert run.network.fraction_bits == bits
        integers = to_integers(network, CompileOptions(fraction_bits=2), name="n")
        levels = GoldenModel(integers).run(images, keep_levels=True).levels[0]
        wanted = network.spike_levels(images)[0]
        differing[bits] = (levels.long().reshape(-1) != wanted.long().reshape(-1)).double().mean().item()
    assert differing[2] < 0.5 * differing[None]


def test_integers_have_the_bits_of_the_neurons():
    """Whatever makes integers of a network: the bits that its neurons were trained with, if no others are asked for."""
    network = Network(NetworkConfig(architecture="64-8-6-10", input_shape=(1, 8, 8), fraction_bits=3)).eval()
    for asked, expected in ((None, 3), (5, 5)):
        integers = to_integers(network, CompileOptions(fraction_bits=asked), name="n")
        assert [layer.fraction_bits for layer in integers.layers[:-1]] == [expected] * 2
    network.layers[0].neuron.fraction_bits = 4
    with pytest.raises(ValueError, match=r"^fraction_bits must be given for neurons trained with 3 and 4$"):
        to_integers(network, CompileOptions(), name="n")


def test_command_line(tmp_path, capsys):
    run, build = tmp_path / "run", tmp_path / "build"
    quick = ["--net", "64-8-10", "--epochs", "1", "--fraction-bits", "3"]
    assert main(["train", *quick, "--out", str(run)]) == 0
    assert main(["compile", str(run), "--lanes", "2", "--out", str(build)]) == 0
    from lmht.gen.build import Build

    assert Build.open(build).network.layers[0].fraction_bits == 3
    assert main(["compile", str(run), "--lanes", "2", "--fraction-bits", "5", "--out", str(build)]) == 0
    assert Build.open(build).network.layers[0].fraction_bits == 5
    capsys.readouterr()
    assert main(["train", "--fraction-bits", "99", "--out", str(tmp_path / "other")]) == 2
    assert "fraction_bits" in capsys.readouterr().err
