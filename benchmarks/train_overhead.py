"""What the doctor adds to a run: `python benchmarks/train_overhead.py FOLDER`, beside `llamafactory-cli train` alone.

The same toy run of real LLaMA-Factory (two CPU ranks) alone and under `skyt1-doctor train`, in turn, so that both meet the
same machine. The toy run is short and the doctor's start (examination, gate) is a fixed cost, so the wall times are read
from the trainer's own `train_runtime` and from the launch to the end, and beside them the CPU seconds that the doctor,
its keeper and its samplers use per second of the run: that is the figure for a long run.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import psutil

from tests.stack.train.place import Place, environment

RESULTS = Path(__file__).parent / "results" / "train_overhead.json"
STEPS, STEP_SECONDS, ROUNDS = 60, 0.5, 3


def alone(place: Place) -> dict[str, float]:
    """`llamafactory-cli train` with its output in a file, as `nohup` leaves it."""
    import subprocess

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
    used: dict[int, float] = {}
    while doctor.poll() is None:
        for process in _own(doctor.pid):
            try:
                times = process.cpu_times()
                used[process.pid] = times.user + times.system
            except psutil.Error:
                continue
        time.sleep(0.2)
    events = place.rows("events")
    launched = next(event["time"] for event in events if event["kind"] == "launch")
    ended = next(event["time"] for event in events if event["kind"] == "end")
    log = place.run_directory() / "train.log"
    return {"wall": ended - launched, "train": _train_runtime(log), "doctor_cpu": sum(used.values())}


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
    return next(said.values["train_runtime"] for said in logged if "train_runtime" in said.values)


def main(folder: Path) -> dict[str, Any]:
    prefix = environment(folder / "env")
    rows: dict[str, list[dict[str, float]]] = {"alone": [], "doctor": []}
    for number in range(ROUNDS):
        for name, measure in (("alone", alone), ("doctor", under_the_doctor)):
            place = Place(folder / f"{name}-{number}", prefix, 29700 + number, max_steps=STEPS, save_steps=20)
            rows[name].append(measure(place))
    idle = [row["doctor_cpu"] for row in rows["doctor"]]
    walls = {name: statistics.median(row["wall"] for row in found) for name, found in rows.items()}
    trains = {name: statistics.median(row["train"] for row in found) for name, found in rows.items()}
    found = {
        "cpus": os.cpu_count(),
        "steps": STEPS,
        "step_seconds": STEP_SECONDS,
        "rounds": ROUNDS,
        "runs": rows,
        "train_runtime_ratio": round(trains["doctor"] / trains["alone"], 4),
        "launch_to_end_ratio": round(walls["doctor"] / walls["alone"], 4),
        "doctor_cpu_seconds_per_second": round(statistics.median(idle) / walls["doctor"], 4),
    }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1])), indent=1))
