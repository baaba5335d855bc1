"""The keeper: the process between the doctor and the trainer (`python -m doctor.train.keeper`).

It starts the trainer, masks and logs its output, and ends every rank when the run ends. It outlives whoever watches: a
doctor killed with -9, a closed terminal or a paused one (Ctrl-S) neither leaves orphans nor loses a line.

On standard input it gets one line of JSON, `{argv, environ, workdir, log, events, mark, saves_on_sigterm}`, then letters:
i, t or h end the run gently as SIGINT, SIGTERM or SIGHUP would, k ends it at once. End of input means that the doctor is
gone: the run is ended as by t. It exits with the trainer's own code, 128 + N for a trainer ended by signal N.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from doctor import redact

MARK = "SKYT1_DOCTOR_RUN"  # variable that every process of one run carries
# What ranks get between the first signal and SIGKILL: torchrun itself waits 30 s for them
# (torch.distributed.elastic.multiprocessing.api, PContext.close), a write of a log or a wandb run comes after that.
GRACE_SECONDS = 45.0
# A rank that saves a checkpoint when it is told to end (transformers' enable_jit_checkpoint): half a terabyte at 500 MB/s.
SAVING_SECONDS = 1200.0
ORPHAN_SECONDS = 2.0  # what a rank gets after its launcher has ended
DRAIN_SECONDS = 5.0  # how long output of processes that are beyond our reach is waited for
CANNOT_START = 127  # as a shell says it
LETTERS = {b"i": signal.SIGINT, b"t": signal.SIGTERM, b"h": signal.SIGHUP}

_BAR = b"%|"  # of tqdm
_CHUNK = 65536  # bytes read at once
_LONGEST_LINE = 1 << 20  # bytes held back for redaction before they are let through
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_LAUNCHERS = ("torchrun", "torch.distributed.run", "torch/distributed/run.py")


def masked(data: bytes) -> bytes:
    """Without secrets. A letter for each byte: secrets are ASCII, and what stands around them is passed on as it came."""
    return redact.text(data.decode("latin-1")).encode("latin-1")


class Log:
    """The masked log. A full disk loses lines and says so when there is room again; it never stops the trainer."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("ab", buffering=0)
        self.held = b""
        self.lost = 0

    def feed(self, data: bytes) -> None:
        """Write what is complete: a line, or a progress bar's carriage return, so that a secret is seen whole."""
        self.held += data
        end = max(self.held.rfind(b"\n"), self.held.rfind(b"\r")) + 1
        if not end and len(self.held) > _LONGEST_LINE:
            end = len(self.held)
        # A bar is drawn without an end and stands until the next one: it is shown when it is whole.
        if end < len(self.held) and self.held.endswith((b"]", b"\x1b[A")) and _BAR in self.held[end:]:
            end = len(self.held)
        if end:
            self._write(self.held[:end])
            self.held = self.held[end:]

    def close(self) -> None:
        if self.held:
            self._write(self.held)
        self.file.close()

    def _write(self, data: bytes) -> None:
        clean = masked(data)
        try:
            if self.lost:
                self.file.write(f"\n[skyt1-doctor: {self.lost} bytes of output could not be written here]\n".encode())
                self.lost = 0
            while clean:
                clean = clean[self.file.write(clean) :]
        except OSError:
            self.lost += len(clean)


