"""What one line of a trainer's output says: a progress bar, logged values, a phase of the run. Pure.

Formats: tqdm's bar (`12/100 [00:10<01:20,  1.20s/it]`), the dict that transformers' ProgressCallback and PrinterCallback
print (numbers to 4.57, quoted numbers from 5.0), transformers' INFO lines of Trainer, LLaMA-Factory's trainer_log.jsonl.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

_BAR = re.compile(
    r"(?:^|[\s\]])(?:(?P<what>[^|%\r\n]{1,80}?):\s+)?(?P<percent>\d{1,3})%\|[^|]*\|\s*(?P<n>\d+)/(?P<total>\d+)\s*"
    r"\[(?P<elapsed>[\d:]+)<"
)
_PAIR = re.compile(r"'(?P<name>[a-z_][\w/]*)':\s*'?(?P<value>-?(?:nan|inf|\d[\d.]*(?:[eE][+-]?\d+)?))'?")
_DICT = re.compile(r"\{'[a-z_][\w/]*':[^{}]*\}")
_COUNT = re.compile(
    r"(?P<name>Num examples|Num Epochs|Total optimization steps|Gradient Accumulation steps|"
    r"Total train batch size \(w\. parallel, distributed & accumulation\)|"
    r"Continuing training from global step)\s*=?\s*(?P<value>[\d,]+)"
)
_NAMES = {
    "Num examples": "examples", "Num Epochs": "epochs", "Total optimization steps": "total",
    "Gradient Accumulation steps": "accumulation", "Continuing training from global step": "start",
}  # fmt: skip
_SAVING = re.compile(r"Saving model checkpoint to (?P<path>.+?)\s*$")
_PHASES = (
    ("***** Running training *****", "training"),
    ("***** Running Evaluation *****", "evaluating"),
    ("***** Running Prediction *****", "evaluating"),
    ("***** Running evaluation *****", "evaluating"),
    ("Training completed.", "trained"),
    ("***** train metrics *****", "done"),
)
_NUMBERS = ("loss", "grad_norm", "learning_rate", "epoch")


class Bar(msgspec.Struct, frozen=True):
    """A progress bar at `n` of `total` after `elapsed` seconds; `what` is its description, None for training's own and
    evaluation's."""

    n: int
    total: int
    what: str | None = None
    elapsed: int = 0


class Logged(msgspec.Struct, frozen=True):
    """Values that the trainer logged, by its own names."""

    values: dict[str, float]

    @property
    def of_step(self) -> bool:
        return "loss" in self.values

    @property
    def of_run(self) -> bool:
        """The figures at a run's end. With include_num_input_tokens_seen each step's line has its train_runtime, too."""
        return "train_runtime" in self.values and not self.of_step


class Count(msgspec.Struct, frozen=True):
    """A figure of the run: total | batch | examples | epochs | accumulation | start."""

    name: str
    value: int


class Phase(msgspec.Struct, frozen=True):
    """training | evaluating | saving | trained | done; `path` is the folder being saved to."""

    name: str
    path: str | None = None


Said = Bar | Logged | Count | Phase


def parse(line: str) -> list[Said]:
    """What the line says, in its order; nothing for the lines that say nothing of progress. Never raises."""
    if line.startswith('{"current_steps"'):
        return _of_trainer_log(line)
    said: list[tuple[int, Said]] = []
    if "%|" in line:
        for bar in _BAR.finditer(line):
            said.append(
                (bar.start(), Bar(int(bar["n"]), int(bar["total"]), _what(bar["what"]), _clock(bar["elapsed"])))
            )
    if "{'" in line:
        for found in _DICT.finditer(line):
            values = {pair["name"]: float(pair["value"]) for pair in _PAIR.finditer(found[0])}
            if "loss" in values or "train_runtime" in values or any(name.startswith("eval_") for name in values):
                said.append((found.start(), Logged(values)))
    if " = " in line or "global step" in line:
        for found in _COUNT.finditer(line):
            name = _NAMES.get(found["name"], "batch")
            said.append((found.start(), Count(name, int(found["value"].replace(",", "")))))
    if "Saving model checkpoint to" in line and (where := _SAVING.search(line)):
        said.append((where.start(), Phase("saving", where["path"])))
    said += [(line.find(mark), Phase(name)) for mark, name in _PHASES if mark in line]
    return [one for _, one in sorted(said, key=lambda pair: pair[0])]


def _of_trainer_log(line: str) -> list[Said]:
    """A row of trainer_log.jsonl, where that is all there is to follow."""
    row = trainer_log(line)
    if row is None:
        return []
    values = {name: float(row[name]) for name in _NUMBERS if name in row}
    return [
        Count("total", row["total"]),
        *([Logged(values)] if "loss" in values else []),
        Bar(row["step"], row["total"]),
    ]


def _clock(text: str) -> int:
    """Seconds of tqdm's `01:23` or `1:02:03`."""
    seconds = 0
    for part in text.split(":"):
        seconds = seconds * 60 + int(part or 0)
    return seconds


def _what(text: str | None) -> str | None:
    return text.strip() or None if text else None


def ordinary(line: str) -> bool:
    """Whether the line is more than a progress bar or logged values: what a reader of a live view still wants to see."""
    return not ("%|" in line and _BAR.search(line)) and not _DICT.search(line) and bool(line.strip())


def trainer_log(line: str) -> dict[str, Any] | None:
    """A row of trainer_log.jsonl as metrics: step, total, loss, learning_rate, epoch, tokens_per_second, total_tokens.

    None for a line that is cut off or no step. `throughput` there is tokens per second since the start of training.
    """
    try:
        row = json.loads(line)
        step, total = int(row["current_steps"]), int(row["total_steps"])
    except (ValueError, KeyError, TypeError):
        return None
    names = {
        "loss": "loss", "lr": "learning_rate", "epoch": "epoch", "throughput": "tokens_per_second",
        "total_tokens": "total_tokens",
    }  # fmt: skip
    values = {ours: row[theirs] for theirs, ours in names.items() if isinstance(row.get(theirs), (int, float))}
    return {"step": step, "total": total, **values}
