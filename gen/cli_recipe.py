"""Options of ``lmht train`` for recipes: which one, and what the command line says instead."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmht.gen.cli_options import DataName, MethodName

if TYPE_CHECKING:
    from lmht.model import ConvNetworkConfig, Dataset, NetworkConfig, OwnSource, Recipe, TrainingConfig

__all__ = [
    "AutoAugmentName",
    "RecipeName",
    "RecipeTable",
    "choose_recipe",
    "override_recipe",
    "override_training",
]


class AutoAugmentName(StrEnum):
    """Policies of AutoAugment, as in :class:`lmht.model.TrainingConfig`."""

    none = "none"
    cifar10 = "cifar10"
    imagenet = "imagenet"


def _show_table(wanted: bool) -> None:
    if wanted:
        from lmht.gen.recipe_table import plain_table

        for line in plain_table():
            typer.echo(line)
        raise typer.Exit


RecipeName = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE.toml",
        help="Recipe that says what no option does; --recipes lists those that come with lmht.  "
        "[default: the data set's]",
    ),
]
RecipeTable = Annotated[
    bool,
    typer.Option(
        "--recipes", callback=_show_table, is_eager=True, help="List the recipes that come with lmht."
    ),
]


def choose_recipe(name: str | None, data: DataName | None, net: str | None) -> Recipe:
    """The recipe named, for the data set given in its place if there is one; else the one of data set and network."""
    from lmht.model import default_recipe, read_recipe

    if name is None:
        return default_recipe(DataName.digits if data is None else data.value, net)
    recipe = read_recipe(name)
    return recipe if data is None else recipe.model_copy(update={"data": data.value})


def override_recipe(recipe: Recipe, method: MethodName | None, network: dict[str, Any]) -> Recipe:
    """The recipe with the method and the fields of the network that are given, those that are not None."""
    changes: dict[str, Any] = {"network": recipe.network | _given(network)}
    return recipe.model_copy(update=changes | _given({"method": method and method.value}))


def override_training(recipe: Recipe, fields: dict[str, Any]) -> TrainingConfig:
    """Its training with the fields that are given, those that are not None."""
    from lmht.model import TrainingConfig

    return TrainingConfig.model_validate(recipe.training.model_dump() | _given(fields))


def override_fine_tuning(
    recipe: Recipe, training: TrainingConfig, epochs: int | None, rate: float | None
) -> TrainingConfig | None:
    """Training after conversion; None for the methods without one."""
    if recipe.method != "hybrid":
        for name, value in (("fine_tuning_epochs", epochs), ("fine_tuning_rate", rate)):
            if value is not None:
                raise ValueError(f"{name} must be left out with method {recipe.method}, not {value}")
        return None
    from lmht.model import default_fine_tuning_config

    given = recipe.fine_tuning
    return default_fine_tuning_config(
        training,
        epochs=given.epochs if epochs is None else epochs,
        learning_rate=given.learning_rate if rate is None else rate,
    )


def make_network(
    recipe: Recipe, dataset: Dataset
) -> tuple[NetworkConfig | ConvNetworkConfig, OwnSource | None]:
    """Configuration of the recipe's network, and the file of a network of the user's.

    A recipe without a network has that of the data set's own recipe.
    """
    from lmht.model import (
        NET_NAMES,
        ConvNetworkConfig,
        NetworkConfig,
        default_recipe,
        is_own_net,
        read_own_source,
    )
    from lmht.model.recipe_files import has_layer_widths

    shape: dict[str, Any] = {
        "input_shape": dataset.input_shape,
        "activation": "lmht" if recipe.method == "stbp" else "qcfs",
        "coding": "direct" if dataset.frames is None else "frames",
    }
    neurons = {"net": default_recipe(recipe.data).network["net"]} | recipe.network
    net = neurons.pop("net")
    if has_layer_widths(net):
        if "width" in neurons:
            raise ValueError(f"width must be left out with layer widths as net, not {neurons['width']}")
        return NetworkConfig.model_validate(shape | neurons | {"architecture": net}), None
    if net not in NET_NAMES and not is_own_net(net):
        raise ValueError(
            f"net must be layer widths such as 784-128-10, one of {', '.join(NET_NAMES)}, or FILE.py:FUNCTION, "
            f"not {net!r}"
        )
    source = None if net in NET_NAMES else read_own_source(net)
    given = {
        "net": net if source is None else source.net,
        "source_sha256": None if source is None else source.sha256,
        "classes": len(dataset.classes),
    }
    return ConvNetworkConfig.model_validate(shape | neurons | given), source


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
