"""Places where power may fail. Tests choose one by number and the process kills itself there, as `kill -9` would.

Set SKYT1_DOCTOR_CRASH_AT=N to die at the N-th place passed; without it `here()` costs one counter.
"""

from __future__ import annotations

import os
import signal

VARIABLE = "SKYT1_DOCTOR_CRASH_AT"
_chosen = int(os.environ.get(VARIABLE, "0") or 0)
passed = 0


def here() -> None:
    global passed
    passed += 1
    if passed == _chosen:
        os.kill(os.getpid(), signal.SIGKILL)
