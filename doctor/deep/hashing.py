"""SHA-256 of large files on several cores, within a deadline: each core has a process (hash_child.py) that maps them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic

CHILD = Path(__file__).with_name("hash_child.py")


class _Worker:
    """A child, started when the first file is asked for and again when a file has ended it."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None

    def hash(self, path: Path, until: float) -> str | None:
        """None where the file cannot be read to its end by `until`."""
        left = until - monotonic()
        if left <= 0:
            return None
        if self.process is None:
            argv = [sys.executable, "-I", "-S", str(CHILD)]
            self.process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
            )
        process = self.process
        assert process.stdin is not None
        assert process.stdout is not None
        late = threading.Timer(min(left, threading.TIMEOUT_MAX), process.kill)
        late.daemon = True
        late.start()
        try:
            process.stdin.write(json.dumps(os.fspath(path)).encode() + b"\n")
            process.stdin.flush()
            answer: str | None = json.loads(process.stdout.readline())
        except (OSError, ValueError):  # the file, or the deadline, ended the child
            self.end()
            return None
        finally:
            late.cancel()
        return answer

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


def every(
    paths: Iterable[Path], until: float, workers: int, tell: Callable[[int, int], None] | None = None
) -> dict[Path, str | None]:
    """The hash of each file; None where it could not be read to its end before the monotonic clock passes `until`.

    `tell` hears the bytes of the files that are done and of all, file by file.
    """
    sizes = {path: _size(path) for path in paths}
    done: list[int] = []
    listed = sorted(sizes, key=sizes.__getitem__, reverse=True)  # the largest first, so that all cores end together
    own = threading.local()
    made: list[_Worker] = []

    def one(path: Path) -> str | None:
        if not hasattr(own, "worker"):
            own.worker = _Worker()
            made.append(own.worker)
        found: str | None = own.worker.hash(path, until)
        done.append(sizes[path])
        if tell:
            tell(sum(done), sum(sizes.values()))
        return found

    try:
        with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
            return dict(zip(listed, pool.map(one, listed), strict=True))
    finally:
        for worker in made:
            worker.end()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
