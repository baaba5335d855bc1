"""What the doctor adds to a run, beside the same run alone, in turn, so that both meet the same machine.

    python benchmarks/train_overhead.py FOLDER [--standin]

A toy run of real LLaMA-Factory (two CPU ranks), or with --standin the tests' trainer of real processes without torch, alone
and under `skyt1-doctor train`. Two figures: the ratio of the wall times, and the CPU seconds that the doctor, its keeper and
its samplers use per second of the run, which is what a long run pays: the examination before the launch is a fixed cost.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import psutil  # noqa: E402

from tests.doctor.train import runs  # noqa: E402
from tests.stack.train.place import Place, environment  # noqa: E402

RESULTS = Path(__file__).parent / "results" / "train_overhead.json"
STEPS, STEP_SECONDS, ROUNDS = 60, 0.5, 2
STANDIN_STEPS, STANDIN_SECONDS, STANDIN_ROUNDS = 60, 0.5, 3


def alone(place: Place) -> dict[str, float]:
    """`llamafactory-cli train` with its output in a file, as `nohup` leaves it."""
    recipe = place.root / "examples/train_full/qwen2_full_sft.yaml"
    environ = {**place.environ, "TEST_STEP_SECONDS": str(STEP_SECONDS), "FORCE_TORCHRUN": "1"}
    started = time.monotonic()
    with (place.root / "alone.log").open("wb") as log:
        cli = str(place.prefix / "bin" / "llamafactory-cli")
        subprocess.run([cli, "train", str(recipe)], cwd=place.root, env=environ, stdout=log, stderr=log, check=True)
    return {"wall": time.monotonic() - started, "train": _train_runtime(place.root / "alone.log")}


def under_the_doctor(place: Place) -> dict[str, float]:
    """`skyt1-doctor train`; CPU seconds of all its own processes, the trainer's left out."""
    doctor = place.start(step_seconds=STEP_SECONDS)
    used = _cpu_until_end(doctor)
    events = place.rows("events")
    launched = next(event["time"] for event in events if event["kind"] == "launch")
    ended = next(event["time"] for event in events if event["kind"] == "end")
    log = place.run_directory() / "train.log"
    return {"wall": ended - launched, "train": _train_runtime(log), "doctor_cpu": used}


def _cpu_until_end(doctor: subprocess.Popen[bytes]) -> float:
    """CPU seconds of the doctor's own processes, start and imports included."""
    used: dict[int, float] = {}
    while doctor.poll() is None:
        for process in _own(doctor.pid):
            try:
                times = process.cpu_times()
                used[process.pid] = times.user + times.system
            except psutil.Error:
                continue
        time.sleep(0.2)
    return round(sum(used.values()), 2)


def _own(pid: int) -> list[psutil.Process]:
    """The doctor and its children that are not the trainer."""
    try:
        doctor = psutil.Process(pid)
        return [doctor, *[child for child in doctor.children() if "doctor.train" in " ".join(child.cmdline())]]
    except psutil.Error:
        return []


def _train_runtime(log: Path) -> float:
    from doctor.train.trainer_lines import Logged, parse

    text = log.read_text(errors="replace").replace("\r", "\n")
    logged = [said for line in text.splitlines() for said in parse(line) if isinstance(said, Logged)]
    return next(said.values["train_runtime"] for said in logged if said.of_run)


def real(folder: Path) -> dict[str, Any]:
    prefix = environment(folder / "env")
    rows: dict[str, list[dict[str, float]]] = {"alone": [], "doctor": []}
    for number in range(ROUNDS):
        for name, measure in (("alone", alone), ("doctor", under_the_doctor)):
            place = Place(folder / f"{name}-{number}", prefix, 29700 + number, max_steps=STEPS, save_steps=20)
            rows[name].append(measure(place))
    return judged(rows, steps=STEPS, step_seconds=STEP_SECONDS, rounds=ROUNDS)


def standin(folder: Path) -> dict[str, Any]:
    """The trainer is a stand-in; what surrounds it is the doctor's own code."""
    rows: dict[str, list[dict[str, float]]] = {"alone": [], "doctor": []}
    for number in range(STANDIN_ROUNDS):
        for name in rows:
            root = folder / f"standin-{name}-{number}"
            shutil.rmtree(root, ignore_errors=True)
            root.mkdir(parents=True)
            target = runs.make(root, steps=STANDIN_STEPS, step_seconds=STANDIN_SECONDS, save_steps=20)
            rows[name].append(_standin_alone(target) if name == "alone" else _standin_watched(root))
    return judged(rows, steps=STANDIN_STEPS, step_seconds=STANDIN_SECONDS, rounds=STANDIN_ROUNDS)


def _standin_alone(target: Any) -> dict[str, float]:
    cli = [sys.executable, str(target.scripts / "llamafactory-cli"), "train", str(target.recipe)]
    started = time.monotonic()
    with (target.workdir / "alone.log").open("wb") as log:
        subprocess.run(cli, cwd=target.workdir, stdout=log, stderr=log, check=True)
    seconds = time.monotonic() - started
    return {"wall": seconds, "train": seconds}


_WATCHED = """
import sys
from pathlib import Path
from doctor.train import run_directory
from doctor.train.session import Session
from doctor.train.view import PlainView
from tests.doctor.train import runs
target = runs.again(Path(sys.argv[1]))
Session(target, runs.facts(target), run_directory.create(target.workdir), PlainView("en")).run()
"""


def _standin_watched(root: Path) -> dict[str, float]:
    process = subprocess.Popen(
        [sys.executable, "-c", _WATCHED, str(root)], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    used = _cpu_until_end(process)
    folder = next((root / "work" / ".skyt1-doctor" / "runs").iterdir())
    times = {row["kind"]: row["time"] for row in runs.rows(folder, "events")}
    seconds = times["end"] - times["launch"]
    return {"wall": seconds, "train": seconds, "doctor_cpu": used}


def judged(rows: dict[str, list[dict[str, float]]], **what: float) -> dict[str, Any]:
    idle = [row["doctor_cpu"] for row in rows["doctor"]]
    walls = {name: statistics.median(row["wall"] for row in found) for name, found in rows.items()}
    trains = {name: statistics.median(row["train"] for row in found) for name, found in rows.items()}
    return {
        "cpus": os.cpu_count(),
        **what,
        "runs": rows,
        "train_runtime_ratio": round(trains["doctor"] / trains["alone"], 4),
        "launch_to_end_ratio": round(walls["doctor"] / walls["alone"], 4),
        "doctor_cpu_seconds_per_second": round(statistics.median(idle) / walls["doctor"], 4),
    }


def main(arguments: list[str]) -> dict[str, Any]:
    folder = Path(arguments[0]).absolute()
    name, measure = ("standin", standin) if "--standin" in arguments else ("llamafactory", real)
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    known[name] = measure(folder)
    RESULTS.write_text(json.dumps(known, indent=1) + "\n")
    return known[name]


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:]), indent=1))
