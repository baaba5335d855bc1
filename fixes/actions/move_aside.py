"""move-aside {path: p or [p, …]}: into the journal's quarantine; nothing is deleted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fixes import moves
from fixes.change import Change
from fixes.context import Args, Context
from fixes.door import Door, Why
from fixes.errors import Refused


def _paths(args: Args, context: Context) -> list[Path]:
    given = args["path"]
    return [context.path(one) for one in ([given] if isinstance(given, (str, Path)) else given)]


def claims(args: Args, context: Context) -> dict[tuple[str, str], Any]:
    return {(str(path), ""): "(moved aside)" for path in _paths(args, context)}


def preview(args: Args, context: Context) -> Change | None:
    there = [path for path in _paths(args, context) if moves.exists(path)]
    workdir = context.target.workdir.resolve()
    for path in there:
        if path.resolve() == workdir or path.resolve() in workdir.parents:
            raise Refused(f"{path} holds the working directory; it is not moved.")
    if not there:
        return None
    shown = [context.target.shown(path) for path in there]
    said = [f"{s}/ (directory)" if p.is_dir() and not p.is_symlink() else s for p, s in zip(there, shown, strict=True)]
    lines = "\n".join(f"{what} → quarantine" for what in said)
    return Change("move-aside", ", ".join(shown), lines, there[0], claims=claims(args, context))


def apply(change: Change, args: Args, door: Door, context: Context, why: Why) -> None:
    for path in _paths(args, context):
        if moves.exists(path):
            door.set_aside(path, why)
