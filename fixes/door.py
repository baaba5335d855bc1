"""The one door: every change to the target goes through `Door.write` or `Door.move`, and back through `take_back`.

An edit: hash before, verbatim backup, intent journalled and synced, atomic replace beside the file (mode, owner,
extended attributes kept; a symbolic link is written through to its file), hash after, journalled as done. A move: see
`moves`. Nothing is deleted: what an undo takes away goes to the journal's quarantine.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from doctor import redact
from fixes import crashpoint, diff, files, moves, shell
from fixes.errors import EditedSince, Failed, WorldChanged
from fixes.journal import STATE, Action, Journal
from fixes.moves import Move


@dataclass(frozen=True)
class Why:
    """For whom an action is done, as the history shows it. `shown` is its diff, secrets masked."""

    cause: str
    fix: str
    kind: str
    target: str
    shown: str


class Door:
    """Writes for one journal. Hold the lock while using it."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    # -- forward -------------------------------------------------------------------------------------------------

    def write(self, path: Path, data: bytes, before: str | None, why: Why) -> int:
        """Make `data` the content of `path`, which must now have the hash `before` (None: must not exist).

        Returns the action's number. Raises WorldChanged or Failed, nothing changed.
        """
        real = path.resolve()
        if real.is_dir():
            raise Failed(f"{path} is a directory, not a file; nothing was changed.")
        _still(path, real, before)
        if before is not None and not os.access(real, os.W_OK):
            raise Failed(f"{path} is not writable; nothing was changed.")
        number = self._next()
        after = files.sha256(data)
        made = [str(d) for d in files.missing_parents(real)]
        try:
            pieces = self._back_up(real, data, before, number) if before is not None else None
            section = shell.write_section(number, real, before, after, pieces, made)
            self._intend(
                number, why, section, op="write", path=str(real), before=before, after=after, pieces=pieces, made=made
            )
            real.parent.mkdir(parents=True, exist_ok=True)
            crashpoint.here("write")
            like = real.stat() if before is not None else None
            files.replace(real, data, self._scratch(real, number), like, last_look=lambda: _still(path, real, before))
            crashpoint.here("write")
            if files.sha256_file(real) != after:
                raise WorldChanged(f"{path} was changed by somebody else while it was written; run fix again.")
            self.journal.append("done", action=number)
        except OSError as error:
            self._abandon(number)
            raise files.sentence(error, f"write {path}") from error
        except WorldChanged:
            if self._intended(number) and files.sha256_file(real) != after:  # theirs stays, ours is no more
                self._remove_made(made)
                self.journal.append("back", action=number)
                self.retire(number)
            raise
        return number

    def move(
        self, list_: list[Move], why: Why, tidy_under: Path | None = None, staged: Path | None = None, **more: Any
    ) -> int:
        """Carry out a list of moves as one action; `more` goes into the journal (packages before and after)."""
        number = self._next()
        list_ = moves.with_made(list_)
        text = moves.to_text(list_)
        try:
            files.write_synced(self._list(number), text.encode(), 0o600)
            self._intend(
                number,
                why,
                shell.moves_section(number),
                op="move",
                aside=str(self._aside(list_)),
                **more,
            )
            moves.forward(list_, tidy_under, staged)
            self.journal.append("done", action=number)
        except OSError as error:
            self._abandon(number)
            raise files.sentence(error, f"move files of {why.target}") from error
        except Exception:
            self._abandon(number)
            raise
        return number

    def set_aside(self, path: Path, why: Why) -> int:
        """Quarantine a file or directory: renamed into the journal, or beside itself when that is another disk."""
        quarantine = self._quarantine()
        try:
            near = quarantine.stat().st_dev == path.lstat().st_dev
        except OSError as error:
            raise files.sentence(error, f"move {path} aside") from error
        place = quarantine if near else path.parent / f".skyt1-doctor-{self.journal.id}"
        return self.move([Move("out", path, place / f"{self._next():04d}" / path.name)], why)

    # -- back ----------------------------------------------------------------------------------------------------

    def take_back(self, number: int, force: bool = False) -> bool:
        """Take one action back from whatever state it is in; False when there was nothing to take back.

        Raises EditedSince when the result was changed since; with `force` the edited version goes to the quarantine.
        """
        action = next(a for a in self.journal.actions() if a.number == number)
        if action.state == "back":
            self.retire(number)
            return False
        try:
            changed = (
                self._back_move(action, force) if action.intent["op"] == "move" else self._back_write(action, force)
            )
            self.journal.append("back", action=number)
            self.retire(number)
        except OSError as error:
            raise files.sentence(error, f"take back the change of {action.intent['target']}") from error
        return changed

    def check_back(self, number: int) -> None:
        """Raises EditedSince when `take_back` would, and changes nothing."""
        action = next(a for a in self.journal.actions() if a.number == number)
        if action.state == "back":
            return
        if action.intent["op"] == "move":
            if said := moves.edited(self._moves(number)):
                raise EditedSince(f"{said[0]} since the fix; it is left alone unless you confirm.", "\n".join(said))
            return
        path, before, after = Path(action.intent["path"]), action.intent["before"], action.intent["after"]
        now = files.sha256_file(path)
        if now not in (before, after):
            raise EditedSince(
                f"{action.intent['target']} was edited after the fix; the edit is left alone unless you confirm.",
                self._since(action, path),
            )

    def retire(self, number: int) -> None:
        """What is taken back, undo.sh must not take back again."""
        section = self.journal.directory / "undo" / f"{number:04d}.sh"
        with contextlib.suppress(FileNotFoundError):
            section.rename(section.with_suffix(".back"))

    def _back_write(self, action: Action, force: bool) -> bool:
        intent = action.intent
        path, before, after = Path(intent["path"]), intent["before"], intent["after"]
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._scratch(path, action.number))  # ours, left by a crash in the middle of writing
        now = files.sha256_file(path)
        if now == before:
            self._remove_made(intent["made"])
            return False
        if now != after:
            if not force:
                self.check_back(action.number)
            if intent["pieces"] is not None:
                raise EditedSince(
                    f"{intent['target']} was edited after the fix, and only the changed parts of it were kept because it "
                    "holds a secret; take the fix back by hand.",
                    str(intent["shown"]),
                )
        quarantine = self._quarantine()
        if before is None or (now not in (None, after)):
            shutil.copy2(path, quarantine / f"{action.number:04d}-undone")
        if before is None:
            path.unlink(missing_ok=True)  # its content is in the quarantine
            files.sync_directory(path.parent)
            self._remove_made(intent["made"])
            return True
        data = self._before(action, path)
        if files.sha256(data) != before:
            raise Failed(
                f"The kept copy of {intent['target']} in {self.journal.directory} is damaged; nothing was changed."
            )
        crashpoint.here("write")
        self._put_back(path, data, action)
        crashpoint.here("write")
        return True

    def _put_back(self, path: Path, data: bytes, action: Action) -> None:
        kept = self._kept(action.number)
        like = path.stat() if path.exists() else None
        times = (kept.stat().st_atime_ns, kept.stat().st_mtime_ns)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            files.replace(path, data, self._scratch(path, action.number), like, times)
        except OSError as error:
            if error.errno != errno.ENOSPC or action.intent["pieces"] is not None:
                raise
            if like is not None:  # a full disk must not keep a change in: the kept copy itself goes back
                os.chmod(kept, like.st_mode & 0o7777)
                os.chown(kept, like.st_uid, like.st_gid)
            os.replace(kept, path)

    def _back_move(self, action: Action, force: bool) -> bool:
        list_, aside = self._moves(action.number), Path(action.intent["aside"])
        moves.backward(list_, aside, force)
        moves.remove_empty({m.place.parent for m in list_ if m.way == "out"}, aside.parent)
        if aside.parent != self.journal.directory:
            with contextlib.suppress(OSError):  # something is kept in it
                aside.parent.rmdir()
        return True

    # -- parts ---------------------------------------------------------------------------------------------------

    def _next(self) -> int:
        return max((a.number for a in self.journal.actions()), default=0) + 1

    def _intend(self, number: int, why: Why, section: str, **fields: Any) -> None:
        files.write_synced(self.journal.directory / "undo" / f"{number:04d}.sh", section.encode(), 0o600)
        for part in ("before", "moves", "undo"):
            files.sync_directory(self.journal.directory / part)
        self.journal.append("intent", action=number, **redact.document(asdict(why)), **fields)

    def _abandon(self, number: int) -> None:
        """Back to before an action that failed half way. A journal that cannot be written is left for recovery."""
        if self._intended(number):
            with contextlib.suppress(OSError, Failed):
                self.take_back(number)
        else:
            (self.journal.directory / "undo" / f"{number:04d}.sh").unlink(missing_ok=True)

    def _intended(self, number: int) -> bool:
        return any(a.number == number for a in self.journal.actions())

    def _quarantine(self) -> Path:
        place = self.journal.directory / "quarantine"
        place.mkdir(exist_ok=True)
        return place

    def _kept(self, number: int) -> Path:
        return self.journal.directory / "before" / f"{number:04d}"

    def _list(self, number: int) -> Path:
        return self.journal.directory / "moves" / f"{number:04d}.tsv"

    def _moves(self, number: int) -> list[Move]:
        return moves.from_text(self._list(number).read_text(encoding="utf-8"))

    def _aside(self, list_: list[Move]) -> Path:
        """Where taking this list back puts what is in its way: on the file system of the list's own places."""
        place = next((m.place for m in list_ if m.way != "made"), self.journal.directory / "quarantine" / "x")
        ours = [parent for parent in place.parents if self.journal.id in parent.name]
        state = [parent / self.journal.id for parent in place.parents if parent.name == STATE]  # a download's staging
        return (*ours, *state, self.journal.directory)[0] / "aside"

    def _scratch(self, path: Path, number: int) -> Path:
        return path.with_name(f".{path.name[:100]}.skyt1-doctor-{self.journal.id}-{number}")

    def _remove_made(self, made: list[str]) -> None:
        for directory in reversed(made):
            with contextlib.suppress(OSError):  # somebody else put something in: then it stays
                Path(directory).rmdir()

    def _back_up(self, path: Path, data: bytes, before: str, number: int) -> list[list[Any]] | None:
        """Keep the content before: verbatim, or for a file that shows a secret only the parts that `data` lacks.

        The second form is a list of pieces [source, start, length] in bytes, source `after` (the file as the fix
        leaves it) or `kept` (before/NNNN); their concatenation is the content before.
        """
        kept = self._kept(number)
        if path.stat().st_size >= files.LINK_FROM:
            files.keep_copy(path, kept)
            return None
        old = path.read_bytes()
        if files.sha256(old) != before:
            raise _changed(path)
        if redact.text(text := old.decode("utf-8", errors="replace")) == text:
            files.write_synced(kept, old, 0o600)
            _keep_times(path, kept)
            return None
        pieces, literal = _pieces(old, data)
        files.write_synced(kept, literal, 0o600)
        _keep_times(path, kept)
        return pieces

    def _before(self, action: Action, path: Path) -> bytes:
        kept = self._kept(action.number).read_bytes()
        if action.intent["pieces"] is None:
            return kept
        sources = {"after": path.read_bytes(), "kept": kept}
        return b"".join(sources[source][start : start + length] for source, start, length in action.intent["pieces"])

    def _since(self, action: Action, path: Path) -> str:
        if not path.exists():
            return f"{path} is gone"
        if action.intent["pieces"] is not None or action.intent["before"] is None:
            return f"{path} differs from what the fix left there"
        return diff.of_text(path.read_bytes(), self._kept(action.number).read_bytes(), action.intent["target"])


def _keep_times(source: Path, kept: Path) -> None:
    status = source.stat()
    os.utime(kept, ns=(status.st_atime_ns, status.st_mtime_ns))


def _still(path: Path, real: Path, before: str | None) -> None:
    if files.sha256_file(real) != before:
        raise _changed(path)


def _changed(path: Path) -> WorldChanged:
    return WorldChanged(f"{path} was changed since the plan was made; run fix again to plan anew.")


def _pieces(before: bytes, after: bytes) -> tuple[list[list[Any]], bytes]:
    """How to make `before` from `after` and a literal: line by line, what both have in common is not kept."""
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    starts = [0]
    for line in new:
        starts.append(starts[-1] + len(line))
    pieces: list[list[Any]] = []
    literal = b""
    for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            pieces.append(["after", starts[j1], starts[j2] - starts[j1]])
        elif part := b"".join(old[i1:i2]):
            pieces.append(["kept", len(literal), len(part)])
            literal += part
    return pieces, literal
