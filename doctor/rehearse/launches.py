"""One launch of a rehearsal: a command of the target under a deadline, its log followed, its end awaited."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from doctor.target import Target
from doctor.train import launch
from doctor.train.idleness import Idleness
from doctor.train.tail import Lines, Tail

IDLE_SECONDS = 90.0  # without a line and without work of any process: it hangs
SILENT_SECONDS = 600.0  # without a line although something computes: NCCL spins while it waits
STOP_SECONDS = 75.0  # after Ctrl-C; the keeper itself ends what is left before
_LOOK = 0.2  # seconds
SHM = Path("/dev/shm")
# torch.utils.cpp_extension, _get_build_directory
_EXTENSIONS = re.compile(r"Using (\S.*?) as PyTorch extensions root")

ENDED, HANGS, LATE, INTERRUPTED = "ended", "hangs", "late", "interrupted"


class Outcome(msgspec.Struct, frozen=True):
    """How a launch went: `code` is its own exit code where it `ended`; `seconds` from its start.

    `locks`: of one that hangs, lock files of operator builds that are older than it.
    """

    how: str
    code: int
    seconds: float
    log: Path
    locks: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return self.how == ENDED and self.code == 0


class Launch:
    """A command that has been started."""

    def __init__(self, argv: list[str], environ: Mapping[str, str], workdir: Path, log: Path) -> None:
        log.unlink(missing_ok=True)
        self.log, self.environ = log, environ
        self.started, self.began = time.monotonic(), time.time()
        self.running = launch.Running(argv, environ, workdir, log)
        self.tail, self.lines = Tail(log), Lines()

    def wait(self, until: float, heard: Callable[[str], None] = lambda line: None) -> Outcome:
        """Until it ends, hangs, or the monotonic clock passes `until`. `heard` gets every line of its log.

        Ctrl-C and SIGTERM end it and are told as INTERRUPTED.
        """
        quiet = _Quiet(self.running)
        with launch.signals_passed_on(lambda: self.running, lambda number: None) as received:
            while (code := self.running.poll()) is None:
                lines = self.lines.feed(self.tail.read())
                for line in lines:
                    heard(line)
                how = quiet.judge(bool(lines)) or (LATE if time.monotonic() > until else None)
                if received and quiet.waited(STOP_SECONDS):
                    self.end()
                elif how and not received:
                    self.end()
                    return self.outcome(how, 1)
                time.sleep(_LOOK)
        for line in [*self.lines.feed(self.tail.read()), *self.lines.finish()]:
            heard(line)
        if received:
            self._unlock_extensions()
        return self.outcome(INTERRUPTED if received else ENDED, code)

    def end(self) -> None:
        """End every process of it; returns when they are gone."""
        self.running.kill()
        until = time.monotonic() + 15.0
        while self.running.poll() is None:
            time.sleep(_LOOK)
            if time.monotonic() > until:
                self.running.keeper.kill()
        self._unlock_extensions()

    def _unlock_extensions(self) -> None:
        """Remove the locks of builds that ended with us: torch waits for such a file for ever, in every later run."""
        for lock, made in _locks(self.log):
            if made >= self.began:
                with suppress(OSError):  # another process has just removed it
                    lock.unlink()

    def _remove_buffers(self) -> None:
        """Remove what DeepSpeed leaves in /dev/shm on a CPU: 69 MB of memory for each rank, named by the rendezvous."""
        names = (str(self.environ.get(name)) for name in ("MASTER_ADDR", "MASTER_PORT"))
        for buffer in SHM.glob(f"deepspeed_allreduce_buffer_{os.getuid()}_{'_'.join(names)}_*"):
            with suppress(OSError):
                buffer.unlink()

    def outcome(self, how: str, code: int) -> Outcome:
        self._remove_buffers()
        locks = [str(lock) for lock, made in _locks(self.log) if made < self.began] if how == HANGS else []
        return Outcome(how, code, time.monotonic() - self.started, self.log, tuple(locks))


def _locks(log: Path) -> list[tuple[Path, float]]:
    """Lock files of builds in the folders that a log names, and when they were made."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    found = []
    for root in dict.fromkeys(_EXTENSIONS.findall(text)):
        for lock in sorted(Path(root).glob("*/lock")):
            with suppress(OSError):  # a build has just ended
                found.append((lock, lock.stat().st_mtime))
    return found


class _Quiet:
    """Whether a launch stands still: it writes nothing, and no process of it computes."""

    def __init__(self, running: launch.Running) -> None:
        self.running = running
        self.heard = time.monotonic()
        self.asked = 0.0
        self.idleness = Idleness(self.heard)

    def judge(self, heard: bool) -> str | None:
        now = time.monotonic()
        if heard:
            self.heard = now
            return None
        self.idleness.look(self.running.processes, now)
        silent = now - self.heard
        idle = min(silent, self.idleness.seconds(now))
        return HANGS if silent > SILENT_SECONDS or idle > IDLE_SECONDS else None

    def waited(self, seconds: float) -> bool:
        """Whether that long has passed since this was first asked."""
        self.asked = self.asked or time.monotonic()
        return time.monotonic() - self.asked > seconds


def environment(target: Target, processes: int, gpus: int) -> dict[str, str]:
    """The launch environment of the user, on one node, at a free port, with as many processes as are rehearsed."""
    environ = launch.environment(target)
    for name in ("RDZV_ID", "MIN_NNODES", "MAX_NNODES", "MAX_RESTARTS", "RANK", "WORLD_SIZE", "LOCAL_RANK"):
        environ.pop(name, None)
    environ |= {"NNODES": "1", "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    environ["NPROC_PER_NODE"] = str(processes)
    if processes > 1:
        environ["FORCE_TORCHRUN"] = "1"
    if gpus == 0:
        # DeepSpeed's CPU accelerator asks the program numactl for its cores unless this says how many processes there
        # are; on GPUs, for which the CPU stands in here, it never does.
        environ.setdefault("LOCAL_SIZE", str(processes))
    environ.pop("PYTHONDONTWRITEBYTECODE", None)  # it would compile everything anew at each of the starts
    return environ


def child_environment(target: Target) -> dict[str, str]:
    """For a child that makes or loads a model: on the CPU, asking no hub."""
    return {
        **launch.environment(target),
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
    }


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def interrupted(outcome: Outcome) -> None:
    """Raises KeyboardInterrupt when the user ended it."""
    if outcome.how == INTERRUPTED:
        raise KeyboardInterrupt(signal.SIGINT)
