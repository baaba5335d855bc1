"""Launches `llamafactory-cli train` as the target would, through a keeper that owns the process tree and the log."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from doctor import redact
from doctor.errors import BadInput
from doctor.probes.launch import DEFAULTS
from doctor.target import Target
from doctor.train.keeper import LETTERS, MARK, kill_marked
from doctor.train.tail import Tail

KEEPER = (sys.executable, "-m", "doctor.train.keeper")
LOOK_SECONDS = 0.1  # between two looks at the log; what a line waits at most before it is shown
_ROOT = str(Path(__file__).resolve().parents[2])
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def environment(target: Target, gpus: int | None = None) -> dict[str, str]:
    """The launch environment: the documented defaults, the target's own variables, its scripts first on PATH.

    The launcher starts plain `torchrun` from PATH; with the target's scripts first it is the target's own. It asks for
    as many processes as it sees GPUs unless told otherwise, which without a GPU is none, and torchrun refuses that.
    """
    environ = {**DEFAULTS, **target.environ}
    if gpus == 0:
        environ.setdefault("NPROC_PER_NODE", "1")
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


def shown_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The launch variables that LLaMA-Factory reads, as they stand before its command; redacted."""
    names = [*DEFAULTS, "NPROC_PER_NODE", "RDZV_ID", "MIN_NNODES", "MAX_NNODES", "MAX_RESTARTS"]
    return {name: redact.text(f"{name}={environ[name]}").partition("=")[2] for name in names if name in environ}


def changed_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that the launch sets beyond the caller's environment, for the record, redacted."""
    return {
        name: redact.text(f"{name}={value}").partition("=")[2]
        for name, value in sorted(environ.items())
        if os.environ.get(name) != value
    }


class Running:
    """A run that has been started. Its output is in the log, masked; it ends with this process at the latest."""

    def __init__(
        self,
        argv: list[str],
        environ: Mapping[str, str],
        workdir: Path,
        log: Path,
        events: Path | None = None,
        saves_on_sigterm: bool = False,
    ) -> None:
        self.mark = f"{os.getpid()}-{time.time_ns()}"
        ours = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [_ROOT, os.environ.get("PYTHONPATH", "")]))}
        self.keeper = subprocess.Popen(
            KEEPER, cwd="/", env=ours, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
        )
        spec = {
            "argv": argv,
            "environ": dict(environ),
            "workdir": str(workdir),
            "log": str(log),
            "events": str(events) if events else None,
            "mark": self.mark,
            "saves_on_sigterm": saves_on_sigterm,
        }
        self._tell(json.dumps(spec).encode() + b"\n")

    def _tell(self, data: bytes) -> None:
        assert self.keeper.stdin is not None
        with suppress(BrokenPipeError):  # it has ended already
            self.keeper.stdin.write(data)
            self.keeper.stdin.flush()

    def poll(self) -> int | None:
        """The trainer's own exit code, 128 + N where signal N ended it; None while it runs."""
        code = self.keeper.poll()
        if code is not None and code < 0:  # somebody ended the keeper: nothing may outlive it
            kill_marked(self.mark)
            return 128 - code
        return code

    def stop(self, number: int = signal.SIGINT) -> None:
        """Ask the ranks to end; they are killed after the keeper's GRACE_SECONDS."""
        self._tell(next(letter for letter, meant in LETTERS.items() if meant == number))

    def kill(self) -> None:
        self._tell(b"k")

    def processes(self) -> list[psutil.Process]:
        """Every process of the run, parents first."""
        try:
            return psutil.Process(self.keeper.pid).children(recursive=True)
        except psutil.Error:
            return []


@contextmanager
def signals_passed_on(running: Callable[[], Running | None], told: Callable[[int], None]) -> Iterator[list[int]]:
    """SIGINT, SIGTERM and SIGHUP end the run gently the first time and at once the second; `told` hears each.

    A signal that is ignored already stays so: under nohup a run outlives its terminal. Yields the list of signals that
    came, which grows. In a thread other than the main one nothing is caught.
    """
    received: list[int] = []

    def handle(number: int, frame: object) -> None:
        received.append(number)
        run = running()
        if run is not None:
            if len(received) > 1:
                run.kill()
            else:
                run.stop(number)
        told(number)

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    heard = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in heard}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(argv: list[str], environ: Mapping[str, str], workdir: Path, log: Path) -> int:
    """Run a trainer, stream its masked output to stdout and to `log`. Returns its own exit code.

    A trainer ended by signal N gives 128 + N, as a shell says it; 130 when the user interrupted.
    """
    running = Running(argv, environ, workdir, log)
    tail = Tail(log)
    with signals_passed_on(lambda: running, lambda number: None) as received:
        while (code := running.poll()) is None:
            echo(tail.read())
            time.sleep(LOOK_SECONDS)
    echo(tail.read())
    return 128 + signal.SIGINT if received else code


def echo(data: bytes) -> None:
    """To stdout as it is. Whoever watched may have gone: the run and its log go on."""
    if not data:
        return
    out: Any = sys.stdout.buffer
    try:
        out.write(data)
        out.flush()
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - stays open for the rest of the process


__all__ = ["MARK", "Running", "changed_variables", "command", "echo", "environment", "run", "signals_passed_on"]
