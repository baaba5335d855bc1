from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fixes import lock
from fixes.errors import LockHeld

HOLD = """
import sys, time
from pathlib import Path
from fixes import lock
with lock.hold([Path(sys.argv[1])], "fix --apply"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_second_run_names_the_holder_and_a_dead_one_holds_nothing(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(LockHeld, match=f"process {other.pid} ") as caught, lock.hold([tmp_path], "fix"):
            pass
        assert caught.value.pid == other.pid
    finally:
        other.kill()
        other.wait()
    assert json.loads((tmp_path / "lock.holder").read_text())["pid"] == other.pid
    with lock.hold([tmp_path], "fix"):
        assert json.loads((tmp_path / "lock.holder").read_text())["pid"] == os.getpid()
    assert not (tmp_path / "lock.holder").exists()


LEAVES_A_CHILD = """
import os, sys, time
from pathlib import Path
from fixes import lock
with lock.hold([Path(sys.argv[1])], "fix --apply"):
    if os.fork() == 0:
        time.sleep(2)  # an installer between fork and exec: it still has the lock's file open
        os._exit(0)
    print("held", flush=True)
    time.sleep(60)
"""


def test_what_a_killed_holder_was_just_starting_is_waited_for(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", LEAVES_A_CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    other.kill()
    other.wait()
    assert not lock.holder_lives(tmp_path)
    with lock.hold([tmp_path], "fix"):
        assert json.loads((tmp_path / "lock.holder").read_text())["pid"] == os.getpid()


def test_all_or_none(tmp_path: Path) -> None:
    with lock.hold([tmp_path / "b"], "first"):
        with pytest.raises(LockHeld), lock.hold([tmp_path / "a", tmp_path / "b"], "second"):
            pass
        with lock.hold([tmp_path / "a"], "third"):
            assert (tmp_path / "a" / "lock.holder").exists()
