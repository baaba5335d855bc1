"""set-dataset {file: dataset_info.json, name: entry, values: {…}}: registers a data set or changes its entry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fixes.change import Change, edit
from fixes.context import Args, Context
from fixes.edit import json_text


def claims(args: Args, context: Context) -> dict[tuple[str, str], Any]:
    scope = str(context.path(args["file"]))
    return {(scope, ".".join(path)): value for path, value in _leaves((str(args["name"]),), args["values"])}


def _leaves(path: tuple[str, ...], values: Mapping[str, Any]) -> list[tuple[tuple[str, ...], Any]]:
    found: list[tuple[tuple[str, ...], Any]] = []
    for key, value in values.items():
        inner = (*path, str(key).replace(".", "\\."))
        found += _leaves(inner, value) if isinstance(value, Mapping) else [(inner, value)]
    return found


def preview(args: Args, context: Context) -> Change | None:
    path = context.path(args["file"])
    shown = context.target.shown(path)
    old = context.read(path)
    start = b"{\n}\n" if old is None or not old.strip() else old
    new = json_text.merge(start, [str(args["name"])], args["values"], shown)
    return edit("set-dataset", shown, path, old, new, claims(args, context))
