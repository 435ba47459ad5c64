"""Put the table of the recipes that come with lmht into docs/training.md."""

from pathlib import Path

from readme_block import fill_block

from lmht.gen.recipe_table import markdown_table

if __name__ == "__main__":
    fill_block(Path(__file__).parent.parent / "docs/training.md", "recipes", markdown_table())
