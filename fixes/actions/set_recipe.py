"""set-recipe {values: {key: value}}: the smallest edit of the recipe."""

from __future__ import annotations

from typing import Any

from fixes.change import Change, edit
from fixes.context import Args, Context
from fixes.edit import yaml_text


def claims(args: Args, context: Context) -> dict[tuple[str, str], Any]:
    return {(str(context.target.recipe), str(key)): value for key, value in args["values"].items()}


def preview(args: Args, context: Context) -> Change | None:
    path, shown = context.target.recipe, context.target.shown(context.target.recipe)
    old = context.require(path)
    return edit("set-recipe", shown, path, old, yaml_text.set_values(old, args["values"], shown), claims(args, context))
