"""What was changed, and how it is taken back: history, undo, and the recovery of runs that were cut off."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from packaging.utils import canonicalize_name

from fixes import files, journal, lock, moves
from fixes.door import Door, Why
from fixes.errors import ChangedAgain, EditedSince, FixError, Unknown
from fixes.journal import Action, Journal
from fixes.moves import Move
from fixes.packages import read_site


@dataclass(frozen=True)
class Entry:
    """One run that changed something. `status`: applied, undone or interrupted; `changes`: kind, target, diff, state."""

    id: str
    created: str
    status: str
    command: str
    outcomes: tuple[dict[str, Any], ...]
    changes: tuple[dict[str, Any], ...]
    directory: Path


@dataclass(frozen=True)
class Undone:
    """What an undo did, or with dry_run would do. `status`: undone, planned or nothing to do."""

    id: str | None
    status: str
    changes: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()


def history(workdir: Path) -> list[Entry]:
    """Every run that changed something, oldest first."""
    return [_entry(log) for log in journal.all_of(workdir) if log.actions()]


def _entry(log: Journal) -> Entry:
    status = "undone" if log.undone else "interrupted" if log.interrupted else "applied"
    return Entry(
        id=log.id,
        created=str(log.header.get("created", "")),
        status=status,
        command=str(log.header.get("command", "")),
        outcomes=tuple({k: v for k, v in o.items() if k != "event"} for o in log.outcomes),
        changes=tuple(_shown(action) for action in log.actions()),
        directory=log.directory,
    )


def _shown(action: Action) -> dict[str, Any]:
    intent = action.intent
    return {
        "cause": intent["cause"],
        "fix": intent["fix"],
        "kind": intent["kind"],
        "target": intent["target"],
        "diff": intent["shown"],
        "state": action.state,
    }


def pending(workdir: Path, prefix: Path | None = None) -> list[Entry]:
    """Runs that were cut off and not yet recovered, of this working directory and, with `prefix`, of any other that was
    changing the packages of that environment. Those whose lock is held are still at work and left out."""
    return [_entry(log) for log in _cut(workdir, prefix) if not _at_work(log)]


def _cut(workdir: Path, prefix: Path | None) -> list[Journal]:
    own = journal.all_of(workdir)
    others = journal.of_environment(prefix.resolve()) if prefix else []
    known = {log.directory.resolve() for log in own}
    return [log for log in [*own, *(o for o in others if o.directory not in known)] if log.interrupted]


def _at_work(log: Journal) -> bool:
    state = log.directory.parent.parent
    try:
        with FileLock(state / "lock").acquire(timeout=0):
            return False
    except Timeout:
        return lock.holder_lives(state)
    except OSError:  # no permission to lock there: then it cannot be taken back from here either, but it can be told
        return False


def recover(workdir: Path, prefix: Path | None = None, command: str = "recover") -> list[str]:
    """Take back what cut-off runs left; a note for each. Raises LockHeld while another run is at work."""
    cut = _cut(workdir, prefix)
    if not cut:
        return []
    places = {log.directory.parent.parent for log in cut} | {journal.home(workdir)[0]}
    depots = {Path(e["directory"]).parent.parent for log in cut for e in log.events if e["event"] == "staging"}
    with lock.hold([*sorted(places), *sorted(depots - places)], command):
        return _take_back_cut(_cut(workdir, prefix))


def recover_locked(workdir: Path) -> list[str]:
    """`recover` of the working directory's own runs for a caller who holds the lock."""
    return _take_back_cut([log for log in journal.all_of(workdir) if log.interrupted])


def _take_back_cut(cut: list[Journal]) -> list[str]:
    notes = []
    for log in reversed(cut):
        some = any(a.state != "back" for a in _returnable(log))
        force = any(event["event"] == "undo" and event["force"] for event in log.events)
        notes += take_back_all(log, by="recovery", force=force)
        if some:
            notes.append(f"the run {log.id} had been cut off; its changes were taken back")
    return notes


def _returnable(log: Journal) -> list[Action]:
    """The actions that an undo takes back: not what a forced undo itself set aside."""
    return [action for action in log.actions() if not action.intent.get("part_of_undo")]


def take_back_all(log: Journal, by: str, force: bool = False) -> list[str]:
    """Take every action back, last first. What was edited since stays and is named; then the journal stays open to undo."""
    door, notes = Door(log), []
    for action in reversed(_returnable(log)):
        try:
            if force and "packages_before" in action.intent and action.state != "back":
                _clear_newer(log, action)
            door.take_back(action.number, force)
        except EditedSince as error:
            notes.append(str(error))
    if not notes:
        log.append("undone", by=by)
        drop_staging(log)
    elif not log.closed:
        log.append("close")
    return notes


