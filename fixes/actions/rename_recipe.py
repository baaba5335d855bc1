"""rename-recipe {to: path}: the recipe under a name that is read as one; the old file goes into the journal's quarantine."""

from __future__ import annotations

from typing import Any

from fixes import diff, files
from fixes.change import Change
from fixes.context import Args, Context
from fixes.door import Door, Why
from fixes.errors import Refused


def claims(args: Args, context: Context) -> dict[tuple[str, str], Any]:
    return {(str(context.path(args["to"])), "(recipe)"): str(context.target.recipe)}


def preview(args: Args, context: Context) -> Change | None:
    old, to = context.target.recipe, context.path(args["to"])
    shown = context.target.shown(to)
    if to.exists() and not old.exists():
        return None
    data = context.require(old)
    if to.exists():
        raise Refused(f"{shown} is there already; say which of the two is the recipe.")
    lines = f"{context.target.shown(old)} → {shown}\n{diff.of_text(None, data, shown)}"
    return Change("rename-recipe", shown, lines, to, data, None, claims(args, context))


def apply(change: Change, args: Args, door: Door, context: Context, why: Why) -> None:
    old = context.target.recipe
    data = context.require(old)
    door.write(context.path(args["to"]), data, None, why)
    if files.sha256_file(old) == files.sha256(data):
        door.set_aside(old, why)
