"""Bits are chosen on calibration images: the cheapest that agree, per layer, or an error that says the best."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console

from lmht.gen.choose_precision import LADDER, Bits, Calibration, choose_precision, trials_table
from lmht.gen.cli import main
from lmht.gen.compile import CompileOptions, compile_network, fold_network, to_integers
from lmht.gen.quantize import quantize
from lmht.model.evaluation import classify
from lmht.sim.golden import GoldenModel


@pytest.fixture(scope="module")
def network(make_network):
    return make_network("48-24-20-10")


@pytest.fixture(scope="module")
def calibration(network):
    images = torch.randint(
        0, 256, (500, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    return Calibration(images, classify(network, images))


def agreement(integers, calibration):
    predictions = GoldenModel(integers).run(calibration.images).predictions
    return float((predictions == calibration.logits.argmax(1)).double().mean())


@pytest.mark.parametrize("target", [0.9, 0.98, 1.0])
def test_target_is_reached_and_every_cheaper_rung_misses_it(network, calibration, target):
    folded = fold_network(network)
    bits, trials = choose_precision(folded, calibration, target, name="n")
    chosen = quantize(folded, name="n", **bits)
    assert agreement(chosen, calibration) >= target
    top = max(bits["fraction_bits"])
    for rung in LADDER:
        if rung.fraction_bits < top:
            cheaper = quantize(folded, name="n", **rung.model_dump())
            assert agreement(cheaper, calibration) < target
    assert any(trial.agreement >= target for trial in trials)


def test_layers_step_down_where_that_keeps_the_target(network, calibration):
    """Nothing that was chosen could be one rung lower by itself."""
    folded = fold_network(network)
    bits, trials = choose_precision(folded, calibration, 1.0, name="n")
    rungs = [[rung.fraction_bits for rung in LADDER].index(fraction) for fraction in bits["fraction_bits"]]
    first = next(number for number, trial in enumerate(trials) if trial.agreement == 1)
    # As many accumulators as before, never more bits of constants.
    assert all(max(rungs) - 1 <= rung <= max(rungs) for rung in rungs)
    chosen = [trial for trial in trials if trial.agreement == 1]
    assert chosen[-1].constant_bits <= trials[first].constant_bits
    for layer in range(len(rungs)):
        if rungs[layer] == max(rungs) > 0:
            lower = list(rungs)
            lower[layer] -= 1
            arguments = {name: [getattr(LADDER[rung], name) for rung in lower] for name in Bits.model_fields}
            assert agreement(quantize(folded, name="n", **arguments), calibration) < 1


def test_unreachable_target_says_the_best(network, calibration):
    """A logit that no integers have."""
    wrong = calibration.logits.clone()
    wrong[:50] *= -1
    with pytest.raises(
        ValueError, match=r"fidelity must be at most 0\.\d+ .* on 500 calibration images, not 1"
    ):
        choose_precision(fold_network(network), Calibration(calibration.images, wrong), 1.0, name="n")


def test_images_that_float32_decides_by_its_noise_do_not_count(network, calibration):
    """Two close decisions that PyTorch took otherwise: all others agree, and the trials tell how many were left out."""
    folded = fold_network(network)
    noisy = calibration.logits.clone()
    for image in (3, 77):
        first, second = noisy[image].topk(2).indices
        noisy[image, second] = noisy[image, first] + 1e-6
    bits, trials = choose_precision(folded, Calibration(calibration.images, noisy), 1.0, name="n")
    assert {trial.undecided for trial in trials} == {2}
    assert agreement(quantize(folded, name="n", **bits), Calibration(calibration.images, noisy)) == 0.996
    text = Console(width=200)
    with text.capture() as shown:
        text.print(trials_table(trials))
    assert "without 2 images whose class in PyTorch is the noise of float32" in shown.get()


def test_bits_that_fit_nothing_are_passed_over(network, calibration):
    """Weights that are worth more than the widest multiplier."""
    folded = fold_network(network)
    first = folded.layers[0].projections[0]
    strong = replace(folded.layers[0], projections=(replace(first, scale=first.scale * 2.0**40),))
    with pytest.raises(ValueError, match=r"no bits fit \(layer 0.*multiplier_bits"):
        choose_precision(replace(folded, layers=(strong, *folded.layers[1:])), calibration, 1.0, name="n")


def test_compile_keeps_what_was_tried(network, calibration, tmp_path):
    options = CompileOptions(lanes=4, fidelity=0.99)
    report = compile_network(network, tmp_path / "build", options, calibration=calibration)
    assert report.trials[-1].accumulator_bits > 0
    assert any(trial.agreement >= 0.99 for trial in report.trials)


@pytest.mark.parametrize(
    "bits", [{"fraction_bits": 8}, {"multiplier_bits": 12}, {"gain_bits": 9}, {"leak_bits": 8}]
)
def test_bits_are_chosen_or_given(bits):
    with pytest.raises(ValueError, match=f"fidelity chooses {next(iter(bits))}: give either"):
        CompileOptions(fidelity=0.99, **bits)


def test_network_trained_with_roundings_keeps_them(make_network, calibration):
    network = make_network(fraction_bits=8)
    with pytest.raises(
        ValueError, match="fidelity must not be given for a network that was trained with fraction_bits 8"
    ):
        to_integers(network, CompileOptions(fidelity=0.99), name="n", calibration=calibration)


def test_fidelity_needs_images(network, small_network, tmp_path):
    with pytest.raises(ValueError, match="fidelity needs calibration images"):
        to_integers(network, CompileOptions(fidelity=0.99), name="n")
    with pytest.raises(ValueError, match="fidelity must not be given for a network of integers"):
        compile_network(small_network, tmp_path / "build", CompileOptions(fidelity=0.99))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--fidelity", "1.5"], "fidelity"),
        (["--fidelity", "0.9", "--multiplier-bits", "12"], "fidelity chooses multiplier_bits"),
    ],
)
def test_command_line_errors_are_one_line(tmp_path, capsys, arguments, line):
    assert main(["compile", str(tmp_path), *arguments, "--out", str(tmp_path / "build")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert line in error


def test_layers_may_have_their_own_bits(network):
    folded = fold_network(network)
    integers = quantize(folded, name="n", fraction_bits=[8, 6, 8], multiplier_bits=[12, 10, 9])
    assert [layer.fraction_bits for layer in integers.layers] == [8, 6, 8]
    assert [layer.multiplier_bits for layer in integers.layers] == [12, 10, 9]
    assert np.abs(integers.layers[2].multipliers).max() < 2**9
    with pytest.raises(ValueError, match="fraction_bits must be one number, or 3, one for each layer, not 2"):
        quantize(folded, name="n", fraction_bits=[8, 8])


@pytest.mark.parametrize(("architecture", "bits"), [("48-9-9-9-10", 8), ("48-9-9-9-9-10", 20)])
def test_deep_networks_have_finer_defaults(make_network, architecture, bits):
    integers = to_integers(make_network(architecture), CompileOptions(), name="n")
    assert {layer.fraction_bits for layer in integers.layers} == {bits}
    given = to_integers(make_network(architecture), CompileOptions(fraction_bits=7), name="n")
    assert {layer.fraction_bits for layer in given.layers} == {7}
    trained = to_integers(make_network(architecture, fraction_bits=9), CompileOptions(), name="n")
    assert {(layer.fraction_bits, layer.multiplier_bits) for layer in trained.layers} == {(9, 12)}
