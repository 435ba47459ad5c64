"""Table of the recipes that come with lmht, made from their files."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmht.model import Recipe

__all__ = ["markdown_table", "plain_table"]

COLUMNS = ("recipe", "data set", "network", "L, T", "weight bits", "training", "changes of the images")


def plain_table() -> list[str]:
    """Lines for a terminal."""
    rows = _rows()
    widths = [max(len(row[place]) for row in rows) for place in range(len(COLUMNS))]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def markdown_table() -> list[str]:
    """Lines for a page."""
    titles, *rows = (" | ".join(row) for row in _rows(mark="`"))
    return [f"| {line} |" for line in (titles, " | ".join("---" for _ in COLUMNS), *rows)]


def _rows(mark: str = "") -> list[tuple[str, ...]]:
    """Titles, and a row for every recipe; names stand between marks."""
    from lmht.model import read_recipe, recipe_names

    return [COLUMNS, *(_row(read_recipe(name), mark) for name in recipe_names())]


def _row(recipe: Recipe, mark: str) -> tuple[str, ...]:
    from lmht.model import ConvNetworkConfig

    def network(field: str) -> object:
        return recipe.network.get(field, ConvNetworkConfig.model_fields[field].default)

    training = recipe.training
    length = f"{training.epochs} epochs of {training.optimizer}"
    if recipe.method != "stbp":
        length = f"{recipe.method}: {length}"
    if recipe.fine_tuning.epochs is not None:
        length += f", {recipe.fine_tuning.epochs} of fine-tuning"
    return (
        f"{mark}{recipe.name}{mark}",
        f"{mark}{recipe.data}{mark}",
        f"{mark}{recipe.network['net']}{mark}",
        f"{network('levels')}, {network('steps')}",
        f"{network('weight_bits')}",
        length,
        ", ".join(_changes(recipe)) or "none",
    )


def _changes(recipe: Recipe) -> list[str]:
    training = recipe.training
    changes = [] if training.augment == "none" else [f"{training.augment} {training.shift_pixels}"]
    if training.auto_augment != "none":
        changes.append(f"AutoAugment ({training.auto_augment})")
    if training.cutout:
        changes.append(f"Cutout {training.cutout}")
    if training.mixup:
        changes.append(f"Mixup {training.mixup:g}")
    return changes
