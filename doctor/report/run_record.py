"""Reads the record of one run as it lies on disk: any file may be absent, cut off in the middle of a line, or odd.

What cannot be read is left out and said in `damage`; nothing that the record holds is trusted to have the right shape.
Only regular files are opened, and of a long log only its end is read.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from doctor import redact

FILES = (
    "recipe.yaml", "command.json", "facts.json", "train.log", "findings.json", "metrics.jsonl", "events.jsonl",
    "rehearsal.json",
)  # fmt: skip
LOG_BYTES = 256 * 1024  # of the log's end
LOG_LINES = 200  # of those, what is kept
SMALL_FILE = 32 * 1024 * 1024  # bytes; no JSON document of a record comes near it
LONGEST_LINE = 1024 * 1024  # bytes of a line of metrics or events

_ANSI = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

Row = TypeVar("Row")


class Gpu(msgspec.Struct, frozen=True):
    """One GPU at one moment. Bytes, percent, watts, degrees Celsius; None is unknown."""

    index: int
    used: float | None = None
    total: float | None = None
    utilisation: float | None = None
    watts: float | None = None
    celsius: float | None = None
    throttled: tuple[str, ...] = ()
    ecc_errors: float | None = None


class Machine(msgspec.Struct, frozen=True, tag_field="kind", tag="machine"):
    """The machine at one moment; bytes."""

    time: float
    host_used: float | None = None
    host_total: float | None = None
    host_limit: float | None = None
    disk_free: float | None = None
    gpus: tuple[Gpu, ...] = ()


class Step(msgspec.Struct, frozen=True, tag_field="kind", tag="step"):
    """One logged optimizer step. `loss` and `grad_norm` may be NaN: that is what the trainer printed."""

    time: float
    step: int
    total: int | None = None
    epoch: float | None = None
    loss: float | None = None
    learning_rate: float | None = None
    grad_norm: float | None = None
    step_seconds: float | None = None
    tokens_per_second: float | None = None
    samples_per_second: float | None = None


class Event(msgspec.Struct, frozen=True):
    """Something that happened: launch, first-step, checkpoint, alarm, failure, diagnosis, heal, resume, signal, end."""

    time: float
    kind: str
    text: dict[str, str] = {}
    finding: dict[str, Any] | None = None
    code: int | None = None
    attempt: int | None = None


class Stage(msgspec.Struct, frozen=True):
    """One stage of a rehearsal; `skipped` is the reason why it was not run, by language."""

    id: str
    passed: bool | None = None
    seconds: float | None = None
    skipped: dict[str, str] | str | None = None


class Rehearsal(msgspec.Struct, frozen=True):
    """What the rehearsal of the recipe showed. `verdict` is passed, failed, or not rehearsed."""

    passed: bool
    verdict: str = ""
    seconds: float | None = None
    cached: bool = False
    stages: tuple[Stage, ...] = ()
    not_rehearsed: tuple[dict[str, str], ...] = ()
    findings: tuple[dict[str, Any], ...] = ()
    unrecognised: dict[str, Any] | None = None


class RunRecord(msgspec.Struct, frozen=True):
    """All that a run directory holds, secrets masked. `damage` says in English what could not be read."""

    name: str
    command: dict[str, Any]
    facts: dict[str, Any]
    recipe: str
    diagnosis: dict[str, Any]
    steps: tuple[Step, ...]
    machine: tuple[Machine, ...]
    events: tuple[Event, ...]
    rehearsal: Rehearsal | None
    log: tuple[str, ...]
    log_is_whole: bool
    damage: tuple[tuple[str, int], ...]  # (file, lines that could not be read; 0: the file as a whole)

    def fact(self, name: str, default: Any = None) -> Any:
        """A captured fact; the default where it is unknown."""
        value = self.facts.get(name)
        return default if value is None or (isinstance(value, dict) and value.keys() == {"unknown"}) else value


def read(folder: Path) -> RunRecord:
    """The record in `folder`. Never raises for what is in it; OSError only where the folder itself cannot be read."""
    damage: list[tuple[str, int]] = []
    rows = list(_lines(folder / "metrics.jsonl", _metric, damage))
    log, whole = _log(folder / "train.log", damage)
    return RunRecord(
        name=clean(folder.resolve().name),
        command=_document(folder / "command.json", damage),
        facts=_document(folder / "facts.json", damage),
        recipe=clean(_text(folder / "recipe.yaml", damage)),
        diagnosis=_document(folder / "findings.json", damage),
        steps=tuple(row for row in rows if isinstance(row, Step)),
        machine=tuple(row for row in rows if isinstance(row, Machine)),
        events=tuple(_lines(folder / "events.jsonl", _event, damage)),
        rehearsal=_rehearsal(folder / "rehearsal.json", damage),
        log=log,
        log_is_whole=whole,
        damage=tuple(damage),
    )


def clean(text: str) -> str:
    """Text for people: no terminal escapes, no control or direction-changing characters, secrets masked."""
    return redact.text(_CONTROL.sub("\ufffd", _ANSI.sub("", text)))


def _bytes(path: Path, damage: list[tuple[str, int]]) -> bytes | None:
    """The whole of a small regular file; None where there is none."""
    try:
        if not path.is_file():
            if path.exists():
                damage.append((path.name, 0))
            return None
        if path.stat().st_size > SMALL_FILE:
            damage.append((path.name, 0))
            return None
        return path.read_bytes()
    except OSError:
        damage.append((path.name, 0))
        return None


def _text(path: Path, damage: list[tuple[str, int]]) -> str:
    return (_bytes(path, damage) or b"").decode("utf-8", errors="replace").replace("\r\n", "\n")


def _document(path: Path, damage: list[tuple[str, int]]) -> dict[str, Any]:
    """A JSON object; empty where the file is absent or no JSON object."""
    data = _bytes(path, damage)
    if data is None:
        return {}
    try:
        value = redact.document(_cleaned(json.loads(data)))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        damage.append((path.name, 0))
        return {}
    return value


def _cleaned(value: Any) -> Any:
    """Every string of a JSON-like value without terminal escapes and control characters."""
    if isinstance(value, str):
        return _CONTROL.sub("\ufffd", _ANSI.sub("", value))
    if isinstance(value, dict):
        return {_cleaned(key): _cleaned(item) for key, item in value.items()}
    return [_cleaned(item) for item in value] if isinstance(value, list) else value


def _lines(path: Path, convert: Callable[[bytes], Row], damage: list[tuple[str, int]]) -> Iterator[Row]:
    """The rows of a file of JSON lines; lines that are cut off or of another shape are counted and left out."""
    unread = 0
    try:
        if not path.is_file():
            if path.exists():
                damage.append((path.name, 0))
            return
        with path.open("rb") as file:
            while line := file.readline(LONGEST_LINE):
                if not line.strip():
                    continue
                try:
                    yield convert(line)
                except (ValueError, RecursionError):  # msgspec.ValidationError and UnicodeDecodeError are ValueErrors
                    unread += 1
    except OSError:
        damage.append((path.name, 0))
    if unread:
        damage.append((path.name, unread))


_METRIC = msgspec.json.Decoder(Step | Machine, strict=False)


def _metric(line: bytes) -> Step | Machine:
    try:
        row: Step | Machine = _METRIC.decode(line)
    except ValueError:  # a bare NaN, which Python writes and JSON does not know
        row = msgspec.convert(json.loads(line), Step | Machine, strict=False)
    if not math.isfinite(row.time):
        raise ValueError("a row without a time")
    return row


def _event(line: bytes) -> Event:
    event = msgspec.convert(redact.document(_cleaned(json.loads(line))), Event, strict=False)
    if not math.isfinite(event.time):
        raise ValueError("an event without a time")
    return event


def _rehearsal(path: Path, damage: list[tuple[str, int]]) -> Rehearsal | None:
    value = _document(path, damage)
    if not value:
        return None
    try:
        return msgspec.convert(value, Rehearsal, strict=False)
    except msgspec.ValidationError:
        damage.append((path.name, 0))
        return None


def _log(path: Path, damage: list[tuple[str, int]]) -> tuple[tuple[str, ...], bool]:
    """(the log's last lines, whether they are the whole log). Of a progress bar only what it ended on."""
    try:
        if not path.is_file():
            if path.exists():
                damage.append((path.name, 0))
            return (), True
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - LOG_BYTES))
            data = file.read(LOG_BYTES)
    except OSError:
        damage.append((path.name, 0))
        return (), True
    whole = size <= LOG_BYTES
    text = data.decode("utf-8", errors="replace")
    if not whole:
        text = text.partition("\n")[2]
    states = (line.rstrip("\r").rpartition("\r")[2].rstrip() for line in text.split("\n"))
    lines = [line for line in states if line]
    return tuple(clean(line) for line in lines[-LOG_LINES:]), whole and len(lines) <= LOG_LINES