def drop_staging(log: Journal) -> None:
    """Remove what an installer staged and nobody uses: downloads of ours, had again from the index."""
    for action in log.actions():
        if action.state == "back":
            Door(log).retire(action.number)
    used = {a.intent.get("depot") for a in log.actions() if a.state != "back"}
    for event in log.events:
        if event["event"] == "staging" and event["directory"] not in used:
            shutil.rmtree(Path(event["directory"]) / "staged", ignore_errors=True)
            if used <= {None}:
                (Path(event["directory"]).parent / journal.POINTER).unlink(missing_ok=True)
            for directory in (Path(event["directory"]), Path(event["directory"]).parent):
                with contextlib.suppress(OSError):  # something is kept in it
                    directory.rmdir()


def undo(workdir: Path, which: str = "last", dry_run: bool = False, force: bool = False) -> Undone:
    """Take one run back exactly. Raises Unknown for an unknown id, EditedSince when it would overwrite a later edit
    (nothing is changed then), LockHeld. With `force` later edits go to the quarantine instead."""
    # A run that was cut off before its first change has left an installer's staging at least.
    known = [log for log in journal.all_of(workdir) if log.actions() or log.interrupted]
    if which == "last":
        log = next((log for log in reversed(known) if not log.undone), None)
        if log is None:
            return Undone(None, "nothing to do")
    else:
        log = next((log for log in known if log.id == which), None)
        if log is None:
            raise Unknown(f"There is no journal {which}; see fix --history.")
    if log.undone:
        return Undone(log.id, "nothing to do")
    standing = [action for action in reversed(_returnable(log)) if action.state != "back"]
    shown = tuple(_shown(action) for action in standing)
    if not force:
        _check(log, standing, [other for other in known if other.id != log.id and not other.undone])
    if dry_run:
        return Undone(log.id, "planned", shown)
    state = log.directory.parent.parent
    prefixes = {Path(a.intent["depot"]).parent.parent for a in standing if "depot" in a.intent}
    with lock.hold([state, *sorted(prefixes)], f"fix --undo {log.id}"):
        log = Journal.load(log.directory)
        log.append("undo", force=force)
        notes = take_back_all(log, by="undo", force=force)
        if notes:
            raise FixError(" ".join(notes))
    return Undone(log.id, "undone", shown)


def _check(log: Journal, standing: list[Action], others: list[Journal]) -> None:
    """Raise EditedSince before anything is changed. Edits of one file by one run are followed back one by one."""
    door = Door(log)
    then: dict[str, str | None] = {}
    for action in standing:
        if action.intent["op"] != "write":
            with _later_fix_named(log, action, others):
                door.check_back(action.number)
            continue
        path, before, after = action.intent["path"], action.intent["before"], action.intent["after"]
        now = then[path] if path in then else files.sha256_file(Path(path))
        if now not in (before, after):
            with _later_fix_named(log, action, others):
                door.check_back(action.number)
        then[path] = before


@contextlib.contextmanager
def _later_fix_named(log: Journal, action: Action, others: list[Journal]) -> Iterator[None]:
    """What was changed since by a fix of ours is no edit of the user's: that fix is named instead."""
    try:
        yield
    except EditedSince as error:
        mine = _paths(log, action)
        found = [o for o in others if any(a.state != "back" and mine & _paths(o, a) for a in o.actions())]
        if not found:
            raise
        said = f"{action.intent['target']} was changed again by the fix {found[-1].id}; undo that one first."
        raise ChangedAgain(said, error.shown) from None


def _paths(log: Journal, action: Action) -> set[str]:
    """The files that an action changes."""
    if action.intent["op"] == "write":
        return {str(action.intent["path"])}
    listed = (log.directory / "moves" / f"{action.number:04d}.tsv").read_text(encoding="utf-8")
    return {str(move.target) for move in moves.from_text(listed) if move.way != "made"}


def _clear_newer(log: Journal, action: Action) -> None:
    """Before a forced undo of packages: set aside what was installed under the same names after the fix."""
    list_ = moves.from_text((log.directory / "moves" / f"{action.number:04d}.tsv").read_text(encoding="utf-8"))
    ours = {m.target.parent for m in list_ if m.way == "in"}
    infos = {m.target.parent for m in list_ if m.target.parent.name.endswith(".dist-info")}
    names = {canonicalize_name(info.name.removesuffix(".dist-info").rpartition("-")[0]) for info in infos}
    found = [dist for site in {info.parent for info in infos} for dist in read_site(site)]
    newer = {path for dist in found if dist.name in names and dist.info not in ours for path in dist.files()}
    if newer:
        depot, what = Path(action.intent["depot"]), "installed after the fix"
        prefix = depot.parent.parent.parent
        why = Why(action.cause, str(action.intent["fix"]), "move-aside", str(action.intent["target"]), what)
        list_ = [Move("out", path, depot / "newer" / path.relative_to(prefix)) for path in sorted(newer)]
        Door(log).move(list_, why, tidy_under=prefix, part_of_undo=True)
