"""The bound of NUMERICS.md holds for networks of every kind, and finds what no rounding explains."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lmht.gen.compile import fold_network
from lmht.gen.quantize import quantize
from lmht.gen.spike_interface import draw_frames, take_drawn_spikes
from lmht.sim.random_pytorch import random_convolutional, random_fully_connected
from lmht.sim.rounding_bound import check_bounds


@pytest.mark.parametrize("readout", ["mean", "spike-count"])
@pytest.mark.parametrize("coding", ["direct", "constant", "bernoulli"])
@pytest.mark.parametrize("make", [random_convolutional, random_fully_connected])
def test_integers_stay_within_the_bound(make, coding, readout):
    for seed in range(3):
        network, images = make(seed, coding=coding, readout=readout)
        folded = fold_network(network)
        frames = draw_frames(images, coding)
        report = check_bounds(take_drawn_spikes(network), folded, quantize(folded, name="n"), frames)
        assert report.outside == 0
        assert report.levels > 0
        assert report.logits == 200


@pytest.fixture(scope="module")
def case():
    network, images = random_convolutional(4)
    return network, fold_network(network), images


def change(integers, index, **changes):
    layers = list(integers.layers)
    layers[index] = replace(layers[index], **changes)
    return replace(integers, layers=tuple(layers))


def test_sound_integers_move_few_levels(case):
    network, folded, images = case
    report = check_bounds(network, folded, quantize(folded, name="n"), images)
    assert report.outside == 0
    assert 0 < report.moved < 0.01 * report.levels


@pytest.mark.parametrize("index", [0, 1])
def test_wrong_bias_is_found(case, index):
    network, folded, images = case
    integers = quantize(folded, name="n")
    bias = integers.layers[index].bias.copy()
    bias[:, 0] += 2 ** integers.layers[index].fraction_bits // 2
    assert check_bounds(network, folded, change(integers, index, bias=bias), images).outside > 0


def test_wrong_multiplier_is_found(case):
    network, folded, images = case
    integers = quantize(folded, name="n")
    multipliers = integers.layers[1].multipliers.copy()
    multipliers[:, :, 1] //= 2
    assert check_bounds(network, folded, change(integers, 1, multipliers=multipliers), images).outside > 0


def test_wrong_logit_is_found(case):
    network, folded, images = case
    integers = quantize(folded, name="n")
    bias = integers.layers[-1].bias + int(0.2 / integers.logit_scale)
    report = check_bounds(network, folded, change(integers, -1, bias=bias), images)
    assert report.outside == 200


def test_fewer_bits_widen_the_bound(case):
    network, folded, images = case
    fine, coarse = (
        check_bounds(network, folded, quantize(folded, name="n", fraction_bits=bits), images)
        for bits in (12, 4)
    )
    assert fine.outside == coarse.outside == 0
    assert fine.moved < coarse.moved
    assert fine.largest < coarse.largest


def test_images_come_from_the_seed():
    (_, first), (_, second) = random_convolutional(7), random_convolutional(7)
    assert torch.equal(first, second)
    assert np.unique(first).size > 100
