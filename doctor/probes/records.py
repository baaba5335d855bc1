"""The records of the data that the recipe names: what the loader reads of them and what the converter makes of them."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from doctor.facts import Facts
from doctor.probes import Judgement
from doctor.recipe import data_scan, data_use_judged, json_object, media_judged, records_judged
from doctor.recipe.dataset_info import Entry
from doctor.target import Target

ID = "records"
AFTER: tuple[str, ...] = ("recipe", "dataset")

SECONDS = 2.0  # of reading in a default check; what was not read by then is said
SECONDS_DEEP = 3600.0


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    """`records.scans`: entry -> data_scan.Scan, for every entry whose files lie on this machine; `records.processor`: the
    sizes by which the model takes images, of a folder of this machine."""
    if facts["dataset.tokenized"]:
        return {"records.scans": {}, "records.processor": {}}
    until = time.monotonic() + (min(SECONDS_DEEP, target.budget / 2) if target.deep else SECONDS)
    values = facts["recipe.values"]
    folder = values.get("dataset_dir", "data")
    media = values.get(facts["dataset.rules"]["media_folder"]) or (folder if isinstance(folder, str) else "data")
    scans = {}
    for name, given in facts["dataset.entries"].items():
        files = [(Path(f["path"]), f["shown"]) for f in given["files"]]
        loaders = {f["loader"] for f in given["files"]}
        if len(loaders) != 1 or None in loaders:
            continue  # nothing there, or nothing that is read: the dataset probe says so
        entry = msgspec.convert({k: v for k, v in given.items() if k in Entry.__struct_fields__}, Entry)
        tell = partial(target.tell, "reading_data") if target.tell else None
        scan = data_scan.scan(
            entry, files, loaders.pop(), facts["dataset.stage"], target.workdir / str(media), until, tell, target.python
        )
        scans[name] = msgspec.to_builtins(scan)
    seen = any(scan["media_given"] for scan in scans.values())
    return {"records.scans": scans, "records.processor": _processor(target, facts) if seen else {}}


def _processor(target: Target, facts: Facts) -> dict[str, Any]:
    name = facts["recipe.values"].get("model_name_or_path")
    settings, _ = json_object.read(target.workdir / str(name) / "preprocessor_config.json")
    wanted = ("patch_size", "merge_size", "max_pixels", "size")
    return {key: settings[key] for key in wanted if key in settings} if settings else {}


JUDGEMENTS: tuple[Judgement, ...] = (
    records_judged.files_readable,
    records_judged.objects_only,
    records_judged.columns_present,
    records_judged.role_tags_fit,
    records_judged.turns_in_order,
    records_judged.turns_listed,
    records_judged.roles_given,
    records_judged.columns_alike,
    data_use_judged.something_left,
    data_use_judged.stage_fits_records,
    records_judged.types_uniform,
    records_judged.tools_are_json,
    media_judged.marks_fit,
    media_judged.marks_declared,
    media_judged.files_there,
    media_judged.wanted,
    media_judged.images_within_cutoff,
    data_use_judged.repeated,
    data_use_judged.answers_said,
    data_use_judged.cutoff_plausible,
    data_use_judged.blocks_filled,
    data_use_judged.validation_fits,
)
