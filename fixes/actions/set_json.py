"""set-json {file: path, values: {dotted.path: value}}: the smallest edit of a JSON file."""

from __future__ import annotations

from typing import Any

from fixes.change import Change, edit
from fixes.context import Args, Context
from fixes.edit import json_text


def claims(args: Args, context: Context) -> dict[tuple[str, str], Any]:
    return {(str(context.path(args["file"])), str(key)): value for key, value in args["values"].items()}


def preview(args: Args, context: Context) -> Change | None:
    path = context.path(args["file"])
    shown = context.target.shown(path)
    old = context.require(path)
    new = json_text.set_dotted(old, args["values"], shown)
    return edit("set-json", shown, path, old, new, claims(args, context))
