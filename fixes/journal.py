"""The journal: what was changed, with what is needed to take it back. One directory, one line per event, each synced.

    journal.jsonl   open · intent(action) · done(action) · back(action) · outcome · close · undo · undone
    before/NNNN     verbatim content before action NNNN (or its changed parts, where the file shows secrets)
    moves/NNNN.tsv  files moved by action NNNN
    undo.sh, undo/  the same undo as a POSIX shell script, for when the tool is gone
    quarantine/     what was taken out of the way

An intent is on disk before its change begins, `done` after the change is on disk. So at any moment the state of every
action can be told from the journal and the world.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import platformdirs

from fixes import crashpoint, files, shell

STATE = ".skyt1-doctor"
POINTER = "journal"  # in the environment, beside packages that were taken out: the directory of their journal


def homes(workdir: Path) -> tuple[Path, Path]:
    """Where journals of a working directory may lie: in it, or in the user's state directory when it is read-only."""
    name = hashlib.sha256(str(workdir.resolve()).encode()).hexdigest()[:16]
    return workdir / STATE, Path(platformdirs.user_state_dir("skyt1-doctor")) / name


def home(workdir: Path) -> tuple[Path, str | None]:
    """The state directory to write in, made if missing, and a note when it is not in the working directory."""
    beside, elsewhere = homes(workdir)
    try:
        beside.mkdir(parents=True, exist_ok=True)
        probe = beside / f".write-{os.getpid()}"
        probe.touch()
        probe.unlink()
        ignore = beside / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")
        return beside, None
    except OSError:
        try:
            elsewhere.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise files.sentence(error, f"make the journal directory {elsewhere}") from error
        return elsewhere, f"{workdir} is not writable: the journal is kept in {elsewhere}"


@dataclass
class Action:
    """One change through the door: its intent (as journalled) and how far it got: intent, done or back."""

    number: int
    intent: dict[str, Any]
    state: str = "intent"

    @property
    def cause(self) -> str:
        return str(self.intent.get("cause", ""))


@dataclass
class Journal:
    """A journal directory and its events in order."""

    directory: Path
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def id(self) -> str:
        return self.directory.name

    @classmethod
    def create(cls, state: Path, header: dict[str, Any]) -> Journal:
        """A new journal under `state`/journal. `header` must be free of secrets. Raises Failed."""
        name = time.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(2)
        directory = state / "journal" / name
        try:
            for part in ("before", "moves", "undo", "quarantine"):
                (directory / part).mkdir(parents=True)
            os.chmod(directory, 0o700)
            files.write_synced(directory / "undo.sh", shell.SCRIPT.encode(), 0o700)
            journal = cls(directory)
            journal.append("open", id=name, created=time.strftime("%Y-%m-%dT%H:%M:%S%z"), pid=os.getpid(), **header)
            for parent in (directory, directory.parent, state):
                files.sync_directory(parent)
        except OSError as error:
            raise files.sentence(error, f"start a journal in {directory}") from error
        return journal

    @classmethod
    def load(cls, directory: Path) -> Journal:
        """Read a journal back. A torn last line (power cut while writing it) counts as not written."""
        journal = cls(directory)
        lines = (directory / "journal.jsonl").read_text(encoding="utf-8").split("\n")
        for line in lines:
            with contextlib.suppress(ValueError):
                if line:
                    journal.events.append(json.loads(line))
        if (directory / "undone-by-shell").exists() and not journal.undone:
            journal.events.append({"event": "undone", "by": "undo.sh"})
        return journal

    def append(self, event: str, **fields: Any) -> None:
        """Write one event and bring it to disk before returning."""
        crashpoint.here("journal")
        entry = {"event": event, **fields}
        line = json.dumps(entry, ensure_ascii=False) + "\n"
        path = self.directory / "journal.jsonl"
        # A line torn by a power cut must not swallow the next one.
        torn = path.exists() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
        with path.open("a", encoding="utf-8") as stream:
            stream.write(("\n" if torn else "") + line)
            stream.flush()
            os.fsync(stream.fileno())
        self.events.append(entry)
        crashpoint.here("journal")

    @property
    def header(self) -> dict[str, Any]:
        return self.events[0] if self.events and self.events[0]["event"] == "open" else {}

    def actions(self) -> list[Action]:
        """Every action with how far it got, in order."""
        found: dict[int, Action] = {}
        for event in self.events:
            if event["event"] == "intent":
                found[event["action"]] = Action(event["action"], event)
            elif event["event"] in ("done", "back"):
                found[event["action"]].state = event["event"]
        return list(found.values())

    def _has(self, event: str) -> bool:
        return any(entry["event"] == event for entry in self.events)

    @property
    def closed(self) -> bool:
        return self._has("close")

    @property
    def undone(self) -> bool:
        return self._has("undone")

    @property
    def interrupted(self) -> bool:
        """The run that wrote it ended without closing it, or an undo began and did not end."""
        return not self.undone and (not self.closed or self._has("undo"))

    @property
    def outcomes(self) -> list[dict[str, Any]]:
        return [entry for entry in self.events if entry["event"] == "outcome"]


def all_of(workdir: Path) -> list[Journal]:
    """The journals of a working directory, oldest first."""
    found = [path.parent for state in homes(workdir) for path in (state / "journal").glob("*/journal.jsonl")]
    return [Journal.load(directory) for directory in sorted(found, key=_made)]


def of_environment(prefix: Path) -> list[Journal]:
    """The journals that say where the packages of an environment are kept, of whatever working directory."""
    found = []
    for pointer in sorted((prefix / STATE).glob(f"*/{POINTER}")):
        directory = Path(pointer.read_text(encoding="utf-8").strip())
        if (directory / "journal.jsonl").is_file():  # a working directory that was removed takes its journals along
            found.append(Journal.load(directory))
    return found


def _made(directory: Path) -> tuple[int, str]:
    """Order of making, also of two within one second: undo.sh is written once, when the journal is made."""
    return (directory / "undo.sh").stat().st_mtime_ns, directory.name
