"""Whether the processes of a run stand still: none of them computes or waits for a disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

import psutil

SHARE = 0.03  # of a core that all waiting processes together use at most: they look at a lock or a socket now and then
LOOK_SECONDS = 5.0


class Idleness:
    """`look` at the processes now and then; `seconds` says for how long none of them has worked."""

    def __init__(self, now: float) -> None:
        self.worked = self._looked = now
        self._used = 0.0

    def look(self, processes: Callable[[], Sequence[psutil.Process]], now: float) -> None:
        """`now` is of a monotonic clock. Without any process (they run elsewhere) nothing is said to stand still."""
        if now - self._looked < LOOK_SECONDS:
            return
        used, reading, any_there = 0.0, False, False
        for process in processes():
            with suppress(psutil.Error):  # it has just ended
                times = process.cpu_times()
                used += times.user + times.system
                reading |= process.status() == psutil.STATUS_DISK_SLEEP
                any_there = True
        if not any_there or reading or abs(used - self._used) > SHARE * (now - self._looked):
            self.worked = now
        self._used, self._looked = used, now

    def seconds(self, now: float) -> float:
        return now - self.worked
