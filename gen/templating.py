"""Text from the templates of ``gen/templates``."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from jinja2 import Environment, StrictUndefined

__all__ = ["render"]


@cache
def _environment() -> Environment:
    # Not HTML: nothing is escaped. An unknown name is an error, not an empty text.
    return Environment(
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )


def render(template: str, **values: object) -> str:
    """The template's text with `values` filled in."""
    text = (files("lmht.gen.templates") / template).read_text(encoding="utf-8")
    return _environment().from_string(text).render(**values)
