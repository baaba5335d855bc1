"""What a step of a recipe took in the recorded runs of its working directory."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

from doctor.estimate.duration import Step, same_length, same_step
from doctor.facts import Facts
from doctor.train import record
from doctor.train.run_directory import RUNS

FEWEST = 5  # steps that a run must have timed; the first tenth warms up
LATEST = 20  # runs that are looked at


def measured(workdir: Path, facts: Facts) -> Step | None:
    """From the latest run of the same step on the same GPUs with as many ranks; None where there is none."""
    runs = workdir / RUNS
    for folder in sorted((path for path in runs.glob("*") if path.is_dir()), reverse=True)[:LATEST]:
        then = _facts(folder / "facts.json")
        if then is None or not _alike(facts, then):
            continue
        rows = [
            row for row in record.read(folder / record.METRICS) if isinstance(row, dict) and row.get("kind") == "step"
        ]
        times = [row["step_seconds"] for row in rows if _is_positive(row.get("step_seconds"))]
        times = times[len(times) // 10 :]
        if len(times) >= FEWEST:
            total = rows[-1].get("total") if same_length(facts["recipe.values"], then["recipe.values"]) else None
            return Step(float(median(times)), folder.name, total if isinstance(total, int) else None)
    return None


def _alike(now: Facts, then: Facts) -> bool:
    if not isinstance(then.get("recipe.values"), dict) or not same_step(now["recipe.values"], then["recipe.values"]):
        return False
    return now.get("launch.world_size") == then.get("launch.world_size") and _cards(now) == _cards(then)


def _cards(facts: Facts) -> list[Any]:
    devices = facts.get("gpu.devices") or []
    return [device.get("name") for device in devices if isinstance(device, dict)]


def _is_positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < float("inf")


def _facts(path: Path) -> Facts | None:
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        return Facts.from_json(read) if isinstance(read, dict) else None
    except (OSError, ValueError):
        return None
