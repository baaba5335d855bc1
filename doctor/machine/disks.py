"""Disks: space, a write test that leaves nothing behind, and places with more room. A dead mount holds nobody up."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from doctor.deadline import within

SECONDS = 1.0  # a local disk answers in a millisecond, a dead network mount never
_WRITTEN = 1 << 16  # bytes of the write test
_NO_TMPFILE = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL)


def describe(path: Path, seconds: float = SECONDS) -> dict[str, Any]:
    """`{path, at, device, free, total, inodes_free, write_error}` of the file system that `path` lies or will lie on.

    `at` is the nearest folder that exists. `{path, unknown}` where it could not be told.
    """
    try:
        return within(seconds, lambda: _now(path))
    except TimeoutError:
        return {"path": str(path), "unknown": f"the file system did not answer within {seconds:g} s"}
    except OSError as error:
        return {"path": str(path), "unknown": error.strerror or str(error)}


def _now(path: Path) -> dict[str, Any]:
    place = path
    while not os.path.exists(place) and place != place.parent:
        if os.path.islink(place):  # whoever makes the folder finds the link there, and nothing behind it
            return _told(path, place, place.parent, "ENOLINK")
        place = place.parent
    error = "ENAMETOOLONG" if _too_long(path.relative_to(place), place) else write_error(place)
    return _told(path, place, place, error)


def _told(path: Path, at: Path, place: Path, error: str | None) -> dict[str, Any]:
    space = os.statvfs(place)
    return {
        "path": str(path),
        "at": str(at),
        "device": place.stat().st_dev,
        "free": space.f_bavail * space.f_frsize,
        "total": space.f_blocks * space.f_frsize,
        "inodes_free": space.f_favail if space.f_files else None,
        "write_error": error,
    }


def _too_long(rest: Path, place: Path) -> bool:
    """Whether a folder that is to be made has a name longer than the file system takes."""
    longest = max((len(os.fsencode(part)) for part in rest.parts), default=0)
    try:
        return longest > os.pathconf(place, "PC_NAME_MAX")
    except (OSError, ValueError):
        return False


def write_error(place: Path) -> str | None:
    """The name of the error that a small write meets (EROFS, EACCES, EDQUOT, ENOSPC), None when it works.

    The file has no name (O_TMPFILE), so nobody sees it and nothing is left; a file system without that gets one that is
    unlinked at once.
    """
    if not place.is_dir():
        return "ENOTDIR"
    if place.parts[1:2] in (("proc",), ("sys",)):  # the kernel's, also for root
        return "EROFS"
    try:
        try:
            handle = os.open(place, os.O_TMPFILE | os.O_RDWR, 0o600)
        except OSError as error:
            if error.errno not in _NO_TMPFILE:
                raise
            handle, name = tempfile.mkstemp(prefix=".skyt1-doctor-", dir=place)
            os.unlink(name)
        try:
            os.write(handle, bytes(_WRITTEN))
        finally:
            os.close(handle)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error.errno))
    return None


def space(path: Path, seconds: float = SECONDS) -> dict[str, int]:
    """Total and free bytes. Raises OSError, TimeoutError among them."""
    found = within(seconds, lambda: os.statvfs(path))
    return {"total": found.f_blocks * found.f_frsize, "free": found.f_bavail * found.f_frsize}


def roomy(candidates: Iterable[Path], seconds: float = SECONDS) -> list[dict[str, Any]]:
    """Folders of the candidates that exist and may be written, the one with most room first, one for each device."""

    def look() -> list[dict[str, Any]]:
        found: dict[int, dict[str, Any]] = {}
        for folder in candidates:
            if os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK):
                device = folder.stat().st_dev
                free = os.statvfs(folder)
                found.setdefault(device, {"path": str(folder), "device": device, "free": free.f_bavail * free.f_frsize})
        return sorted(found.values(), key=lambda place: -place["free"])

    try:
        return within(seconds, look)
    except (OSError, TimeoutError):
        return []  # only a convenience: without it no place is proposed
