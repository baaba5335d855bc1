"""Files moved as one action: the old ones out into keeping, the new ones in from a staging place. Only renames.

Packages, downloaded models and things set aside change this way: everything is complete on the same file system
before the first rename, so nothing can run out of space half way, and the state of each file can be told from where it
lies. The list is on disk before the first rename:

    out <TAB> target <TAB> kept
    in <TAB> target <TAB> staged <TAB> size <TAB> mtime_ns      ("-" for what is no regular file)
    made <TAB> directory                                        (missing before, so empty again after taking back)
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fixes import crashpoint, files
from fixes.errors import EditedSince, Refused


@dataclass(frozen=True)
class Move:
    """`way` is out (target → place), in (place → target) or made (a directory that was missing; `place` is unused).

    `size` and `mtime_ns` of what comes in tell later whether it was edited.
    """

    way: str
    target: Path
    place: Path = Path()
    size: int | None = None
    mtime_ns: int | None = None


def coming_in(target: Path, staged: Path) -> Move:
    status = staged.lstat()
    regular = stat.S_ISREG(status.st_mode)
    return Move("in", target, staged, status.st_size if regular else None, status.st_mtime_ns if regular else None)


def with_made(moves: list[Move]) -> list[Move]:
    """The list with the directories that carrying it out will make, outermost first."""
    missing: set[Path] = set()
    for parent in {move.target.parent for move in moves if move.way == "in"}:
        if parent not in missing:
            missing.update(files.missing_parents(parent / "x"))
    return [*moves, *(Move("made", d) for d in sorted(missing, key=lambda d: len(d.parts)))]


def to_text(moves: Iterable[Move]) -> str:
    lines = []
    for move in moves:
        fields = [move.way, str(move.target), *([str(move.place)] if move.way != "made" else [])]
        if any("\t" in f or "\n" in f for f in fields):
            raise Refused(f"{str(move.target)!r} holds a tab or line break in its name; such a file is not moved.")
        if move.way == "in":
            fields += ["-" if v is None else str(v) for v in (move.size, move.mtime_ns)]
        lines.append("\t".join(fields))
    return "\n".join(lines) + "\n"


def from_text(text: str) -> list[Move]:
    found = []
    for line in text.splitlines():
        way, target, *rest = line.split("\t")
        size, mtime = (None if n == "-" else int(n) for n in rest[1:]) if len(rest) == 3 else (None, None)
        found.append(Move(way, Path(target), Path(rest[0]) if rest else Path(), size, mtime))
    return found


def exists(path: Path) -> bool:
    """Also true for a link that leads nowhere."""
    return os.path.lexists(path)


def forward(moves: list[Move], tidy_under: Path | None = None, staged: Path | None = None) -> None:
    """Carry the list out. Refuses before the first rename when something is in the way.

    Directories below `tidy_under` that become empty by what goes out are removed, as an installer does. `staged`: the
    place that mirrors `tidy_under` and holds nothing but what comes in; a directory of it whose target is missing is
    then renamed whole.
    """
    out = {m.target for m in moves if m.way == "out"}
    missing = {m.target for m in moves if m.way == "made"}
    for move in moves:
        if move.way != "in" or move.target.parent in missing:
            continue
        if exists(move.target) and move.target not in out and not _inside(move.target, out):
            raise Refused(f"{move.target} is in the way and belongs to nothing that this fix replaces.")
    for way in ("out", "in"):
        whole = _rename_whole(missing, staged, tidy_under) if way == "in" and staged and tidy_under else set()
        pairs = [
            (m.target, m.place) if way == "out" else (m.place, m.target)
            for m in moves
            if m.way == way and m.target.parent not in whole
        ]
        for parent in {to.parent for _, to in pairs}:
            parent.mkdir(parents=True, exist_ok=True)
        for source, to in pairs:
            crashpoint.here("move")
            os.rename(source, to)
        if way == "out" and tidy_under:
            remove_empty({m.target.parent for m in moves if m.way == "out"}, tidy_under)
    _sync(moves)


def _rename_whole(missing: set[Path], staged: Path, mirrored: Path) -> set[Path]:
    """Rename the outermost missing directories from staging in one step each; every directory that is there by that."""
    there: set[Path] = set()
    for directory in sorted(missing, key=lambda d: len(d.parts)):
        if directory.parent in there:
            there.add(directory)
        elif directory.parent not in missing and not exists(directory):
            source = staged / directory.relative_to(mirrored)
            if source.is_dir():
                directory.parent.mkdir(parents=True, exist_ok=True)  # tidied away when everything in it went out
                crashpoint.here("move")
                os.rename(source, directory)
                there.add(directory)
    return there


def edited(moves: list[Move]) -> list[str]:
    """What backward would take away although it is not what the fix put there, one line each.

    Bytecode is never an edit: Python writes it anew, unasked, at the next import.
    """
    said = []
    outs = {m.target: m.place for m in moves if m.way == "out" and not is_bytecode(m.target)}
    for move in moves:
        if move.way == "in" and not is_bytecode(move.target) and not exists(move.place):
            if not exists(move.target):
                said.append(f"{move.target} is gone")
            elif _changed(move):
                said.append(f"{move.target} was changed")
    ins = {m.target for m in moves if m.way == "in" and not exists(m.place)}
    said += [f"{t} was made" for t, kept in outs.items() if exists(kept) and exists(t) and t not in ins]
    return said


def _changed(move: Move) -> bool:
    """Whether what came in is no longer what was staged. A link is compared by nothing but its being there."""
    if move.size is None:
        return False
    status = move.target.lstat()
    return (status.st_size, status.st_mtime_ns) != (move.size, move.mtime_ns)


def is_bytecode(path: Path) -> bool:
    return path.suffix == ".pyc" and path.parent.name == "__pycache__"


def backward(moves: list[Move], aside: Path, force: bool = False) -> None:
    """Take the list back, from any state in between, so that it may be called again after a crash.

    Raises EditedSince when something was changed since; with `force` that is moved to `aside` instead.
    """
    if not force and (said := edited(moves)):
        more = f" and {len(said) - 1} more" if len(said) > 1 else ""
        raise EditedSince(f"{said[0]}{more} since the fix; it is left alone unless you confirm.", "\n".join(said))
    for move in reversed(moves):
        if move.way == "in":
            if not exists(move.place) and exists(move.target):
                crashpoint.here("move")
                if _changed(move) and not is_bytecode(move.target):
                    _set_aside(move.target, aside)  # staging may be dropped; what somebody wrote is kept
                else:
                    move.place.parent.mkdir(parents=True, exist_ok=True)
                    os.rename(move.target, move.place)
            _set_bytecode_aside(move.target, aside)
    for move in reversed(moves):
        if move.way == "made":
            for directory in (move.target / "__pycache__", move.target):
                with contextlib.suppress(
                    OSError
                ):  # somebody put something in, or it is gone: then it is not ours to remove
                    directory.rmdir()
    for move in reversed(moves):
        if move.way == "out" and exists(move.place):
            if exists(move.target):
                _set_aside(move.target, aside)
            move.target.parent.mkdir(parents=True, exist_ok=True)
            crashpoint.here("move")
            os.rename(move.place, move.target)
    _sync(moves)


def _inside(path: Path, directories: set[Path]) -> bool:
    return any(parent in directories for parent in path.parents)


def _set_bytecode_aside(target: Path, aside: Path) -> None:
    """Bytecode compiled from a file that is going would outlive it; Python makes it again when it is needed."""
    cache = target.parent / "__pycache__"
    if target.suffix == ".py" and cache.is_dir():
        compiled = re.compile(re.escape(target.stem) + r"\.[\w-]+(\.opt-\d)?\.pyc")
        for entry in cache.iterdir():
            if compiled.fullmatch(entry.name):
                _set_aside(entry, aside)


def _set_aside(path: Path, aside: Path) -> None:
    aside.mkdir(parents=True, exist_ok=True)
    name = f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:12]}-{path.name}"
    place = next(p for n in itertools.count() if not exists(p := aside / (f"{name}.{n}" if n else name)))
    os.rename(path, place)


def remove_empty(directories: set[Path], under: Path) -> None:
    """Remove directories below `under` that nothing is left in, and their parents that become empty by that. The place
    of an environment's packages itself stays: without it the interpreter would look for packages elsewhere."""
    for directory in sorted(directories, key=lambda d: len(d.parts), reverse=True):
        current = directory
        while under in current.parents and not current.name.endswith("-packages"):
            try:
                current.rmdir()
            except OSError:  # not empty, or gone already: either is where this ends
                break
            current = current.parent


def _sync(moves: list[Move]) -> None:
    """Bring the renames to disk, and the content of what came in: only after that may the journal say done. Before it
    a power cut is taken back, for which nothing but what was there before is needed."""
    names = {os.path.dirname(p) for m in moves if m.way != "made" for p in (m.target, m.place)}
    files.sync_moved({Path(name) for name in names}, [m.target for m in moves if m.way == "in"])
