"""Coding ``frames``: every step of a network sees a frame of its own, and what differs in time alone is learned."""

import hashlib

import numpy as np
import pytest
import torch

from lmht.model import (
    ConvNetworkConfig,
    Dataset,
    Network,
    NetworkConfig,
    TrainingConfig,
    build_network,
    evaluate,
    load_checkpoint,
    load_dataset,
    train,
    training,
)
from lmht.model.batches import shuffled_batches, split_dataset
from lmht.model.steps import with_steps


def make_networks(steps=3, size=8, **changes):
    """A fully connected network and one with convolutions, both with frames and settled batch norms."""
    common = {"steps": steps, "coding": "frames", "mixing": "identity", "leak": 0.0, "theta": 0.25} | changes
    shape = (2, size, size)
    torch.manual_seed(0)
    networks = (
        Network(NetworkConfig(architecture=f"{2 * size * size}-12-3", input_shape=shape, **common)),
        build_network(ConvNetworkConfig(net="mnist-cnn", width=0.5, input_shape=shape, classes=3, **common)),
    )
    frames = torch.randint(0, 256, (16, steps, *shape), dtype=torch.uint8)
    for network in networks:
        for _ in range(60):
            network.train()(frames)
    return [network.eval() for network in networks]


@pytest.mark.parametrize("readout", ["mean", "last-step"])
def test_every_step_sees_its_own_frame(readout):
    """Without memory and mixing, a step is a network of one step that sees its frame alone."""
    frames = torch.randint(0, 256, (5, 3, 2, 8, 8), dtype=torch.uint8)
    for network in make_networks(readout=readout):
        single = with_steps(network, 1)
        with torch.no_grad():
            steps = [single(frames[:, step : step + 1]) for step in range(3)]
            found, as_currents = network(frames), network(frames.float() / 255)
        expected = torch.stack(steps).mean(dim=0) if readout == "mean" else steps[-1]
        assert not torch.allclose(steps[0], steps[-1], atol=1e-2)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        assert torch.equal(found, as_currents)


def test_equal_frames_are_an_image():
    """With memory and learned mixing too: the same frame at all steps is what coding ``direct`` gives."""
    image = torch.randint(0, 256, (5, 2, 8, 8), dtype=torch.uint8)
    frames = image[:, None].expand(-1, 3, -1, -1, -1)
    options = {"mixing": "learned", "leak": "learned"}
    for coded, direct in zip(
        make_networks(**options), make_networks(coding="frames", **options), strict=True
    ):
        if isinstance(direct, Network):
            direct.config = direct.config.model_copy(update={"coding": "direct"})
        else:
            direct.frames = False
        with torch.no_grad():
            torch.testing.assert_close(coded(frames), direct(image), rtol=1e-5, atol=1e-5)


def test_wrong_shape():
    for network in make_networks():
        for shape in ((4, 2, 8, 8), (4, 2, 2, 8, 8), (4, 3, 2, 8, 7)):
            with pytest.raises(
                ValueError, match=r"^images must have shape \(batch, 3, 2, 8, 8\), not "
            ) as caught:
                network(torch.zeros(shape))
            assert str(caught.value).endswith(str(shape))


