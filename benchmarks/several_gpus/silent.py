"""A rank stopped in a plain `llamafactory-cli train` until the collective of the others times out, and a rank killed: the
logs as they are without a doctor beside the run, and what `diagnose` makes of them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import place
from rows import Done, Out, causes, end, limit

READY = re.compile(rb"\{'loss'")
STARTING, TIMEOUT, ENDING = 150.0, 60, 120.0  # seconds: until losses are logged, ddp_timeout, from it to the end


def run(out: Out, doctor: Path, new: Path, root: Path, ranks: int, cpu: bool) -> None:
    shape = place.TINY[0] if cpu else "0.5B"
    place.write_models(new, root / "models", [shape])
    for stage in (0,) if cpu else (2, 3):
        for number in (signal.SIGSTOP, signal.SIGKILL):
            more: dict[str, Any] = {"max_steps": 100000, "gradient_accumulation_steps": 1, "num_train_epochs": 1e6}
            more |= {"ddp_timeout": TIMEOUT} | ({} if cpu else {"bf16": True})
            config = place.zero(stage) if stage else None
            name = f"{number.name}-zero{stage}"
            work = place.Workspace(root / f"silent-{name}", root / "models" / shape, config, **more)
            _case(out, doctor, new, work, ranks, cpu, number, name)


def _case(
    out: Out, doctor: Path, new: Path, work: place.Workspace, ranks: int, cpu: bool, number: signal.Signals, name: str
) -> None:
    environ = place.environ_of(new, ranks, cpu)
    log = out.folder / f"silent-{name}.log"
    argv = [str(new.parent / "llamafactory-cli"), "train", work.RECIPE]
    begun = time.monotonic()
    with log.open("wb") as file:
        process = subprocess.Popen(argv, cwd=work.root, env=environ, stdin=subprocess.DEVNULL, stdout=file,
                                   stderr=file, start_new_session=True)  # fmt: skip
        try:
            while not READY.search(log.read_bytes()) and process.poll() is None:
                if time.monotonic() - begun > limit(STARTING):
                    break
                time.sleep(0.5)
            processes = place.ranks_below(process.pid)
            if len(processes) < ranks:
                out.row(name, outcome="the run did not come to its first loss", code=process.poll())
                return
            at = time.monotonic()
            os.kill(processes[ranks - 1], number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(limit(TIMEOUT + ENDING))
            ended = round(time.monotonic() - at, 1)
        finally:
            for left in place.descendants(process.pid):
                with suppress(ProcessLookupError):
                    os.kill(left, signal.SIGKILL)
            end(process)
    said = Done(place.doctor(doctor, "diagnose", str(log.resolve()), "--format", "json"), work.root, environ, 60)
    out.keep(log.name, log.read_text(errors="replace"))
    out.row(name, code=process.poll(), ended_after=ended, findings=causes(said.document()))
