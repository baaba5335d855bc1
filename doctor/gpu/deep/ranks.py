"""Our side of ranks_child.py: starts it, listens until the deadline, and says how far each rank came."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from doctor.facts import Unknown

CHILD = Path(__file__).with_name("ranks_child.py")
IMPORT_SECONDS = 90.0  # torch from a cold network disk; 3 s from a warm local one
WORK_SECONDS = 30.0  # all ranks, from the fork to the last answer
LAST_SECONDS = 3.0  # for the others, once a rank has ended badly
LOG_BYTES = 4 << 20  # of NCCL's own log of one rank
_VIA = re.compile(r"NCCL INFO Channel .* via ((?:P2P|SHM|NET|COLLNET|NVLS)(?:/[A-Za-z]\w*)?)")
STAGES = ("device", "work", "join", "reduce", "done")


def run(
    python: Path,
    workdir: Path,
    environ: Mapping[str, str],
    ranks: int,
    device: str,
    import_seconds: float = IMPORT_SECONDS,
    work_seconds: float = WORK_SECONDS,
) -> dict[str, Any]:
    """`{"imported": {…} or Unknown, "ranks": [{"rank", "stage", "seconds", …figures, "failure", "code"}], "seconds",
    "transports"}`.

    `device`: "cuda" or "cpu". A rank's stage is the last that it told; "done" is the one that is wanted.
    """
    order = {"ranks": ranks, "device": device, "port": _free_port(), "seconds": work_seconds}
    begun = time.monotonic()
    said = Path(tempfile.mkdtemp(prefix="skyt1-ranks-"))
    child = _Child(python, workdir, _environment(environ, said), order)
    seen: dict[int, dict[str, Any]] = {}
    imported: Any = None
    try:
        for told in child.told(begun + import_seconds):
            if told["stage"] == "imported":
                imported = {name: told[name] for name in ("seconds", "torch", "cuda")}
                break
        if imported is None:
            return _not_imported(f"torch does not import in the target: {child.last_words()}")
        seen = {rank: {"rank": rank, "stage": "started"} for rank in range(ranks)}
        forked = time.monotonic()
        _listen(child, seen, forked + work_seconds)
        return {
            "imported": imported,
            "ranks": list(seen.values()),
            "seconds": round(time.monotonic() - forked, 2),
            "transports": transports(said),
        }
    except TimeoutError:
        return _not_imported(f"torch was not imported within {import_seconds:g} s")
    finally:
        child.end()
        shutil.rmtree(said, ignore_errors=True)


def _not_imported(reason: str) -> dict[str, Any]:
    return dict.fromkeys(("imported", "ranks", "seconds", "transports"), Unknown(reason))


def transports(folder: Path) -> list[str]:
    """The ways by which NCCL connected the ranks, as its own log names them: P2P/CUMEM, SHM/direct, NET/IB …"""
    found: set[str] = set()
    for path in sorted(folder.glob("nccl.*")):
        with suppress(OSError):
            found |= set(_VIA.findall(path.read_text(encoding="utf-8", errors="replace")[:LOG_BYTES]))
    return sorted(found)


def _listen(child: _Child, seen: dict[int, dict[str, Any]], until: float) -> None:
    """Note what the ranks tell until all have ended, or the deadline."""
    ended: set[int] = set()
    try:
        while ended < seen.keys():
            for told in child.told(until):
                rank = seen[told["rank"]]
                if told["stage"] == "ended":
                    ended.add(told["rank"])
                    rank["code"] = told["code"]
                    if told["code"] != 0:
                        until = min(until, time.monotonic() + LAST_SECONDS)
                        break  # with the new deadline
                elif told["stage"] == "failed":
                    rank["failure"] = {name: told[name] for name in ("during", "exception", "message")}
                else:
                    rank |= {name: value for name, value in told.items() if name != "rank"}
            else:
                return  # the child itself has ended
    except TimeoutError:
        return


class _Child:
    """The child process: what it tells, the end of its errors, and its end with all its ranks."""

    def __init__(self, python: Path, workdir: Path, environ: Mapping[str, str], order: dict[str, Any]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the child
        self._lines: SimpleQueue[bytes | None] = SimpleQueue()
        self._process = subprocess.Popen(
            [str(python), str(CHILD)],
            cwd=workdir,
            env=dict(environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        with suppress(BrokenPipeError), self._process.stdin as stdin:  # an interpreter that does not start says why
            stdin.write(json.dumps(order).encode() + b"\n")
        Thread(target=self._listen, name="ranks", daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def told(self, until: float) -> Iterator[dict[str, Any]]:
        """What it tells until it ends. Raises TimeoutError when the monotonic clock passes `until`."""
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
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - 20_000))
        return self._errors.read().decode("utf-8", errors="replace")

    def last_words(self) -> str:
        lines = [line.strip() for line in self.errors().splitlines() if line.strip()]
        return lines[-1][:300] if lines else "it said nothing"

    def end(self) -> None:
        """End the child and every rank: they are one session, and a stopped or waiting one hears SIGKILL too."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):  # in an uninterruptible driver call it would not end
            self._process.wait(timeout=2.0)
        self._errors.close()


def _environment(environ: Mapping[str, str], said: Path) -> dict[str, str]:
    """The launch's variables, NCCL's among them, without those of a rank. The ranks are all on this node, and a host
    name that does not resolve must not keep gloo from the loopback. NCCL tells into `said` how it connects the ranks."""
    ours = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    kept = {name: value for name, value in environ.items() if name not in ours}
    kept |= {"NCCL_DEBUG": "INFO", "NCCL_DEBUG_SUBSYS": "INIT,P2P,SHM,NET", "NCCL_DEBUG_FILE": f"{said}/nccl.%p"}
    return {**kept, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