class Keeper:
    """One run. `gone`: the doctor has ended; `stopping`: when the ranks are killed, None while nobody wants the end."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.mark = spec["mark"]
        self.events = spec.get("events")
        self.saves_on_sigterm = bool(spec.get("saves_on_sigterm"))
        self.log = Log(Path(spec["log"]))
        self.stopping: float | None = None
        self.gone = False
        try:
            self.trainer = subprocess.Popen(
                spec["argv"],
                cwd=spec["workdir"],
                env={**spec["environ"], MARK: self.mark},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            self.log.feed(f"{spec['argv'][0]}: {error.strerror}\n".encode())
            self.log.close()
            raise SystemExit(CANNOT_START) from None

    def run(self) -> int:
        """Until the trainer and all that it started are gone. Returns the exit code."""
        assert self.trainer.stdout is not None
        output, control = self.trainer.stdout.fileno(), sys.stdin.fileno()
        reading = [output, control]
        ended: float | None = None  # when the launcher itself was seen to be gone
        while output in reading:
            ready, _, _ = select.select(reading, [], [], 0.25)
            now = time.monotonic()
            if output in ready:
                data = os.read(output, _CHUNK)
                self.log.feed(data)
                if not data:
                    reading.remove(output)
            if control in ready and not self._told(os.read(control, 1)):
                reading.remove(control)
            if self.stopping is not None and now > self.stopping:
                self.end_all()
                self.stopping = now + GRACE_SECONDS
            if ended is None and self.trainer.poll() is not None:
                ended = now
            if ended is not None and now > ended + ORPHAN_SECONDS:
                self.end_all()  # a rank that still holds our pipe would keep us reading for ever
                if now > ended + ORPHAN_SECONDS + DRAIN_SECONDS:
                    break
        code = self._wait()
        self.end_all()
        self.log.close()
        return 128 - code if code < 0 else code

    def _wait(self) -> int:
        """The launcher may close its output before it ends; the doctor's word is heard meanwhile."""
        while True:
            with suppress(subprocess.TimeoutExpired):
                return self.trainer.wait(0.2)
            ready, _, _ = select.select([] if self.gone else [sys.stdin.fileno()], [], [], 0)
            if ready:
                self._told(os.read(sys.stdin.fileno(), 1))
            if self.stopping is not None and time.monotonic() > self.stopping:
                self.end_all()

    def _told(self, letter: bytes) -> bool:
        """Follow one letter. False at the end of input."""
        if letter == b"k":
            self.end_all()
        elif letter in LETTERS:
            self.stop(LETTERS[letter])
        elif not letter:
            self.gone = True
            self.stop(signal.SIGTERM)
        return bool(letter)

    def stop(self, number: int) -> None:
        """End gently: torchrun ends its ranks itself when it is told, and only it.

        llamafactory-cli waits in subprocess.run, which kills torchrun a quarter of a second after its own SIGINT; the
        ranks would then be torn down half way through what they save. Ranks that save when they get SIGTERM get just
        that and the time for it: torchrun would kill them after 30 s.
        """
        first = self.stopping is None
        if first:
            self.stopping = time.monotonic() + (SAVING_SECONDS if self.saves_on_sigterm else GRACE_SECONDS)
        if first and self.saves_on_sigterm and (ranks := self._ranks()):
            for pid in ranks:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            return
        agent = self._agent()
        with suppress(ProcessLookupError):  # it has ended already
            if agent is not None:
                os.kill(agent, number)
            else:
                os.killpg(self.trainer.pid, number)

    def _agent(self) -> int | None:
        for process in _below():
            with suppress(psutil.Error):
                if any(word.endswith(_LAUNCHERS) for word in process.cmdline()[:4]):
                    return process.pid
        return None

    def _ranks(self) -> list[int]:
        """The ranks themselves, without the workers that they started."""
        found: dict[int, int] = {}
        for process in _below():
            with suppress(psutil.Error):
                if "RANK" in process.environ():
                    found[process.pid] = process.ppid()
        return [pid for pid, parent in found.items() if parent not in found]

    def end_all(self) -> None:
        """SIGKILL for every process of the run; ranks have sessions of their own, so a process group is not enough."""
        for _ in range(5):  # one may have forked between the look and the kill
            living = [p for p in _below() if p.status() != psutil.STATUS_ZOMBIE]
            for process in living:
                with suppress(psutil.Error):
                    process.kill()
            if not living:
                break
        kill_marked(self.mark)


def _below() -> list[psutil.Process]:
    """Descendants of this process, parents first; orphans of the run among them, because this is their reaper."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            process.status()
            found.append(process)
    return found


def kill_marked(mark: str) -> None:
    """End every process that carries the mark in its environment."""
    for found in psutil.process_iter():
        with suppress(psutil.Error):  # ended in between, or of another user
            if found.environ().get(MARK) == mark:
                found.kill()


def main() -> int:
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(sys.stdin.fileno(), 1)  # no more than the line: a letter may stand behind it already
        if not piece:
            return CANNOT_START
        line += piece
    # Ignored signals would pass to the ranks (nohup, a shell's background job): then they could not be ended gently.
    for number in LETTERS.values():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    keeper = Keeper(json.loads(line))
    # Slurm and a shutdown signal every process of a job, this one too: that means the same as a word of the doctor.
    for number in LETTERS.values():
        signal.signal(number, lambda received, frame: keeper.stop(received))
    code = keeper.run()
    if keeper.gone and keeper.events:
        from doctor.train.record import append_event

        words = {
            "en": f"skyt1-doctor itself was ended; the run was stopped (trainer exit code {code}).",
            "zh": f"skyt1-doctor 自身被终止，训练已停止（训练程序退出码 {code}）。",
        }
        append_event(Path(keeper.events), "end", words, code=code)
    return code


if __name__ == "__main__":
    os._exit(main())  # at once: nothing of ours is left to clean up