def moving_dots(count=240, size=8):
    """Two classes that differ in time alone: a bar on the left and then on the right, or the other way round."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 2
    frames = 17 * torch.randint(0, 3, (count, 2, 2, size, size), generator=generator)
    for example, label in zip(frames, labels.tolist(), strict=True):
        for step in range(2):
            right = (step + label) % 2
            example[step, :, :, right * size // 2 : (right + 1) * size // 2] += 102
    frames, half = frames.to(torch.uint8), count * 2 // 3
    return Dataset(
        "dots", ("to the right", "to the left"), frames[:half], labels[:half], frames[half:], labels[half:]
    )


DOTS = moving_dots()
RECIPE = TrainingConfig(epochs=8, batch_size=16, learning_rate=1e-2, validation_fraction=0.2, augment="shift")
CARRIED = {"input_shape": (2, 8, 8), "steps": 2, "coding": "frames", "mixing": "identity", "leak": 1.0}
NETWORKS = [
    NetworkConfig(architecture="128-24-2", **CARRIED),
    ConvNetworkConfig(net="mnist-cnn", width=0.5, classes=2, **CARRIED),
]


@pytest.mark.parametrize("network", NETWORKS, ids=["dense", "convolutions"])
def test_what_differs_in_time_alone_is_learned(tmp_path, network):
    run = train(network, RECIPE, DOTS, tmp_path, progress=False)
    assert run.test_accuracy > 0.95
    loaded, again = load_checkpoint(tmp_path)
    assert again == run
    assert evaluate(loaded, DOTS.test_images, DOTS.test_labels) == run.test_accuracy
    reversed_in_time = evaluate(loaded, DOTS.test_images.flip(1), DOTS.test_labels)
    assert reversed_in_time < 0.05


def test_resumes_to_the_same_bits(tmp_path, monkeypatch):
    recipe = RECIPE.model_copy(update={"epochs": 3})
    train(NETWORKS[0], recipe, DOTS, tmp_path / "whole", progress=False)
    whole, calls = training.training_loss, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 12:
            raise KeyboardInterrupt
        return whole(*arguments)

    monkeypatch.setattr(training, "training_loss", interrupted)
    with pytest.raises(training.TrainingInterrupted):
        train(NETWORKS[0], recipe, DOTS, tmp_path / "resumed", progress=False)
    monkeypatch.undo()
    train(NETWORKS[0], recipe, DOTS, tmp_path / "resumed", progress=False)
    files = [
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("whole", "resumed")
    ]
    assert files[0] == files[1]


@pytest.mark.parametrize("augment", ["shift", "crop-flip"])
def test_all_frames_are_changed_alike(augment):
    image = torch.randint(1, 256, (20, 2, 8, 8), dtype=torch.uint8)
    frames = image[:, None].expand(-1, 3, -1, -1, -1).contiguous()
    data = Dataset("still", ("a",), frames, torch.zeros(20, dtype=torch.int64), frames[:0], torch.zeros(0))
    recipe = RECIPE.model_copy(update={"augment": augment, "shift_pixels": 2, "validation_fraction": 0.0})
    part = split_dataset(recipe, data, torch.device("cpu"))
    (batch, _), *_ = shuffled_batches(recipe, part, 1, torch.Generator().manual_seed(0))
    assert batch.shape == (16, 3, 2, 8, 8)
    assert torch.equal(batch, batch[:, :1].expand_as(batch))
    originals = {each.numpy().tobytes() for each in frames}
    changed = [np.rint(255 * each.numpy()).astype(np.uint8).tobytes() not in originals for each in batch]
    assert sum(changed) > 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"coding": "direct"}, "coding must be frames or mean-frames for data set dots, not direct"),
        ({"steps": 4}, "steps must be 2, the frames of data set dots, not 4"),
    ],
)
def test_network_must_suit_the_frames(tmp_path, changes, message):
    network = NETWORKS[0].model_copy(update=changes)
    with pytest.raises(ValueError, match=f"^{message}$"):
        train(network, RECIPE, DOTS, tmp_path, progress=False)


def test_images_have_no_frames(tmp_path):
    network = NetworkConfig(architecture="64-10", input_shape=(1, 8, 8), coding="frames")
    data = load_dataset("digits", steps=2)
    assert data.frames is None
    message = "^coding must be direct, constant or bernoulli for the images of data set digits, not frames$"
    with pytest.raises(ValueError, match=message):
        train(network, RECIPE, data, tmp_path, progress=False)


def test_network_of_ones_own(tmp_path):
    """The check of what a user's function returns shows it frames, too."""
    source = tmp_path / "mine.py"
    source.write_text(
        "from torch import nn\n"
        "def build(config):\n"
        "    return nn.Sequential(nn.Conv2d(2, 4, 3), config.make_neuron(), nn.Flatten(), nn.Linear(144, 2))\n"
    )
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    config = NETWORKS[1].model_dump() | {"net": "mine.py:build", "source_sha256": digest, "width": 1.0}
    network = build_network(ConvNetworkConfig.model_validate(config), tmp_path)
    assert network(DOTS.test_images).shape == (80, 2)
