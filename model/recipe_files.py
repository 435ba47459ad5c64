"""Recipes as files: data set, network, training and method in TOML, those that come with lmht and the user's own."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from .config import ConvNetworkConfig, NetworkConfig, explain_validation_error
from .data import DATASET_NAMES
from .own_network import is_own_net
from .records import Config
from .training_config import TrainingConfig

__all__ = [
    "FineTuning",
    "Recipe",
    "RecipeError",
    "default_recipe",
    "default_training_config",
    "has_layer_widths",
    "read_recipe",
    "recipe_names",
]

RECIPE_FOLDER = Path(__file__).parent / "recipes"

# By data set: for fully connected networks, and for those with convolutions.
_DEFAULTS = {
    "digits": ("digits", "digits"),
    "mnist": ("mnist-mlp", "mnist-cnn"),
    "fashion-mnist": ("fashion-mnist", "mnist-cnn"),
    "cifar10": ("cifar10-resnet20", "cifar10-resnet20"),
    "cifar100": ("cifar10-resnet20", "cifar10-resnet20"),
    "tiny-imagenet": ("tiny-imagenet", "tiny-imagenet"),
    "image-folder": ("image-folder", "image-folder"),
    "n-mnist": ("n-mnist-mlp", "n-mnist"),
    "dvs-cifar10": ("dvs-cifar10", "dvs-cifar10"),
}

# What the data set, the method and conversion say about a network.
_NOT_IN_FILES = {"input_shape", "classes", "source_sha256", "activation", "thetas", "initial_membranes"}


class RecipeError(ValueError):
    """A recipe is unknown, or its file cannot be read or says something wrong; the message names file and field."""


class FineTuning(Config):
    """Training after conversion; what is None is that of :func:`lmht.model.default_fine_tuning_config`.

    Attributes
    ----------
    epochs : int or None
        Passes over the training part.
    learning_rate : float or None
        Highest learning rate.
    """

    epochs: int | None = Field(default=None, ge=1, le=100_000)
    learning_rate: float | None = Field(default=None, gt=0)


class Recipe(Config):
    """What a file says.

    Attributes
    ----------
    name : str
        That of the file, without its end.
    data : str
        Data set, one of :data:`lmht.model.DATASET_NAMES`.
    method : {"stbp", "qcfs", "hybrid"}
        Training method.
    network : dict
        Fields of :class:`ConvNetworkConfig` or :class:`NetworkConfig` that the file gives, with ``net`` for the name,
        the layer widths or the file of the network; all others have their defaults. Without ``net``, it is that of
        :func:`default_recipe`.
    training : TrainingConfig
        With the defaults for what the file does not give.
    fine_tuning : FineTuning
        With method ``hybrid`` alone.
    """

    name: str
    data: str
    method: Literal["stbp", "qcfs", "hybrid"] = "stbp"
    network: dict[str, Any] = {}
    training: TrainingConfig = TrainingConfig()
    fine_tuning: FineTuning = FineTuning()


def recipe_names() -> tuple[str, ...]:
    """Names of the recipes that come with lmht, sorted."""
    return tuple(sorted(path.stem for path in RECIPE_FOLDER.glob("*.toml")))


def read_recipe(text: str) -> Recipe:
    """Read a recipe.

    Parameters
    ----------
    text : str
        One of :func:`recipe_names`, or the path of a file that ends in ``.toml``. The file of a network of the user's
        in it is looked for where that file is.

    Raises
    ------
    RecipeError
        If there is no such recipe, or its file cannot be read or has a wrong field or value.
    """
    if text.endswith(".toml"):
        return _read_file(Path(text))
    if text not in recipe_names():
        raise RecipeError(f"recipe must be one of {', '.join(recipe_names())}, or FILE.toml, not {text!r}")
    return _read_file(RECIPE_FOLDER / f"{text}.toml")


def default_recipe(dataset_name: str, net: str | None = None) -> Recipe:
    """Recipe for a data set, and for a network if it has convolutions.

    Parameters
    ----------
    dataset_name : str
        As in :func:`lmht.model.load_dataset`; other names have the recipes of ``mnist``.
    net : str, optional
        Layer widths, or name or file of a network with convolutions.
    """
    connected, convolutional = _DEFAULTS.get(dataset_name, _DEFAULTS["mnist"])
    recipe = read_recipe(connected if net is None or has_layer_widths(net) else convolutional)
    return recipe.model_copy(update={"data": dataset_name})


def default_training_config(dataset_name: str, net: str | None = None) -> TrainingConfig:
    """Training of :func:`default_recipe`."""
    return default_recipe(dataset_name, net).training


def has_layer_widths(net: str) -> bool:
    """Whether the name of a network are the widths of its layers, such as ``784-128-10``."""
    return net[:1].isdigit() and not is_own_net(net)


def _read_file(path: Path) -> Recipe:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such file") from None
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError:
        raise RecipeError(f"{path}: cannot be read (not UTF-8)") from None
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path}: {error}") from None
    _check_names(path, "", content, set(Recipe.model_fields) - {"name"})
    try:
        recipe = Recipe.model_validate({"name": path.stem} | content)
    except ValidationError as error:
        raise RecipeError(f"{path}: {explain_validation_error(error)}") from None
    if recipe.data not in DATASET_NAMES:
        raise RecipeError(f"{path}: data must be one of {', '.join(DATASET_NAMES)}, not {recipe.data!r}")
    if "fine_tuning" in content and recipe.method != "hybrid":
        raise RecipeError(f"{path}: fine_tuning must be left out with method {recipe.method}")
    network = recipe.network
    _check_network(path, network, recipe.method)
    if is_own_net(network.get("net", "")):
        network = network | {"net": str(path.parent / network["net"])}
    return recipe.model_copy(update={"network": network})


def _check_names(path: Path, table: str, content: dict[str, Any], allowed: set[str]) -> None:
    """Complain of a field that does not exist, and of one below it."""
    for name, value in content.items():
        if name not in allowed:
            raise RecipeError(
                f"{path}: {table}{name} is no field of a recipe; there are {', '.join(sorted(allowed))}"
            )
        below = _FIELDS.get(name) if not table else None
        if below is not None and isinstance(value, dict):
            _check_names(path, f"{name}.", value, below)


_FIELDS = {
    "network": set(ConvNetworkConfig.model_fields) - _NOT_IN_FILES,
    "training": set(TrainingConfig.model_fields),
    "fine_tuning": set(FineTuning.model_fields),
}


def _check_network(path: Path, network: dict[str, Any], method: str) -> None:
    """Check ranges, and which values go together, in a network whose images and classes are not known yet."""
    net = network.get("net", "resnet20")
    if not isinstance(net, str):
        raise RecipeError(f"{path}: network.net must be a text, not {net!r}")
    shape: dict[str, Any] = {"activation": "lmht" if method == "stbp" else "qcfs"}
    rest = {field: value for field, value in network.items() if field != "net"}
    try:
        if has_layer_widths(net):
            if "width" in network:
                raise RecipeError(
                    f"{path}: network.width must be left out with layer widths, not {network['width']}"
                )
            first = net.partition("-")[0]
            pixels = int(first) if first.isdigit() and len(first) < 9 else 1
            NetworkConfig.model_validate({"architecture": net, "input_shape": (1, 1, pixels)} | shape | rest)
            return
        if is_own_net(net):
            shape |= {"net": "own.py:build", "source_sha256": "0" * 64}
        else:
            shape |= {"net": net}
        ConvNetworkConfig.model_validate({"input_shape": (1, 1, 1), "classes": 1} | shape | rest)
    except ValidationError as error:
        # In a file, both kinds of network have a net.
        message = explain_validation_error(error).replace("architecture", "net")
        raise RecipeError(f"{path}: network.{message}") from None
