"""A sample of records drawn evenly from data files, with the number of each; one pass, bounded memory."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from doctor.recipe import json_faults, json_records

RECORDS = 1000  # of an entry: the share of cut records is known to about ±3 %
LARGEST = 1 << 20  # bytes of a record; a larger one is counted, not taken
MEMORY = 128 << 20  # bytes of the records kept, as text


class Drawn(msgspec.Struct, frozen=True):
    """A record as text, the file that holds it (its place among the files), and its 1-based number there."""

    text: bytes
    file: int
    number: int


class Sample(msgspec.Struct, frozen=True):
    """`read` records were looked at, `complete`: all of them; `unreadable`: why not."""

    records: list[Drawn]
    read: int
    complete: bool
    unreadable: str | None = None


def draw(files: Sequence[Path], until: float, wanted: int = RECORDS, seed: int = 0) -> Sample:
    """Reservoir sampling over JSON files until the monotonic clock passes `until`. Never raises for what they hold."""
    choose = random.Random(seed)
    kept: list[Drawn] = []
    read, size = 0, 0
    try:
        for place, path in enumerate(files):
            for batch in json_records.read(path):
                for index, record in enumerate(batch.records):
                    read += 1
                    slot = len(kept) if len(kept) < wanted else choose.randrange(read)
                    if slot >= wanted:
                        continue
                    text = _text(record)
                    before = len(kept[slot].text) if slot < len(kept) else 0
                    if len(text) > min(LARGEST, MEMORY - size + before):
                        continue
                    size += len(text) - before
                    kept[slot : slot + 1] = [Drawn(text, place, batch.first + index)]
                if time.monotonic() > until:
                    return Sample(_ordered(kept), read, False)
    except json_faults.BadData as bad:
        return Sample(_ordered(kept), read, False, str(bad))
    except OSError as error:
        return Sample(_ordered(kept), read, False, str(error.strerror))
    return Sample(_ordered(kept), read, True)


def _ordered(kept: list[Drawn]) -> list[Drawn]:
    return sorted(kept, key=lambda drawn: (drawn.file, drawn.number))


def line_of(path: Path, number: int) -> int:
    """The 1-based line on which a record begins; reads the file up to it. Raises OSError, json_faults.BadData."""
    for batch in json_records.read(path):
        if number < batch.first + len(batch.records):
            return batch.line_of(number - batch.first)
    return 1


def _text(record: Any) -> bytes:
    text = json.dumps(record, ensure_ascii=False)
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:  # half a surrogate pair, which only an escape can write
        return json.dumps(record).encode("ascii")


def write(folder: Path, info: dict[str, Any], samples: dict[str, Sample | Path]) -> None:
    """`folder` as a dataset_dir of the samples: entries as they are, but for where their data lies.

    A path stands for a file that is not sampled here: it is linked, whole.
    """
    entries = {}
    for number, (name, sample) in enumerate(samples.items()):
        if isinstance(sample, Path):
            file = f"whole-{number}{sample.suffix}"
            (folder / file).symlink_to(sample.absolute())
        else:
            file = f"sample-{number}.jsonl"
            (folder / file).write_bytes(b"\n".join(drawn.text for drawn in sample.records) + b"\n")
        entries[name] = {**{key: value for key, value in info[name].items() if key not in _REPLACED}, "file_name": file}
    (folder / "dataset_info.json").write_text(json.dumps(entries), encoding="utf-8")


_REPLACED = ("file_name", "num_samples", "hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name", "split",
             "subset", "folder")  # fmt: skip
