"""Small file operations that survive a power cut: hash, sync, atomic replace. Used by the door and the journal only."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from fixes.errors import Failed, FixError

A_HANDFUL = 8
LINK_FROM = 64 * 1024 * 1024  # bytes; a backup of a larger file is a hard link where the file system allows it


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str | None:
    """Hash of a file's content, None when there is no file."""
    try:
        with path.open("rb") as stream:
            digest = hashlib.sha256()
            while block := stream.read(1 << 20):
                digest.update(block)
            return digest.hexdigest()
    except FileNotFoundError:
        return None


def sync_directory(path: Path) -> None:
    """Make renames in a directory durable. File systems that cannot sync a directory say EINVAL; that is all they offer."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)


def sync_moved(directories: set[Path], came: list[Path]) -> None:
    """Bring directories and the content of files that came into them to disk: one by one, or, above a handful, by one
    call for their whole file systems where there is such a call."""
    there = [path for path in directories if path.is_dir()]
    if len(there) + len(came) > A_HANDFUL and _sync_file_systems(there):
        return
    for path in came:
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
    for path in there:
        sync_directory(path)


def _sync_file_systems(directories: list[Path]) -> bool:
    syncfs = getattr(ctypes.CDLL(None), "syncfs", None) if sys.platform == "linux" else None
    if syncfs is None:
        return False
    for path in {path.stat().st_dev: path for path in directories}.values():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            if syncfs(descriptor):
                raise OSError(errno.EIO, "the file system could not be synced", str(path))
        finally:
            os.close(descriptor)
    return True


def write_synced(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Create (or overwrite) a file of ours and bring it to disk. Removes the partial file when the disk is full."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError:
        path.unlink(missing_ok=True)
        raise


def keep_copy(source: Path, into: Path) -> None:
    """A verbatim copy with times and mode, synced; a hard link for large files where that is possible."""
    status = source.stat()
    if status.st_size >= LINK_FROM:
        with contextlib.suppress(OSError):  # another file system or no hard links: copied below
            os.link(source, into)
            return
    try:
        shutil.copyfile(source, into)
        with into.open("rb") as stream:
            os.fsync(stream.fileno())
    except OSError:
        into.unlink(missing_ok=True)
        raise
    os.chmod(into, 0o600)
    os.utime(into, ns=(status.st_atime_ns, status.st_mtime_ns))


def replace(
    path: Path,
    data: bytes,
    scratch: Path,
    like: os.stat_result | None,
    times: tuple[int, int] | None = None,
    last_look: Callable[[], None] = lambda: None,
) -> None:
    """Put `data` at `path` in one step: written to `scratch` beside it, synced, given mode and owner of `like`, renamed.

    `times` are access and modification time in ns. The extended attributes of the file replaced are kept. `last_look` is
    called just before the rename and may raise to leave the file as it is.
    """
    try:
        write_synced(scratch, data, 0o600)
        if like is not None:
            if (like.st_uid, like.st_gid) != (scratch.stat().st_uid, scratch.stat().st_gid):
                os.chown(scratch, like.st_uid, like.st_gid)
            os.chmod(scratch, like.st_mode & 0o7777)
            _copy_attributes(path, scratch)
        else:
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(scratch, 0o666 & ~mask)
        if times is not None:
            os.utime(scratch, ns=times)
        last_look()
        os.replace(scratch, path)
    except (OSError, FixError):
        scratch.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def _copy_attributes(source: Path, destination: Path) -> None:
    if not hasattr(os, "listxattr") or not source.exists():
        return
    with contextlib.suppress(OSError):  # a file system without extended attributes
        for name in os.listxattr(source):
            os.setxattr(destination, name, os.getxattr(source, name))


def missing_parents(path: Path) -> list[Path]:
    """Directories above `path` that do not exist yet, outermost first."""
    found: list[Path] = []
    parent = path.parent
    while not parent.exists():
        found.append(parent)
        parent = parent.parent
    return found[::-1]


def sentence(error: OSError, what: str) -> Failed:
    """The one clear sentence for an operating-system error while doing `what` (for example "write /a/b")."""
    reasons = {
        errno.ENOSPC: "the disk is full",
        errno.EDQUOT: "the disk quota is used up",
        errno.EACCES: "no permission",
        errno.EPERM: "not permitted",
        errno.EROFS: "the file system is read-only",
        errno.EISDIR: "it is a directory",
        errno.ENOTDIR: "a part of the path is not a directory",
    }
    reason = reasons.get(error.errno or 0, error.strerror or str(error))
    return Failed(f"Could not {what}: {reason}; nothing was left half done.")
