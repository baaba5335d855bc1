"""The data folder of a rehearsal: dataset_info.json with the same entries, each on a sample of its real records.

What cannot be sampled goes in as it is: a file that is not valid JSON (the run is to complain about it), parquet and
other files, data of a hub. A dataset_info.json that cannot be read as it must be is left where it is, for the same reason.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from doctor.facts import Facts
from doctor.recipe.dataset_info import FILE_NAME, Entry
from doctor.rehearse import sample
from doctor.rehearse.notes import note
from doctor.target import Target
from knowledge_base.schema import Text

SECONDS = 6.0  # of reading data, all sets together
MOST, FEWEST = 96, 24  # records of a rehearsal
FIRST = 96  # records of files that are not sampled


class Data(msgspec.Struct):
    """`values` to set and `unset` keys to take out of the recipe.

    `records` to train on, a sample of `total`; the latter is None where nobody has counted.
    """

    values: dict[str, Any] = {}
    unset: list[str] = []
    notes: list[Text] = []
    records: int = 0
    total: int | None = 0


def wanted(values: Mapping[str, Any], processes: int, steps: int) -> int:
    """Records that the steps of a rehearsal consume, within bounds."""
    sizes = [values.get("gradient_accumulation_steps"), values.get("per_device_train_batch_size")]
    needed = processes * (steps + 1)
    for size in sizes:
        needed *= size if isinstance(size, int) and size > 0 else 1
    return max(FEWEST, min(MOST, needed))


def prepare(target: Target, facts: Facts, folder: Path, count: int, progress: Callable[[Text], None]) -> Data:
    """Write the data folder for about `count` training records. Raises OSError where it cannot be written."""
    values = facts["recipe.values"]
    if facts.get("dataset.tokenized"):
        return Data(records=count, total=None)
    unset = [key for key in ("tokenized_path",) if key in values]
    entries, raw = facts.get("dataset.entries"), _declared(target, facts)
    if entries is None or raw is None:  # the run will say why
        return Data(unset=unset, records=count, total=None)
    return _Builder(facts, folder, count, progress, Data(unset=unset)).build(target, entries, raw)


def _declared(target: Target, facts: Facts) -> dict[str, Any] | None:
    """dataset_info.json as LLaMA-Factory reads it: strictly. None where it cannot be read so."""
    given = facts["recipe.values"].get("dataset_dir", "data")
    if isinstance(given, dict):
        return given
    if not facts.get("dataset.info_path"):
        return None
    try:
        read = json.loads((target.workdir / str(given) / FILE_NAME).read_bytes().decode("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return read if isinstance(read, dict) else None


class _Builder:
    """Fills one data folder."""

    def __init__(self, facts: Facts, folder: Path, count: int, progress: Callable[[Text], None], data: Data) -> None:
        self.facts, self.folder, self.count, self.progress, self.data = facts, folder, count, progress, data
        self.values = facts["recipe.values"]
        self.until = time.monotonic() + SECONDS

    def build(self, target: Target, entries: Mapping[str, Any], raw: Mapping[str, Any]) -> Data:
        self.folder.mkdir(parents=True)
        requested = self.facts["dataset.requested"]
        training, evaluated = requested["dataset"], requested["eval_dataset"]
        info: dict[str, Any] = {}
        for name in dict.fromkeys(training + evaluated):
            if name not in entries or not isinstance(raw.get(name), dict):
                continue  # the run will say that it is not defined
            share = max(4, self.count // max(1, len(training))) if name in training else sample.SHAPES
            info[name], taken, read = self.entry(name, raw[name], entries[name], share)
            if name in training:
                self.data.records += taken
                self.data.total = None if read is None or self.data.total is None else self.data.total + read
        (self.folder / FILE_NAME).write_text(json.dumps(info, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        self.data.values["dataset_dir"] = target.shown(self.folder)
        media = self.facts["dataset.rules"]["media_folder"]
        if not self.values.get(media) and any(_has_media(entry) for entry in info.values()):
            self.data.values[media] = self.values.get("dataset_dir", "data")
        return self.data

    def entry(
        self, name: str, raw: Mapping[str, Any], found: Mapping[str, Any], share: int
    ) -> tuple[dict[str, Any], int, int | None]:
        """The entry as it goes into the rehearsal, the records behind it, and how many there are in truth."""
        files = [Path(file["path"]) for file in found["files"]]
        loaders = {file["loader"] for file in found["files"]}
        if found["load_from"] != "file" or not files or None in loaders or len(loaders) > 1:
            return dict(raw), share, None  # of a hub, missing, or of no known type: the run will load it or say why not
        if loaders != {"json"}:
            return self.first_of(name, raw, files, loaders.pop(), share)
        entry = msgspec.convert({k: v for k, v in found.items() if k in Entry.__struct_fields__}, Entry)
        limit = self.values.get("max_samples") if found.get("num_samples") is None else None
        limit = limit if isinstance(limit, int) and not isinstance(limit, bool) and limit > 0 else None
        picked = sample.sample(files, entry, self.facts["dataset.stage"], share, self.until, limit)
        if picked.unreadable is not None or not picked.records:
            return {**raw, "file_name": str((files[0].parent if len(files) > 1 else files[0]).absolute())}, share, None
        copy = self.folder / f"{len(list(self.folder.iterdir()))}-{files[0].name}"
        sample.write(picked.records, copy, sample.is_lines(files[0]))
        self.progress(note("sampled", count=len(picked.records), read=picked.read, name=name))
        if not picked.complete:
            self.data.notes.append(note("data_partly", name=name, read=picked.read))
        changed: dict[str, Any] = {**raw, "file_name": copy.name}
        if isinstance(raw.get("num_samples"), int):
            changed["num_samples"] = min(raw["num_samples"], len(picked.records))
        count = changed.get("num_samples") or len(picked.records)
        return changed, count, raw.get("num_samples") or (picked.read if picked.complete else None)

    def first_of(
        self, name: str, raw: Mapping[str, Any], files: list[Path], loader: str, share: int
    ) -> tuple[dict[str, Any], int, int | None]:
        """Files that only the target can read: all of it is loaded, the first records are used."""
        source = files[0] if len(files) == 1 else files[0].parent
        limit = self.values.get("max_samples")
        if not self.values.get("streaming") and not (isinstance(limit, int) and limit <= FIRST):
            self.data.values["max_samples"] = FIRST
            self.data.notes.append(note("data_first", name=name, count=FIRST, format=loader))
        return {**raw, "file_name": str(source.absolute())}, share, None


def _has_media(entry: Mapping[str, Any]) -> bool:
    columns = entry.get("columns")
    return isinstance(columns, dict) and any(columns.get(name) for name in ("images", "videos", "audios"))
