"""metrics.jsonl and events.jsonl of a run: one object per line, appended and flushed as it happens.

An unknown value is an absent key, never null or 0. A full disk loses lines of the record and never ends the watch.

    metrics  {"time", "kind": "step", "step", "total", "epoch", "loss", "learning_rate", "grad_norm", "step_seconds",
              "tokens_per_second", "samples_per_second"}
             {"time", "kind": "machine", "host_used", "host_total", "host_limit", "disk_free", "gpus": [{"index",
              "used", "total", "utilisation", "watts", "celsius", "megahertz", "throttled", "ecc_errors"}]}    bytes
    events   {"time", "kind", "text": {"en", "zh"}, "finding", "code", "attempt"}
             kind: launch | first-step | checkpoint | alarm | failure | diagnosis | heal | resume | signal | end
"""

from __future__ import annotations

import json
import math
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from doctor import redact

METRICS, EVENTS = "metrics.jsonl", "events.jsonl"
KINDS = (
    "launch", "first-step", "checkpoint", "alarm", "failure", "diagnosis", "heal", "resume", "signal", "end",
)  # fmt: skip


def _clean(value: Any) -> Any:
    """Without absent values; NaN and infinity become words, which JSON can hold."""
    if isinstance(value, dict):
        return {key: _clean(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_clean(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _append(path: Path, row: dict[str, Any]) -> None:
    line = json.dumps(redact.document(_clean(row)), ensure_ascii=False) + "\n"
    with (
        suppress(OSError),
        path.open("a", encoding="utf-8") as file,
    ):  # a full disk: the run matters more than its record
        file.write(line)


def append_event(
    path: Path,
    kind: str,
    text: dict[str, str],
    finding: dict[str, Any] | None = None,
    code: int | None = None,
    attempt: int | None = None,
    at: float | None = None,
) -> None:
    """One line of events.jsonl. Raises ValueError for a kind that readers do not know."""
    if kind not in KINDS:
        raise ValueError(f"{kind} is no kind of event")
    row = {"time": at or time.time(), "kind": kind, "text": text, "finding": finding, "code": code, "attempt": attempt}
    _append(path, row)


class Record:
    """Where one run's metrics and events go; `folder` None keeps none (a log that is only looked at)."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.attempt: int | None = None

    def metrics(self, kind: str, values: dict[str, Any], at: float | None = None) -> None:
        if self.folder is not None:
            _append(self.folder / METRICS, {"time": at or time.time(), "kind": kind, **values})

    def event(
        self,
        kind: str,
        text: dict[str, str],
        finding: dict[str, Any] | None = None,
        code: int | None = None,
        at: float | None = None,
    ) -> None:
        if self.folder is not None:
            append_event(self.folder / EVENTS, kind, text, finding, code, self.attempt, at)


def read(path: Path) -> list[dict[str, Any]]:
    """The objects of a metrics or events file; a line cut off by a crash is left out. Empty where there is no file."""
    rows = []
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    for line in lines:
        with suppress(ValueError):
            rows.append(json.loads(line))
    return rows
