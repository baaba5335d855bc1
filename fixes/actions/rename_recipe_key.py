"""rename-recipe-key {old: a, new: b}: the value stays."""

from __future__ import annotations

from typing import Any

from fixes.change import Change, edit
from fixes.context import Args, Context
from fixes.edit import yaml_text


def claims(args: Args, context: Context) -> dict[tuple[str, str], Any]:
    scope = str(context.target.recipe)
    return {(scope, args["old"]): "(renamed)", (scope, args["new"]): f"(value of {args['old']})"}


def preview(args: Args, context: Context) -> Change | None:
    path, shown = context.target.recipe, context.target.shown(context.target.recipe)
    old = context.require(path)
    new = yaml_text.rename(old, args["old"], args["new"], shown)
    return edit("rename-recipe-key", shown, path, old, new, claims(args, context))
