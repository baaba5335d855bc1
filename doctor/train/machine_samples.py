"""Host memory, disk and GPUs of the machine that trains, as one row of metrics. Nothing here waits for a hung device."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import psutil

from doctor.deadline import within
from doctor.machine import disks
from doctor.machine.limits import cgroup_memory
from doctor.train.gpu_samples import GpuSamples

DEAD_MOUNT_SECONDS = 60.0


class MachineSamples:
    """`look` takes a sample: {host_used, host_total, host_limit, disk_free: bytes, gpus: […]}; absent where unknown.

    `host_used` is what counts against `host_limit` where a cgroup limits this process, else the machine's; memory that
    the kernel gives back when asked (page cache) is not counted in either.
    """

    def __init__(self, output: Path | None, seconds: float) -> None:
        self.output = output
        self.gpus = GpuSamples(seconds)
        self._ask_again = 0.0

    def look(self) -> dict[str, Any]:
        memory = psutil.virtual_memory()
        row: dict[str, Any] = {"host_used": memory.total - memory.available, "host_total": memory.total}
        limit, used = cgroup_memory()
        if limit is not None and limit < memory.total:
            row["host_limit"] = limit
            if used is not None:
                row["host_used"] = max(0, used - _page_cache())
        if (free := self.disk_free()) is not None:
            row["disk_free"] = free
        if gpus := self.gpus.look():
            row["gpus"] = gpus
        return row

    def disk_free(self) -> int | None:
        """Bytes that may be written where checkpoints go, or will go."""
        if self.output is None:
            return None
        if time.monotonic() < self._ask_again:
            return None
        try:
            return within(disks.SECONDS, lambda: _free(self.output))
        except TimeoutError:  # a dead mount: every question would leave one more thread behind
            self._ask_again = time.monotonic() + DEAD_MOUNT_SECONDS
            return None
        except OSError:
            return None

    def close(self) -> None:
        self.gpus.close()


def _free(place: Path | None) -> int:
    """Free bytes for this user where `place` lies or will lie."""
    while place is not None and not place.exists() and place != place.parent:
        place = place.parent
    found = os.statvfs(place or "/")
    return found.f_bavail * found.f_frsize


def _page_cache() -> int:
    """Bytes of inactive file cache in this process's cgroup, which its limit does not kill for (memory.stat)."""
    for name in ("memory.stat", "memory/memory.stat"):
        try:
            lines = (Path("/sys/fs/cgroup") / name).read_text(encoding="ascii").splitlines()
        except OSError:
            continue
        fields = dict(line.split(maxsplit=1) for line in lines if " " in line)
        return int(fields.get("total_inactive_file", fields.get("inactive_file", 0)))
    return 0
