"""unset-recipe {keys: [key]}: removes keys of the recipe with their lines."""

from __future__ import annotations

from typing import Any

from fixes.change import Change, edit
from fixes.context import Args, Context
from fixes.edit import yaml_text


def claims(args: Args, context: Context) -> dict[tuple[str, str], Any]:
    return {(str(context.target.recipe), str(key)): "(removed)" for key in args["keys"]}


def preview(args: Args, context: Context) -> Change | None:
    path, shown = context.target.recipe, context.target.shown(context.target.recipe)
    old = context.require(path)
    new = yaml_text.unset(old, [str(k) for k in args["keys"]], shown)
    return edit("unset-recipe", shown, path, old, new, claims(args, context))
