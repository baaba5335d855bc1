"""move-aside {path: p}: into the journal's quarantine; nothing is deleted."""

from __future__ import annotations

from typing import Any

from fixes import moves
from fixes.change import Change
from fixes.context import Args, Context
from fixes.door import Door, Why
from fixes.errors import Refused


def claims(args: Args, context: Context) -> dict[tuple[str, str], Any]:
    return {(str(context.path(args["path"])), ""): "(moved aside)"}


def preview(args: Args, context: Context) -> Change | None:
    path = context.path(args["path"])
    if not moves.exists(path):
        return None
    workdir = context.target.workdir.resolve()
    if path.resolve() == workdir or path.resolve() in workdir.parents:
        raise Refused(f"{path} holds the working directory; it is not moved.")
    shown = context.target.shown(path)
    what = f"{shown}/ (directory)" if path.is_dir() and not path.is_symlink() else shown
    return Change("move-aside", shown, f"{what} → quarantine", path, claims=claims(args, context))


def apply(change: Change, args: Args, door: Door, context: Context, why: Why) -> None:
    assert change.path is not None
    door.set_aside(change.path, why)
