"""SHA-256 of large files on several cores, within a deadline. hashlib leaves the interpreter lock while it computes."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PIECE = 1 << 17  # bytes: they stay in the cache of the core, so that copying costs little beside hashing


class Late(Exception):
    """The deadline passed before a file was read to its end."""


def sha256(path: Path, until: float = float("inf")) -> str:
    """Raises OSError, Late when the monotonic clock passes `until`."""
    digest = hashlib.sha256()
    buffer = bytearray(PIECE)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(view[:count])
            if time.monotonic() > until:
                raise Late
    return digest.hexdigest()


def every(paths: Iterable[Path], until: float, workers: int) -> dict[Path, str | None]:
    """The hash of each file; None where it could not be read to its end in time."""

    def one(path: Path) -> str | None:
        try:
            return sha256(path, until)
        except (OSError, Late):
            return None

    listed = sorted(paths, key=_size, reverse=True)  # the largest first, so that all cores end together
    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        return dict(zip(listed, pool.map(one, listed), strict=True))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
