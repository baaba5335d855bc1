"""Places where power may fail. Tests choose one by number and the process kills itself there, as `kill -9` would.

Set SKYT1_DOCTOR_CRASH_AT=N to die at the N-th place passed; without it `here()` appends to a list.
"""

from __future__ import annotations

import os
import signal

VARIABLE = "SKYT1_DOCTOR_CRASH_AT"
_chosen = int(os.environ.get(VARIABLE, "0") or 0)
passed: list[str] = []  # the kinds of the places passed so far


def here(kind: str) -> None:
    """`kind`: journal (around a journal line), write (around a replaced file) or move (before a rename)."""
    passed.append(kind)
    if len(passed) == _chosen:
        os.kill(os.getpid(), signal.SIGKILL)
