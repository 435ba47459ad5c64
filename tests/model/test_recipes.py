"""Recipes: those that come with lmht, the same numbers as ever, and one line for everything wrong in a file."""

from pathlib import Path

import pytest
import torch

from lmht.model import (
    DATASET_NAMES,
    ConvNetworkConfig,
    NetworkConfig,
    RecipeError,
    TrainingConfig,
    build_network,
    default_recipe,
    default_training_config,
    read_recipe,
    recipe_names,
)
from lmht.model.recipe_files import has_layer_widths

SHAPES = {
    "digits": ((1, 8, 8), 10),
    "mnist": ((1, 28, 28), 10),
    "fashion-mnist": ((1, 28, 28), 10),
    "cifar10": ((3, 32, 32), 10),
    "cifar100": ((3, 32, 32), 100),
    "tiny-imagenet": ((3, 64, 64), 200),
    "image-folder": ((3, 32, 32), 2),
    "n-mnist": ((2, 34, 34), 10),
    "dvs-cifar10": ((2, 64, 64), 10),
}

# What trained the runs that there are: a folder goes on only with exactly these.
MNIST = {
    "epochs": 40,
    "learning_rate": 4e-3,
    "weight_decay": 1e-2,
    "augment": "shift",
    "validation_fraction": 1 / 12,
}
CIFAR = {
    "epochs": 100,
    "optimizer": "sgd",
    "learning_rate": 0.1,
    "weight_decay": 5e-4,
    "augment": "crop-flip",
    "shift_pixels": 4,
    "validation_fraction": 0.02,
}
DEFAULTS = [
    (
        "digits",
        None,
        {
            "epochs": 60,
            "batch_size": 64,
            "learning_rate": 5e-3,
            "weight_decay": 1e-2,
            "label_smoothing": 0.05,
        },
    ),
    ("mnist", None, MNIST),
    ("mnist", "784-300-10", MNIST),
    ("mnist", "lenet", MNIST | {"epochs": 12}),
    ("mnist", "mynet.py:build", MNIST | {"epochs": 12}),
    ("fashion-mnist", None, MNIST),
    ("fashion-mnist", "mnist-cnn", MNIST | {"epochs": 12}),
    ("cifar10", "resnet20", CIFAR),
    ("cifar100", None, CIFAR),
    ("image-folder", "vgg11", CIFAR | {"augment": "none"}),
    ("stripes", None, MNIST),
]


@pytest.mark.parametrize(("dataset", "net", "fields"), DEFAULTS)
def test_defaults_are_what_they_were(dataset, net, fields):
    assert default_training_config(dataset, net) == TrainingConfig(**fields)
    assert default_recipe(dataset, net).data == dataset


@pytest.mark.parametrize("dataset", DATASET_NAMES)
def test_every_data_set_has_a_recipe_of_its_own(dataset):
    assert read_recipe(default_recipe(dataset).name).data in (dataset, "cifar10")
    assert any(read_recipe(name).data == dataset for name in recipe_names())


@pytest.mark.parametrize("name", recipe_names())
def test_network_of_the_recipe_suits_its_data_set(name):
    recipe = read_recipe(name)
    assert recipe.name == name
    shape, classes = SHAPES[recipe.data]
    activation = {"activation": "lmht" if recipe.method == "stbp" else "qcfs"}
    fields = {**recipe.network} | activation | {"input_shape": shape}
    net = fields.pop("net")
    if has_layer_widths(net):
        config = NetworkConfig(architecture=net, **fields)
        assert config.widths[-1] == classes
    else:
        config = ConvNetworkConfig(net=net, classes=classes, **{"width": 0.125} | fields)
    network = build_network(config).eval()
    images = (2, config.steps, *shape) if config.coding == "frames" else (2, *shape)
    with torch.no_grad():
        assert network(torch.rand(images)).shape == (2, classes)


def test_recipe_of_the_paper():
    """Section 5 and appendix B: SGD, cosine annealing, AutoAugment, Cutout, L = 2, T = 2."""
    recipe = read_recipe("cifar10")
    assert recipe.training == TrainingConfig(
        epochs=300,
        batch_size=128,
        optimizer="sgd",
        learning_rate=0.1,
        momentum=0.9,
        weight_decay=5e-4,
        augment="crop-flip",
        shift_pixels=4,
        auto_augment="cifar10",
        cutout=16,
        validation_fraction=0.02,
    )
    assert recipe.network == {"net": "resnet18", "levels": 2, "steps": 2, "weight_bits": 8}
    hybrid = read_recipe("cifar10-hybrid")
    assert (hybrid.method, hybrid.training, hybrid.network) == ("hybrid", recipe.training, recipe.network)
    assert (hybrid.fine_tuning.epochs, recipe.fine_tuning.epochs) == (30, None)


GOOD = """
data = "digits"
method = "hybrid"

[network]
net = "64-20-10"
levels = 4
leak = 1

[training]
epochs = 7
mixup = 0.2

[fine_tuning]
learning_rate = 1e-4
"""


