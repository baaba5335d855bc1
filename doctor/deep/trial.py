"""Our side of trial_child.py: starts it, listens to it until the deadline, and leaves nothing of it behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

CHILD = Path(__file__).with_name("trial_child.py")
KEPT = 20_000  # bytes of its standard error that are kept, from the end
_NOISE = re.compile(r"^\s*(\[.*?\] )?\S*Warning: |^\s*warnings\.warn\(")


class Trial:
    """One running child. `answers()` yields what it tells; `errors()` is the end of what it printed."""

    def __init__(self, python: Path, workdir: Path, environ: Mapping[str, str], order: dict[str, Any]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the child
        self._lines: SimpleQueue[bytes | None] = SimpleQueue()
        self.process = subprocess.Popen(
            [str(python), str(CHILD)],
            cwd=workdir,
            env=dict(environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
        )
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # an interpreter that does not start: its errors say why
            self.process.stdin.write(json.dumps(order).encode() + b"\n")
            self.process.stdin.flush()
        Thread(target=self._listen, name="trial", daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def answers(self, until: float) -> Iterator[dict[str, Any]]:
        """What the child tells until the monotonic clock passes `until`. Raises TimeoutError then."""
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, until - time.monotonic()))
            except Empty:
                raise TimeoutError from None
            if line is None:
                return
            with suppress(ValueError):  # not ours: a library that writes to the descriptor itself
                told = json.loads(line)
                if isinstance(told, dict) and "stage" in told:
                    yield told

    def errors(self) -> str:
        """The end of its standard error."""
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - KEPT))
        return self._errors.read().decode("utf-8", errors="replace")

    def code(self) -> int | None:
        return self.process.poll()

    def end(self) -> None:
        """End the child and whatever it started (compilers of extensions among them)."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):  # in an uninterruptible driver call it would not end
            self.process.wait(timeout=2.0)
        self._errors.close()


def environment(
    environ: Mapping[str, str], scripts: Path, world: dict[str, int] | None, offline: bool
) -> dict[str, str]:
    """The variables of rank 0 of this node as torchrun sets them; `world` is None where the launch does without it."""
    made = {
        **environ,
        "PATH": os.pathsep.join([str(scripts), environ.get("PATH", os.defpath)]),
        "PYTHONUNBUFFERED": "1",
    }
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        made.pop(name, None)
    if offline:
        made |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    if world:
        made |= {
            "RANK": str(world["rank"]), "LOCAL_RANK": "0", "WORLD_SIZE": str(world["size"]), "OMP_NUM_THREADS": "1",
            "LOCAL_WORLD_SIZE": str(world["local"]), "TORCHELASTIC_RUN_ID": "none",
            "MASTER_ADDR": environ.get("MASTER_ADDR", "127.0.0.1"), "MASTER_PORT": environ.get("MASTER_PORT", "29501"),
        }  # fmt: skip
    return made


def last_words(errors: str) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in errors.splitlines() if line.strip() and not _NOISE.search(line)]
    return lines[-1][:300] if lines else ""
