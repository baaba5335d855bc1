"""Keeps what was read from source files between runs: parsing a large module takes longer than the rest of a check.

A result is valid for exactly the files it was read from (path, size, time of change) and this program's version. Where
the cache cannot be written or read, the source is simply read again.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import msgspec

import doctor

T = TypeVar("T")

FORMAT = 7  # raise it when a cached type changes its meaning


def folder() -> Path:
    """The user's cache directory for this program (XDG_CACHE_HOME is honoured); it need not exist."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("skyt1-doctor", appauthor=False)) / "sources"


def cached(name: str, sources: Iterable[Path], read: Callable[[], T], type_: type[T]) -> T:
    """What `read` returns, or what it returned when the sources were the same. Raises what `read` raises, and OSError."""
    marks = []
    for path in sources:
        state = path.stat()
        marks.append(f"{path}|{state.st_size}|{state.st_mtime_ns}")
    key = "\n".join([name, str(FORMAT), doctor.__version__, *marks])
    try:
        kept = folder() / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
    except (OSError, RuntimeError):  # no home directory
        return read()
    found = _load(kept, type_)
    if found is None:
        found = read()
        _store(kept, msgspec.json.encode(found))
    return found


def _load(path: Path, type_: type[T]) -> T | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=type_)
    except (OSError, msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
        return None


def _store(path: Path, content: bytes) -> bool:
    """Write in one step, so that a second process never reads half a file. False where the cache is not writable."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".")
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except OSError:
        return False
    return True
