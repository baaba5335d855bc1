"""What ended runs leave in /dev/shm: files that a living process has mapped or open are not among it."""

import mmap
import os
import subprocess
import sys

from doctor.machine import leftovers

HOLD = """\
import mmap, sys
opened = open(sys.argv[1], "rb")
with open(sys.argv[2], "r+b") as file:
    mapped = mmap.mmap(file.fileno(), 0)
print("holds", flush=True)
sys.stdin.read()
"""


def test_only_what_nobody_uses_is_left(tmp_path):
    for name in ("opened", "mapped", "nccl-left", "sem.lock", "smaller"):
        (tmp_path / name).write_bytes(b"x" * (mmap.PAGESIZE if name == "smaller" else 4 * mmap.PAGESIZE))
    (tmp_path / "folder").mkdir()
    argv = [sys.executable, "-c", HOLD, str(tmp_path / "opened"), str(tmp_path / "mapped")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"holds\n"
        left = leftovers.left(tmp_path, os.getuid())
        holder.communicate()
    assert left == {"bytes": 5 * mmap.PAGESIZE, "files": 2, "examples": ["nccl-left", "smaller"]}
    assert leftovers.left(tmp_path, os.getuid())["files"] == 4
    assert leftovers.left(tmp_path, os.getuid() + 1) == {"bytes": 0, "files": 0, "examples": []}
