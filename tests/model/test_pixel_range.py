"""Images of floating point whose pixels are not between 0 and 1 are refused where they come in."""

import pytest
import torch
from torch import nn

from lmht.model import (
    Network,
    NetworkConfig,
    SpikingNetwork,
    WindowLMHT,
    convert_module,
    evaluate,
)
from lmht.model.binary import BinaryNetwork
from lmht.model.network import check_pixels

ENTRIES = {
    "convert_module": lambda images: convert_module(
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)), images, 2, 2
    ),
    "SpikingNetwork": lambda images: spiking()(images),
    "spike_levels": lambda images: spiking().spike_levels(images),
    "Network": lambda images: connected()(images),
    "BinaryNetwork": lambda images: BinaryNetwork(connected())(images),
    "evaluate": lambda images: evaluate(
        spiking().train(), images, torch.zeros(len(images), dtype=torch.int64)
    ),
}


def spiking():
    module = nn.Sequential(nn.Conv2d(1, 2, 3), WindowLMHT(2, 2), nn.Flatten(), nn.Linear(8, 3))
    return SpikingNetwork(module, input_shape=(1, 4, 4), classes=3).eval()


def connected():
    return Network(NetworkConfig(architecture="16-4-3", input_shape=(1, 4, 4))).eval()


def pixels(*, faulty=None):
    images = torch.rand(4, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    if faulty is not None:
        images[2, 0, 1, 3] = faulty
    return images


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("faulty", [255.0, 1.01, -0.5, float("nan")])
def test_outside(entry, faulty):
    field = "calibration_images" if entry == "convert_module" else "images"
    with pytest.raises(ValueError, match="must be between 0 and 1") as caught:
        ENTRIES[entry](pixels(faulty=faulty))
    assert (
        str(caught.value)
        == f"{field} of floating point must be between 0 and 1, not {faulty:g}: divide by 255"
    )


@pytest.mark.parametrize("entry", ENTRIES)
def test_grey_levels_of_another_type(entry):
    with pytest.raises(
        ValueError, match=r"must be of uint8, or floating point from 0 to 1, not of torch\.int64"
    ):
        ENTRIES[entry](pixels(faulty=0.5).mul(255).long())


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("faulty", [0.0, 1.0])
def test_inside(entry, faulty):
    ENTRIES[entry](pixels(faulty=faulty))
    ENTRIES[entry](pixels(faulty=faulty).mul(255).to(torch.uint8))


def test_no_images_have_no_pixel_outside():
    check_pixels("images", torch.zeros(0, 1, 4, 4))
