"""Runs as a process of its own: paths on standard input, one a line in JSON; for each the SHA-256, or null, in JSON.

A file is mapped, not read: nothing is copied, so that hashing costs little more than the hash. A mapped file that another
process shortens, or whose disk fails, ends this process by a signal; that is why it is one of its own. Imports nothing of
the doctor.
"""

import contextlib
import hashlib
import json
import mmap
import os
import sys
from typing import Any, BinaryIO

WINDOW = 16 << 20  # bytes mapped at a time; a multiple of every page size
PIECE = 1 << 17  # bytes of a read, where a file system cannot map: they stay in the cache of the core
_FLAGS = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)


def sha256(path: str) -> str:
    """Raises OSError."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        try:
            _mapped(file, digest)
        except (OSError, ValueError):  # no mapping of this file system, or the file became shorter meanwhile
            digest = hashlib.sha256()
            _read(file, digest)
    return digest.hexdigest()


def _mapped(file: BinaryIO, digest: Any) -> None:
    size = os.fstat(file.fileno()).st_size
    for start in range(0, size, WINDOW):
        length = min(WINDOW, size - start)
        with mmap.mmap(file.fileno(), length, flags=_FLAGS, prot=mmap.PROT_READ, offset=start) as view:
            digest.update(view)


def _read(file: BinaryIO, digest: Any) -> None:
    file.seek(0)
    buffer = bytearray(PIECE)
    view = memoryview(buffer)
    while count := file.readinto(buffer):  # type: ignore[attr-defined]
        digest.update(view[:count])


def main() -> None:
    for line in sys.stdin:
        answer = None
        with contextlib.suppress(OSError):
            answer = sha256(json.loads(line))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
