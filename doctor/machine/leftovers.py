"""Files of ended runs in /dev/shm: NCCL, torch's data workers and DeepSpeed on a CPU leave theirs when they are killed.

They are memory that nobody gives back until the machine is started anew or somebody removes them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

PROC = Path("/proc")
LOOKED_AT = 1 << 30  # bytes in use from which on it is worth reading what every process has mapped
SHOWN = 5


def left(shm: Path, uid: int) -> dict[str, Any]:
    """`bytes` and `files` of this user's files that no process seen here has open or mapped, and some `examples`.

    Processes of another container that shares /dev/shm are not seen. Raises OSError.
    """
    mine: dict[str, int] = {}
    with os.scandir(shm) as items:
        for item in items:
            state = item.stat(follow_symlinks=False)
            if item.is_file(follow_symlinks=False) and state.st_uid == uid and not item.name.startswith("sem."):
                mine[item.path] = state.st_blocks * 512
    unused = set(mine) - _in_use(str(shm)) if mine else set()
    largest = sorted(unused, key=lambda path: (-mine[path], path))
    return {
        "bytes": sum(mine[path] for path in unused),
        "files": len(unused),
        "examples": [os.path.basename(path) for path in largest[:SHOWN]],
    }


def _in_use(shm: str) -> set[str]:
    """Paths below `shm` that processes have mapped or open; those of processes that may not be looked at are not in it."""
    found: set[str] = set()
    for process in PROC.iterdir():
        if not process.name.isdecimal():
            continue
        try:
            maps = (process / "maps").read_text(encoding="utf-8", errors="replace")
            if shm in maps:
                found.update(line[line.index(shm) :] for line in maps.splitlines() if f" {shm}/" in line)
            found.update(os.readlink(handle) for handle in (process / "fd").iterdir())
        except OSError:  # ended meanwhile, or somebody else's
            continue
    return found
