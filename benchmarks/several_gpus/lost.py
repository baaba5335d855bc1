"""A rank killed and a rank stopped while a real run trains under `skyt1-doctor train`: what the doctor said, and when."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import place
from rows import Out, end, limit

READY_STEP = 12  # by then the pace of the run is known
STARTING, LIMIT = 150.0, 150.0  # seconds until that step, and from the disturbance to the doctor's word


def run(out: Out, doctor: Path, new: Path, root: Path, ranks: int, cpu: bool) -> None:
    shape = place.TINY[0] if cpu else "0.5B"
    place.write_models(new, root / "models", [shape])
    for number in (signal.SIGKILL, signal.SIGSTOP):
        more: dict[str, Any] = {"max_steps": 100000, "gradient_accumulation_steps": 1, "num_train_epochs": 1e6}
        more |= {} if cpu else {"bf16": True}
        config = None if cpu else place.zero(3)
        work = place.Workspace(root / f"lost-{number.name}", root / "models" / shape, config, **more)
        environ = place.environ_of(new, ranks, cpu)
        log = out.folder / f"train-{number.name}.log"
        with log.open("wb") as file:
            argv = place.doctor(
                doctor, "train", work.RECIPE, "--python", str(new), "--offline", "--no-rehearse", "--force"
            )
            process = subprocess.Popen(argv, cwd=work.root, env=environ, stdin=subprocess.DEVNULL, stdout=file,
                                       stderr=file, start_new_session=True)  # fmt: skip
            try:
                _disturb(out, work, process, number, ranks)
            finally:
                _stop(process)
        if (folder := work.run_directory()) is not None:
            for name in ("events.jsonl", "train.log"):
                out.keep(f"{number.name}-{name}", (folder / name).read_text(errors="replace"))


def _stop(process: subprocess.Popen[bytes]) -> None:
    """As Ctrl-C does it: the doctor ends its ranks. What is left after a minute is killed, the ranks first."""
    left = list(place.descendants(process.pid))
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        end(process)
    for each in left:
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)


def _disturb(
    out: Out, work: place.Workspace, process: subprocess.Popen[bytes], number: signal.Signals, ranks: int
) -> None:
    begun = time.monotonic()
    while work.step() < READY_STEP and process.poll() is None and time.monotonic() - begun < limit(STARTING):
        time.sleep(0.5)
    processes = place.ranks_below(process.pid)
    if work.step() < READY_STEP or len(processes) < ranks:
        out.row(
            number.name, outcome=f"the run did not come to step {READY_STEP}", step=work.step(), code=process.poll()
        )
        return
    steps = [row["step_seconds"] for row in work.rows("metrics") if row.get("step_seconds")]
    victim = processes[ranks - 1]
    at, step = time.time(), work.step()
    os.kill(victim, number)
    told: list[dict[str, Any]] = []
    while time.time() - at < limit(LIMIT) and not told:
        time.sleep(0.25)
        told = [e for e in work.rows("events") if e["time"] > at and e["kind"] in ("alarm", "diagnosis")]
    ended = None
    if number == signal.SIGKILL:
        try:
            process.wait(60)
            ended = round(time.time() - at, 1)
        except subprocess.TimeoutExpired:
            pass
    elif told:
        os.kill(victim, signal.SIGCONT)
        end_wait = time.monotonic()
        while work.step() < step + 5 and time.monotonic() - end_wait < 30:
            time.sleep(0.5)
    said = [
        {"after": round(e["time"] - at, 1), "kind": e["kind"], "cause": (e.get("finding") or {}).get("cause"),
         "rank": (e.get("finding") or {}).get("rank"), "text": e["text"]["en"],
         "evidence": [item["what"][:400] for item in (e.get("finding") or {}).get("evidence", ())]}
        for e in work.rows("events") if e["time"] > at
    ]  # fmt: skip
    pace = sorted(steps)[len(steps) // 2] if steps else None
    out.row(
        number.name, rank=ranks - 1, pid=victim, at_step=step, step_seconds=pace,
        named_after=said[0]["after"] if said else None, doctor_ended_after=ended, code=process.poll(), said=said,
        went_on=work.step() >= step + 5 if number == signal.SIGSTOP else None,
        left=len(place.ranks_below(process.pid)),
    )  # fmt: skip
