"""A run that somebody else started: which log it writes, which processes it is, whether it is over."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

import msgspec
import psutil

from doctor.errors import BadInput
from doctor.train.progress import Progress
from doctor.train.record import EVENTS, read

TRAINER_LOG = "trainer_log.jsonl"
_LOGS = ("train.log", "*.log", "*.out", "*.txt")
_TRAINERS = re.compile(r"llamafactory|torchrun|torch[./]distributed[./]run|deepspeed|accelerate|/launcher\.py")


class Joined(msgspec.Struct):
    """`log` is followed; `output`: output_dir where the path told it."""

    log: Path
    output: Path | None = None

    def writers(self) -> list[psutil.Process]:
        """Processes of this machine that have the log open for writing: the trainer's own, or a `tee` of it."""
        found = []
        with suppress(OSError):
            same = self.log.stat()
            for process in psutil.process_iter():
                if process.pid != os.getpid() and _writes(process.pid, (same.st_dev, same.st_ino)):
                    found.append(process)
        return found

    def is_written(self) -> bool:
        return bool(self.writers())

    def processes(self) -> list[psutil.Process]:
        """The trainer's processes: who writes the log and what they started; behind a `tee` those that look like it."""
        writers = self.writers()
        family = {p.pid: p for p in writers}
        for process in writers:
            with suppress(psutil.Error):
                family |= {child.pid: child for child in process.children(recursive=True)}
        trainers = [p for p in family.values() if _is_trainer(p)]
        if trainers:
            return list(family.values())
        for process in psutil.process_iter():  # a pipe: the session that the log's writer belongs to tells it
            with suppress(psutil.Error, OSError):
                if _is_trainer(process) and any(os.getsid(process.pid) == os.getsid(w.pid) for w in writers):
                    family |= {p.pid: p for p in [process, *process.children(recursive=True)]}
        return list(family.values())

    def over(self, progress: Progress) -> bool:
        """Whether what was logged or recorded says that the run has ended."""
        if progress.phase == "done" or self.at_its_last_step(progress):
            return True
        if (events := self.log.parent / EVENTS).exists():
            return any(event.get("kind") == "end" for event in read(events))
        return _failed(self.log)

    def at_its_last_step(self, progress: Progress) -> bool:
        """trainer_log.jsonl says no more of the end."""
        return self.log.name == TRAINER_LOG and progress.total is not None and progress.step >= progress.total


def _writes(pid: int, file: tuple[int, int]) -> bool:
    folder = Path(f"/proc/{pid}/fd")
    try:
        for entry in folder.iterdir():
            with suppress(OSError):
                seen = entry.stat()
                if (seen.st_dev, seen.st_ino) == file and entry.lstat().st_mode & 0o200:  # l-wx------: open for writing
                    return True
    except OSError:  # another user's, or ended
        return False
    return False


def _is_trainer(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return bool(_TRAINERS.search(" ".join(process.cmdline()[:4])))
    return False


def _failed(log: Path) -> bool:
    """Whether the end of the log is that of a run that died."""
    with suppress(OSError), log.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - 65536))
        return (
            re.search(rb"Traceback \(|exitcode|ChildFailedError|CalledProcessError|Killed|Error:", file.read())
            is not None
        )
    return False


def find(place: Path) -> Joined:
    """The run behind a path: a log, one of our run directories, a folder with a log, an output directory.

    Raises BadInput where there is nothing to follow.
    """
    place = place.absolute()
    if place.is_file():
        return Joined(place, output=place.parent if place.name == TRAINER_LOG else None)
    if not place.is_dir():
        raise BadInput(f"{place} does not exist; name the log that the run writes, or its directory.")
    if (place / "train.log").exists() and (place / "command.json").exists():
        return Joined(place / "train.log")
    for pattern in _LOGS:
        logs = [p for p in place.glob(pattern) if p.is_file()]
        if logs:
            return Joined(max(logs, key=lambda p: p.stat().st_mtime))
    if (place / TRAINER_LOG).exists():
        return Joined(place / TRAINER_LOG, output=place)
    raise BadInput(f"{place} holds no log (*.log, *.out, *.txt, {TRAINER_LOG}); name the file that the run writes.")
