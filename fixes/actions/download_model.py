"""download-model {repo: id, to: dir}: what is missing or damaged in `to` is fetched near it, proven, then moved in.

The staging directory near `to`, on its file system, stays when a download is cut off or taken back: the next one goes
on from there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fixes import hub, moves
from fixes.change import Change
from fixes.context import Args, Context
from fixes.door import Door, Why
from fixes.errors import Refused
from fixes.journal import STATE
from fixes.moves import Move


def claims(args: Args, context: Context) -> dict[tuple[str, str], Any]:
    return {(str(context.path(args["to"])), "(model)"): args["repo"]}


def preview(args: Args, context: Context) -> Change | None:
    if context.target.offline:
        raise Refused(f"{args['repo']} is not downloaded while --offline is given.")
    to = context.path(args["to"])
    if to.exists() and not to.is_dir():
        raise Refused(f"{to} is a file, not a directory for a model.")
    shown = context.target.shown(to)
    return Change("download-model", shown, f"download {args['repo']} → {shown}", to, claims=claims(args, context))


def apply(change: Change, args: Args, door: Door, context: Context, why: Why) -> None:
    to = context.path(args["to"]).absolute()
    environ = context.target.environ
    listing = hub.find(str(args["repo"]), environ)
    missing = [file for file in listing.files if not file.is_at(to / file.name)]
    if not missing:
        return
    staging = _first_there(to.parent) / STATE / "downloads" / to.name
    hub.fetch(listing, missing, staging, environ)
    kept = to.parent / f".skyt1-doctor-{door.journal.id}"
    door.move(_moves(missing, to, staging, kept), why)


def _first_there(directory: Path) -> Path:
    """The directory, or the nearest one above it that exists: undo then leaves no parent that only the download made."""
    return next(above for above in (directory, *directory.parents) if above.is_dir())


def _moves(missing: list[hub.RemoteFile], to: Path, staging: Path, kept: Path) -> list[Move]:
    damaged = [to / file.name for file in missing if moves.exists(to / file.name)]
    out = [Move("out", path, kept / path.relative_to(to)) for path in damaged]
    return [*out, *(moves.coming_in(to / file.name, staging / file.name) for file in missing)]
