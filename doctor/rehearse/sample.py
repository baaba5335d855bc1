"""A sample of real records: the longest, the shortest, the strangest, and some of the others, in their original order.

Strange is what differs: another set of keys or types, what the converter would drop, many turns, text beyond ASCII,
empty fields, markup that a template uses itself, one endless word. One pass, in bounded memory and time.
"""

from __future__ import annotations

import heapq
import json
import random
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from doctor.recipe import conversion, json_faults, json_records
from doctor.recipe.dataset_info import Entry

SHAPES = 12  # records of distinct shape that are taken
FAULTS = 2  # records that are taken for each kind of fault
_MARKUP = re.compile(r"<\|[^|<>]{1,40}\|>|<(?:image|video|audio)>|\[INST\]|</s>")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


class Picked(msgspec.Struct):
    """`records` in their original order with what they were taken for. `read` of the file's records were looked at.

    `complete`: all of them. `unreadable`: why the file could not be sampled and goes into the rehearsal as it is.
    """

    records: list[Any] = []
    reasons: list[str] = []
    read: int = 0
    complete: bool = True
    unreadable: str | None = None


class _Best:
    """The `count` records with the highest score for one reason."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.heap: list[tuple[float, int, Any]] = []

    def offer(self, score: float, number: int, record: Any) -> None:
        if len(self.heap) < self.count:
            heapq.heappush(self.heap, (score, -number, record))
        elif score > self.heap[0][0]:
            heapq.heapreplace(self.heap, (score, -number, record))


class Sampler:
    """Looks at record after record and keeps few of them."""

    def __init__(self, entry: Entry, stage: str, wanted: int) -> None:
        self.judge = conversion.converter(entry, stage)
        self.messages = entry.columns.get("messages") if entry.formatting != "alpaca" else None
        self.role = entry.tags.get("role_tag")
        self.wanted = wanted
        self.read = 0
        self.first: dict[str, list[tuple[int, Any]]] = {}
        self.best = {"longest": _Best(2), "shortest": _Best(2), "most turns": _Best(1), "beyond ASCII": _Best(1),
                     "longest word": _Best(1)}  # fmt: skip
        self.others: list[tuple[int, Any]] = []
        self.random = random.Random(0)

    def look(self, record: Any) -> None:
        number = self.read
        self.read += 1
        texts = list(_texts(record))
        length = sum(map(len, texts))
        self.best["longest"].offer(length, number, record)
        self.best["shortest"].offer(-length, number, record)
        turns = record.get(self.messages) if self.messages and isinstance(record, dict) else None
        if isinstance(turns, list):
            self.best["most turns"].offer(len(turns), number, record)
        strange = sum(len(text) for text in texts if not text.isascii())
        if strange:
            self.best["beyond ASCII"].offer(strange, number, record)
        self.keep_first(f"shape {self.shape(record)}", 1, number, record)
        fault = self.judge(record) if isinstance(record, dict) else (conversion.NOT_AN_OBJECT, "")
        if fault:
            self.keep_first(fault[0], FAULTS, number, record)
        if any(text == "" for text in texts):
            self.keep_first("empty text", 1, number, record)
        if number < 20_000:  # these look into the text; the first records tell what a file holds
            if any(_MARKUP.search(text) for text in texts):
                self.keep_first("markup", 2, number, record)
            if any(_CONTROL.search(text) for text in texts):
                self.keep_first("control characters", 1, number, record)
            word = max((len(w) for text in texts for w in text[:4000].split()), default=0)
            if word > 60:
                self.best["longest word"].offer(word, number, record)
        if len(self.others) < self.wanted:
            self.others.append((number, record))
        elif (place := self.random.randrange(self.read)) < self.wanted:
            self.others[place] = (number, record)

    def shape(self, record: Any) -> str:
        if not isinstance(record, dict):
            return type(record).__name__
        turns = record.get(self.messages) if self.messages else None
        roles = ""
        if isinstance(turns, list):
            said = {str(turn.get(self.role))[:20] if isinstance(turn, dict) else type(turn).__name__ for turn in turns}
            roles = ",".join(sorted(said))
        return ";".join(f"{key}:{type(value).__name__}" for key, value in sorted(record.items())) + "|" + roles

    def keep_first(self, reason: str, count: int, number: int, record: Any) -> None:
        kept = self.first.get(reason)
        if kept is None:
            if reason.startswith("shape") and sum(r.startswith("shape") for r in self.first) >= SHAPES:
                return
            kept = self.first[reason] = []
        if len(kept) < count:
            kept.append((number, record))

    def picked(self, complete: bool) -> Picked:
        chosen: dict[int, tuple[Any, str]] = {}
        for reason, best in self.best.items():
            for _, number, record in best.heap:
                chosen.setdefault(-number, (record, reason))
        for reason, kept in self.first.items():
            for number, record in kept:
                chosen.setdefault(number, (record, reason.partition(" ")[0] if reason.startswith("shape") else reason))
        for number, record in self.others:
            if len(chosen) >= self.wanted:
                break
            chosen.setdefault(number, (record, "any"))
        ordered = sorted(chosen)
        records = [chosen[number][0] for number in ordered]
        return Picked(records, [chosen[number][1] for number in ordered], self.read, complete)


def _texts(value: Any) -> Iterator[str]:
    """Every text in a record, keys left out."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def sample(
    files: Iterable[Path], entry: Entry, stage: str, wanted: int, until: float, limit: int | None = None
) -> Picked:
    """About `wanted` records of JSON files, read until the monotonic clock passes `until`; the first `limit` at most.

    Never raises for what the files hold.
    """
    sampler = Sampler(entry, stage, wanted)
    complete = True
    try:
        for path in files:
            for batch in json_records.read(path):
                for record in batch.records:
                    if sampler.read == limit:
                        return sampler.picked(True)
                    sampler.look(record)
                if time.monotonic() > until:
                    complete = False
                    break
    except json_faults.BadData as bad:
        return Picked(read=sampler.read, complete=False, unreadable=str(bad))
    except OSError as error:
        return Picked(read=sampler.read, complete=False, unreadable=str(error.strerror))
    return sampler.picked(complete)


def write(records: list[Any], path: Path, lines: bool) -> None:
    """As the original was written: a list, or one object on each line."""
    texts = [_json(record) for record in records]
    whole = "\n".join(texts) if lines else "[\n" + ",\n".join(texts) + "\n]"
    path.write_text(whole + "\n", encoding="utf-8")


def _json(record: Any) -> str:
    text = json.dumps(record, ensure_ascii=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # half of a surrogate pair, which only an escape can write
        return json.dumps(record)
    return text


def is_lines(path: Path) -> bool:
    """Whether the file is one object after another rather than a list."""
    with path.open("rb") as file:
        return file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{"
