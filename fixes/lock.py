"""One writer at a time. The lock is the operating system's, so that it ends with its holder, however it died."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from fixes import files
from fixes.errors import LockHeld

DYING = 10.0  # seconds; how long what a killed holder was just starting may take to die with it


@contextlib.contextmanager
def hold(directories: list[Path], command: str) -> Iterator[None]:
    """Hold the lock of every directory (working directory's and environment's state) or raise LockHeld at once."""
    with contextlib.ExitStack() as stack:
        for directory in directories:
            stack.enter_context(_hold_one(directory, command))
        yield


@contextlib.contextmanager
def _hold_one(directory: Path, command: str) -> Iterator[None]:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = FileLock(directory / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if holder_lives(directory):
                raise
            lock.acquire(timeout=DYING)
    except Timeout:
        raise _held(directory) from None
    except OSError as error:
        raise files.sentence(error, f"take the lock {directory / 'lock'}") from error
    holder = directory / "lock.holder"
    try:
        # A holder file left by a dead process is overwritten here: that is how a stale lock is taken over.
        holder.write_text(
            json.dumps(
                {
                    "pid": os.getpid(),
                    "host": socket.gethostname(),
                    "command": command,
                    "since": time.strftime("%H:%M:%S"),
                }
            )
        )
        yield
    except OSError as error:
        if error.filename == str(holder):
            raise files.sentence(error, f"write {holder}") from error
        raise
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def holder_lives(directory: Path) -> bool:
    """False only when the lock's holder was a process of this machine that is no more: what holds the lock then is a
    child that it was just starting, which dies with it."""
    try:
        who = json.loads((directory / "lock.holder").read_text())
        if who["host"] != socket.gethostname():
            return True
        os.kill(int(who["pid"]), 0)
    except ProcessLookupError:
        return False
    except (OSError, ValueError, KeyError, TypeError):
        return True
    return True


def _held(directory: Path) -> LockHeld:
    try:
        who = json.loads((directory / "lock.holder").read_text())
        pid, said = who["pid"], f"process {who['pid']} on {who['host']} ({who['command']}, since {who['since']})"
    except (OSError, ValueError, KeyError):
        pid, said = None, "another process"
    return LockHeld(f"Another run is changing this target: {said} holds {directory / 'lock'}; wait until it ends.", pid)
