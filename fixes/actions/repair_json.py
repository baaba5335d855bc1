"""repair-json {file: path}: what has only one reading is repaired, anything else refused with its line."""

from __future__ import annotations

from fixes.change import Change, edit
from fixes.context import Args, Context
from fixes.edit import json_repair


def preview(args: Args, context: Context) -> Change | None:
    path = context.path(args["file"])
    shown = context.target.shown(path)
    old = context.require(path)
    new, _ = json_repair.repair(old, shown)
    return edit("repair-json", shown, path, old, new, {})
