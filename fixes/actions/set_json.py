"""set-json {file: path, values: {dotted.path: value}, remove: [dotted.path]}: the smallest edit of a JSON file."""

from __future__ import annotations

from typing import Any

from fixes.change import Change, edit
from fixes.context import Args, Context
from fixes.edit import json_text


def claims(args: Args, context: Context) -> dict[tuple[str, str], Any]:
    scope = str(context.path(args["file"]))
    removed = {(scope, str(key)): "(removed)" for key in args.get("remove", ())}
    return {(scope, str(key)): value for key, value in args["values"].items()} | removed


def preview(args: Args, context: Context) -> Change | None:
    path = context.path(args["file"])
    shown = context.target.shown(path)
    old = context.require(path)
    new = json_text.set_dotted(old, args["values"], shown)
    for key in args.get("remove", ()):
        new = json_text.unset_path(new, json_text.split(str(key)), shown)
    return edit("set-json", shown, path, old, new, claims(args, context))
