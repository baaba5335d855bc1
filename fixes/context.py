"""What an action sees while it is planned or applied: the target, the facts, and files with earlier actions applied."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from doctor.facts import Facts
from doctor.target import Target
from fixes import files
from fixes.errors import Failed


class Context:
    """`read` gives a file as earlier actions of the same plan leave it; `seen` remembers what was on disk."""

    def __init__(self, target: Target, facts: Facts) -> None:
        self.target = target
        self.facts = facts
        self.pending: dict[Path, bytes | None] = {}
        self.seen: dict[Path, str | None] = {}

    def path(self, given: str | Path) -> Path:
        """A path of an action: relative ones start at the working directory."""
        return self.target.workdir / Path(given).expanduser()

    def read(self, path: Path) -> bytes | None:
        """Content, or None when there is no file. Raises Failed when it cannot be read."""
        real = path.resolve()
        if real in self.pending:
            return self.pending[real]
        try:
            data: bytes | None = real.read_bytes()
        except FileNotFoundError:
            data = None
        except OSError as error:
            raise files.sentence(error, f"read {path}") from error
        self.seen.setdefault(real, None if data is None else files.sha256(data))
        return data

    def require(self, path: Path) -> bytes:
        data = self.read(path)
        if data is None:
            raise Failed(f"{self.target.shown(path)} does not exist.")
        return data

    def put(self, path: Path, data: bytes | None) -> None:
        self.pending[path.resolve()] = data

    def branch(self) -> Context:
        """A copy to try a fix in."""
        other = Context(self.target, self.facts)
        other.pending, other.seen = dict(self.pending), dict(self.seen)
        return other

    def take(self, other: Context) -> None:
        """Keep what was tried in a branch."""
        self.pending, self.seen = other.pending, other.seen


Args = dict[str, Any]