def write(folder, text):
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def error_of(path):
    with pytest.raises(RecipeError) as caught:
        read_recipe(str(path))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def test_file_of_the_user(tmp_path):
    recipe = read_recipe(str(write(tmp_path, GOOD)))
    assert (recipe.name, recipe.data, recipe.method) == ("mine", "digits", "hybrid")
    assert recipe.network == {"net": "64-20-10", "levels": 4, "leak": 1}
    assert recipe.training == TrainingConfig(epochs=7, mixup=0.2)
    assert (recipe.fine_tuning.epochs, recipe.fine_tuning.learning_rate) == (None, 1e-4)


def test_data_set_alone_is_enough(tmp_path):
    recipe = read_recipe(str(write(tmp_path, 'data = "cifar10"')))
    assert (recipe.method, recipe.network, recipe.training) == ("stbp", {}, TrainingConfig())


def test_network_of_the_user_lies_beside_the_recipe(tmp_path):
    path = write(tmp_path, 'data = "digits"\n[network]\nnet = "nets/mine.py:build"')
    assert read_recipe(str(path)).network["net"] == str(tmp_path / "nets" / "mine.py:build")


DAMAGES = [
    ('data = "digits"', "", "data: Field required"),
    ('"digits"', '"imagenet"', f"data must be one of {', '.join(DATASET_NAMES)}, not 'imagenet'"),
    ('"hybrid"', '"adam"', "method: Input should be 'stbp', 'qcfs' or 'hybrid', not 'adam'"),
    (
        "method",
        "way",
        "way is no field of a recipe; there are data, fine_tuning, method, network, training",
    ),
    ("epochs = 7", "epochs = 0", "training.epochs: Input should be greater than or equal to 1, not 0"),
    ("epochs = 7", 'epochs = "7"', "training.epochs: Input should be a valid integer, not '7'"),
    (
        "mixup = 0.2",
        "mixup = 0.2\nloss = 'squared-hinge'",
        "training: mixup must be 0 with loss squared-hinge, not 0.2",
    ),
    ("1e-4", "-1.0", "fine_tuning.learning_rate: Input should be greater than 0, not -1.0"),
    (
        "learning_rate",
        "momentum",
        "fine_tuning.momentum is no field of a recipe; there are epochs, learning_rate",
    ),
    ("levels = 4", "levels = 0", "network.levels: Input should be greater than or equal to 1, not 0"),
    ("levels = 4", "weight_bits = 9", "network.weight_bits: Input should be less than or equal to 8, not 9"),
    ("levels = 4", "width = 0.5", "network.width must be left out with layer widths, not 0.5"),
    ("leak = 1", "leak = 0.5", "network.leak must be learned or 1.0 with activation qcfs, not 0.5"),
    ('"64-20-10"', "64", "network.net must be a text, not 64"),
    ('"64-20-10"', '"64-x-10"', "network.net: net '64-x-10' must be numbers joined by '-', not contain 'x'"),
    ("[training]", "[training", "Expected ']' at the end of a table declaration (at line 10, column 10)"),
    ("[training]\n", "[network.training]\n", "network.training is no field of a recipe; there are coding, "),
]


@pytest.mark.parametrize(("old", "new", "message"), DAMAGES)
def test_mistake_in_a_file(tmp_path, old, new, message):
    assert old in GOOD
    assert error_of(write(tmp_path, GOOD.replace(old, new, 1))).startswith(message)


def test_quanta_need_qcfs(tmp_path):
    path = write(tmp_path, 'data = "digits"\n[network]\nquanta = 4')
    assert error_of(path) == "network.quanta must be None with activation lmht, not 4"


def test_fine_tuning_needs_hybrid(tmp_path):
    path = write(tmp_path, GOOD.replace('"hybrid"', '"stbp"'))
    assert error_of(path) == "fine_tuning must be left out with method stbp"


def test_table_that_is_none(tmp_path):
    assert error_of(write(tmp_path, 'data = "digits"\ntraining = 3')).startswith(
        "training: Input should be a valid"
    )
    assert error_of(write(tmp_path, 'data = "digits"\nnetwork = 3')).startswith(
        "network: Input should be a valid"
    )


def test_file_that_cannot_be_read(tmp_path):
    assert error_of(tmp_path / "none.toml") == "no such file"
    (tmp_path / "folder.toml").mkdir()
    assert error_of(tmp_path / "folder.toml") == "cannot be read (Is a directory)"
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    assert error_of(tmp_path / "bytes.toml") == "cannot be read (not UTF-8)"


def test_unknown_name():
    with pytest.raises(RecipeError) as caught:
        read_recipe("cifar")
    assert (
        str(caught.value) == f"recipe must be one of {', '.join(recipe_names())}, or FILE.toml, not 'cifar'"
    )


def test_example_of_the_page(tmp_path):
    page = (Path(__file__).parents[2] / "docs/training.md").read_text(encoding="utf-8")
    recipe = read_recipe(str(write(tmp_path, page.partition("```toml\n")[2].partition("```")[0])))
    assert (recipe.data, recipe.method, recipe.network["net"]) == ("digits", "hybrid", "64-32-10")
    assert recipe.training == TrainingConfig(epochs=20, learning_rate=5e-3, cutout=2)
    assert recipe.fine_tuning.epochs == 3
