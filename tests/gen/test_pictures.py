"""The picture: its numbers, its bytes, and networks of other shapes."""

import matplotlib.image
import numpy as np
import pytest
import torch

from lmht.gen.pictures import confusion_matrix, draw_picture, save_picture
from lmht.sim.golden import GoldenModel
from lmht.sim.random_conv_networks import random_conv_network
from lmht.sim.random_networks import random_images, random_network

CLASSES = ("cat", "dog", "eel", "fox")


@pytest.fixture(scope="module")
def example(small_network):
    """Images of the small network, labels, and its golden results."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (20, 1, 4, 4), generator=generator, dtype=torch.uint8).numpy()
    golden = GoldenModel(small_network).run(images, keep_levels=True)
    predictions = golden.predictions.numpy()
    labels = predictions.copy()
    labels[0] = (labels[0] + 1) % 4
    return images, labels, golden, predictions


def test_confusion_matrix_counts_by_label_and_class():
    labels, predictions = np.array([0, 0, 1, 2, 2, 2]), np.array([0, 1, 1, 2, 2, 0])
    assert confusion_matrix(labels, predictions, 3).tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 2]]


def test_picture_shows_one_image_layer_by_layer(example):
    images, labels, golden, predictions = example
    figure = draw_picture(images, labels, golden, predictions, CLASSES, levels=15)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[0] == "Pixels"
    assert titles[1] == "Layer 0"
    assert titles[2:] == ["Logits", "All 20 images: 95.00% right"]
    # The first image is wrong on purpose: the second is the first one that is right.
    chosen = 1
    assert f"Image {chosen}, label {CLASSES[labels[chosen]]}" in figure.get_suptitle()
    assert figure.axes[0].get_xlabel() == f"{np.count_nonzero(images[chosen])} events"
    levels = golden.levels[0][:, chosen].numpy()
    shown = np.asarray(figure.axes[1].collections[0].get_array()).reshape(levels.T.shape)
    assert (shown == levels.T).all()
    bars = [bar.get_width() for bar in figure.axes[2].patches]
    assert bars == golden.logits[chosen].tolist()
    counts = sum(int(text.get_text()) for text in figure.axes[3].texts)
    assert counts == 20


def test_maps_are_drawn_step_by_step_with_their_channels_added():
    rng = np.random.default_rng(2)
    network = random_conv_network(rng, hidden_layers=(2, 2), residuals=False, pooling=False)
    images = random_images(rng, 6, network.input_shape, density=0.6)
    golden = GoldenModel(network).run(images, keep_levels=True)
    shapes = [layer.shape for layer in network.layers[:-1]]
    assert max(height * width for _, height, width in shapes) > 1
    predictions = golden.predictions.numpy()
    names = tuple(map(str, range(network.classes)))
    figure = draw_picture(images, predictions, golden, predictions, names, levels=4, shapes=shapes, image=4)
    for axes, levels, (channels, height, width) in zip(figure.axes[1:], golden.levels, shapes, strict=False):
        if height * width == 1:
            continue
        maps = levels[:, 4].reshape(-1, height, width, channels).sum(dim=3)
        shown = np.ma.filled(axes.images[0].get_array(), np.nan)
        for step, expected in enumerate(maps):
            first = step * (height + 1)
            assert (shown[first : first + height] == expected.numpy()).all()


def test_same_input_gives_the_same_bytes(example, tmp_path):
    images, labels, golden, predictions = example
    for name in ("one.png", "folder/two.png"):
        save_picture(tmp_path / name, images, labels, golden, predictions, CLASSES, levels=15, image=3)
    one, two = (tmp_path / name for name in ("one.png", "folder/two.png"))
    assert one.read_bytes() == two.read_bytes()
    assert matplotlib.image.imread(one).shape[0] == 650


def test_two_hidden_layers_and_colour(tmp_path):
    network = random_network(
        np.random.default_rng(1), input_shape=(3, 4, 4), widths=(20, 90, 4), steps=6, levels=4
    )
    images = torch.randint(0, 256, (5, 3, 4, 4), dtype=torch.uint8).numpy()
    golden = GoldenModel(network).run(images, keep_levels=True)
    labels = np.full(5, 3)
    figure = draw_picture(images, labels, golden, labels, CLASSES, levels=4)
    assert [axes.get_title() for axes in figure.axes[1:3]] == ["Hidden layer 0", "Hidden layer 1"]


def test_nothing_right_shows_the_first_image(example):
    images, _, golden, predictions = example
    figure = draw_picture(images, (predictions + 1) % 4, golden, predictions, CLASSES, levels=15)
    assert figure.get_suptitle().startswith("Image 0, ")


def test_wrong_arguments(example, small_network):
    images, labels, golden, predictions = example
    with pytest.raises(ValueError, match=r"^image must be between 0 and 19, not 20$"):
        draw_picture(images, labels, golden, predictions, CLASSES, levels=15, image=20)
    without = GoldenModel(small_network).run(images)
    with pytest.raises(ValueError, match=r"^golden must hold the levels of every layer"):
        draw_picture(images, labels, without, predictions, CLASSES, levels=15)
