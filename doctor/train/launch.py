"""Launches `llamafactory-cli train` as the target would, streams it, and ends it cleanly.

The trainer runs in a process group of its own: Ctrl-C reaches it once as SIGINT, a second one ends every rank. torchrun
gives each rank a session of its own, so the group is not enough to find them all: every process of a run carries the
run's mark in its environment.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import psutil

from doctor import redact
from doctor.errors import BadInput
from doctor.probes.launch import DEFAULTS
from doctor.target import Target

_CHUNK = 65536  # bytes read at once
_LONGEST_LINE = 1 << 20  # bytes held back for redaction before they are let through
MARK = "SKYT1_DOCTOR_RUN"  # variable that every process of one run carries
GRACE_SECONDS = 30.0  # what a rank gets between the first signal and SIGKILL
ORPHAN_SECONDS = 2.0  # what a rank gets after its launcher has ended


def environment(target: Target) -> dict[str, str]:
    """The launch environment: the documented defaults, the target's own variables, its scripts first on PATH.

    The launcher starts plain `torchrun` from PATH; with the target's scripts first it is the target's own.
    """
    environ = {**DEFAULTS, **target.environ}
    scripts = str(target.scripts)
    search = environ.get("PATH", os.defpath).split(os.pathsep)
    environ["PATH"] = os.pathsep.join([scripts, *(entry for entry in search if entry != scripts)])
    environ["PYTHONUNBUFFERED"] = "1"
    return environ


def command(target: Target, recipe: Path) -> list[str]:
    """The command line. Raises BadInput when the target has no llamafactory-cli."""
    cli = target.scripts / "llamafactory-cli"
    if not cli.exists():
        raise BadInput(f"{cli} does not exist; install LLaMA-Factory in that environment or choose another with --env.")
    return [str(cli), "train", str(recipe)]


def changed_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that the launch sets beyond the caller's environment, for the record, redacted."""
    return {
        name: redact.text(f"{name}={value}").partition("=")[2]
        for name, value in sorted(environ.items())
        if os.environ.get(name) != value
    }


def run(argv: list[str], environ: Mapping[str, str], workdir: Path, log: Path) -> int:
    """Run the trainer, stream its output to stdout and to `log` with secrets masked. Returns its own exit code.

    A trainer ended by signal N gives 128 + N, as a shell says it; 130 when the user interrupted.
    """
    mark = f"{os.getpid()}-{time.time_ns()}"
    with log.open("wb") as file:
        process = subprocess.Popen(
            argv,
            cwd=workdir,
            env={**environ, MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        with _signals_forwarded(process, mark) as interrupted:
            assert process.stdout is not None
            threading.Thread(target=_end_orphans, args=(process, mark), daemon=True).start()
            _stream(process.stdout, file)
            code = process.wait()
    _kill_marked(mark)
    if interrupted:
        return 128 + signal.SIGINT
    return 128 - code if code < 0 else code


def _end_orphans(process: subprocess.Popen[bytes], mark: str) -> None:
    """When the launcher is gone, a rank that still holds our pipe would keep us reading for ever."""
    process.wait()
    time.sleep(ORPHAN_SECONDS)
    _kill_marked(mark)


def _stream(source: IO[bytes], log: IO[bytes]) -> None:
    """Copy output as it comes, a line (or a progress bar's carriage return) at a time, so that a secret is seen whole."""
    held = b""
    out: Any = sys.stdout.buffer
    while chunk := os.read(source.fileno(), _CHUNK):
        held += chunk
        end = max(held.rfind(b"\n"), held.rfind(b"\r")) + 1
        if not end and len(held) > _LONGEST_LINE:
            end = len(held)
        if end:
            _emit(held[:end], out, log)
            held = held[end:]
    if held:
        _emit(held, out, log)


def _emit(data: bytes, out: IO[bytes], log: IO[bytes]) -> None:
    text = data.decode("utf-8", errors="surrogateescape")
    clean = redact.text(text).encode("utf-8", errors="surrogateescape")
    log.write(clean)
    log.flush()
    try:
        out.write(clean)
        out.flush()
    except BrokenPipeError:  # whoever watched has gone; the run and its log go on
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - stays open for the rest of the process


@contextmanager
def _signals_forwarded(process: subprocess.Popen[bytes], mark: str) -> Iterator[list[int]]:
    """Forward SIGINT, SIGTERM and SIGHUP to the trainer's group: gently first, the second time for good."""
    received: list[int] = []

    def forward(number: int, frame: object) -> None:
        received.append(number)
        if len(received) > 1:
            _kill_marked(mark)
            return
        with suppress(ProcessLookupError):  # it has ended already
            os.killpg(process.pid, number)
        threading.Thread(target=_kill_later, args=(process, mark), daemon=True).start()

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, forward) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _kill_later(process: subprocess.Popen[bytes], mark: str) -> None:
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_SECONDS)
        return
    _kill_marked(mark)


def _kill_marked(mark: str) -> None:
    """End every process that carries the mark; no rank outlives its run."""
    for found in psutil.process_iter():
        with suppress(psutil.Error):  # ended in between, or of another user
            if found.environ().get(MARK) == mark:
                found.kill()
