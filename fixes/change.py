"""One change that an action would make, and what it lays claim to."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fixes import diff, files


@dataclass(frozen=True)
class Change:
    """`diff` has secrets masked. For an edit: the file, its new content and the hash that it must have before.

    `claims` are the keys that the change sets, (scope, name) → value, by which two fixes are found to contradict.
    """

    kind: str
    target: str
    diff: str
    path: Path | None = None
    data: bytes | None = None
    before: str | None = None
    claims: dict[tuple[str, str], Any] = field(default_factory=dict)


def edit(
    kind: str, shown: str, path: Path, old: bytes | None, new: bytes | None, claims: dict[tuple[str, str], Any]
) -> Change | None:
    """The change from `old` to `new` content of a file; None when there is nothing to do."""
    if old == new or new is None:
        return None
    before = None if old is None else files.sha256(old)
    return Change(kind, shown, diff.of_text(old, new, shown), path, new, before, claims)
