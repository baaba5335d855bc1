"""What the reproductions showed, kept as data: results.json, and the logs of failed runs."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from tests.stack.reproductions.run import Reproduction, Seen

RESULTS = Path(__file__).with_name("results.json")
LOGS = Path(__file__).parents[2] / "logs"


def results() -> dict[str, Any]:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def result(case: Reproduction, seen: Seen, faults: list[str]) -> None:
    """Write down one reproduction; the others stay, and this one too where it only took longer on another day."""
    entry: dict[str, Any] = {
        "cause": case.cause,
        "fix": seen.fix,
        "stack": case.stack,
        "versions": seen.versions,
        "check_named": seen.check_named,
        "failed_before": seen.failed_before,
        "diagnosed": seen.diagnosed[:1],
        "outcome": seen.outcome,
        "trained_after": seen.trained_after,
        "seconds": seen.seconds,
        "date": time.strftime("%Y-%m-%d"),
    }
    if not seen.failed_before and seen.trained_after:
        entry["survives"] = True
    if faults:
        entry["faults"] = faults
    old = results().get(case.id, {})
    if {**old, "seconds": 0, "date": ""} == {**entry, "seconds": 0, "date": ""}:
        return
    content = {**results(), case.id: entry}
    RESULTS.write_text(json.dumps(dict(sorted(content.items())), indent=1, ensure_ascii=False) + "\n")


def keep_log(case: Reproduction, seen: Seen) -> Path:
    suffix = case.id.removeprefix(case.cause)
    file = LOGS / case.cause / f"positive-run-{case.stack}{suffix}.log"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(seen.log, encoding="utf-8")
    return file
