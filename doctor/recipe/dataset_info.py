"""dataset_info.json as the installed LLaMA-Factory reads it: which entries the recipe names and what they mean."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import msgspec

from doctor.recipe.dataset_rules import DatasetRules
from doctor.recipe.json_text import Document

FILE_NAME = "dataset_info.json"
PLACEHOLDERS = ("your data path here", "path/to/", "your_data", "/path/to")


class Entry(msgspec.Struct, frozen=True):
    """One entry as the loader resolves it. `columns` and `tags` hold None where the entry declares others but not this.

    `load_from` is one of file, hf_hub, ms_hub, om_hub, script, cloud_file. `lines` are the lines of the entry's keys
    in dataset_info.json (`""` is the entry itself).
    """

    name: str
    load_from: str
    source: str
    formatting: str
    ranking: bool
    columns: dict[str, str | None]
    tags: dict[str, str | None]
    unknown_keys: dict[str, str | None]  # key of the entry, of columns or of tags -> the known key most like it
    declared_columns: list[str]
    declared_tags: list[str]
    unread_values: dict[str, str]  # values of the unknown keys that are text
    lines: dict[str, int]
    num_samples: int | None = None
    split: str = "train"
    subset: str | None = None
    folder: str | None = None
    calls_after_thought: bool = False  # see DatasetRules
    tools_described: bool = False  # see DatasetRules
    misfits: dict[str, str] = {}  # key of the entry -> what of another type than the loader can use stands there


def named(value: Any) -> list[str]:
    """Names in `dataset` or `eval_dataset`: a list, or a string split at commas."""
    if isinstance(value, str):
        return [name.strip() for name in value.split(",")]
    if isinstance(value, (list, tuple)):
        return [str(name) for name in value]
    return []


def entry(name: str, document: Document, rules: DatasetRules, modelscope: bool = False) -> Entry | None:
    """The entry of that name; None when there is none or it is not a mapping. `modelscope`: USE_MODELSCOPE_HUB is set."""
    given = document.value.get(name) if isinstance(document.value, dict) else None
    if not isinstance(given, dict):
        return None
    load_from, source = _origin(given, modelscope)
    columns, tags = given.get("columns"), given.get("tags")
    formatting = str(given.get("formatting", "alpaca"))
    if rules.tags_only_of_sharegpt and formatting != "sharegpt":
        tags = None
    lines = {"": document.lines.get((name,), 1)}
    lines |= {".".join(path[1:]): line for path, line in document.lines.items() if path[0] == name and len(path) > 1}
    return Entry(
        name=name,
        load_from=load_from,
        source=source,
        formatting=formatting,
        ranking=bool(given.get("ranking", False)),
        columns=_resolved(columns, rules.columns, rules.defaults),
        tags=_resolved(tags, rules.tags, rules.defaults),
        unknown_keys=_unknown_keys(given, rules),
        declared_columns=list(columns) if isinstance(columns, dict) else [],
        declared_tags=list(given["tags"]) if isinstance(given.get("tags"), dict) else [],
        unread_values={k: v[:80] for k, v in given.items() if isinstance(v, str) and k not in rules.keys},
        lines=lines,
        num_samples=_whole(given.get("num_samples")),
        split=str(given.get("split", "train")),
        subset=given.get("subset") if isinstance(given.get("subset"), str) else None,
        folder=given.get("folder") if isinstance(given.get("folder"), str) else None,
        calls_after_thought=rules.calls_after_thought,
        tools_described=rules.tools_described,
        misfits=_misfits(given),
    )


def _whole(given: Any) -> int | None:
    return given if isinstance(given, int) and not isinstance(given, bool) else None


_TYPES: dict[str, type] = {"columns": dict, "tags": dict, "num_samples": int}
_SOURCES = ("hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name")


def _misfits(given: Mapping[str, Any]) -> dict[str, str]:
    """Nothing checks the types of an entry's values before they are used."""
    found = {}
    for key, type_ in _TYPES.items():
        value = given.get(key)
        absent = value is None and (key != "columns" or key not in given)
        too_small = isinstance(value, int) and value < 1
        if not absent and (not isinstance(value, type_) or isinstance(value, bool) or too_small):
            found[key] = str(value)[:80]
    if "ranking" in given and not isinstance(given["ranking"], bool) and given["ranking"]:
        found["ranking"] = str(given["ranking"])[:80]  # it counts as true, and as false where it is compared
    if any(f"{hub}_url" in given for hub in ("hf_hub", "ms_hub", "om_hub")) and given.get("file_name"):
        found["file_name"] = str(given["file_name"])[:80]  # the hub is asked, the file is not read
    found |= {key: str(given[key])[:80] for key in _SOURCES if key in given and not str(given[key] or "").strip()}
    return found


def _origin(given: Mapping[str, Any], modelscope: bool) -> tuple[str, str]:
    hub = {kind: given[f"{kind}_url"] for kind in ("hf_hub", "ms_hub", "om_hub") if f"{kind}_url" in given}
    if hub:
        if "ms_hub" in hub and (modelscope or "hf_hub" not in hub):
            return "ms_hub", str(hub["ms_hub"])
        kind = "hf_hub" if "hf_hub" in hub else "om_hub"
        return kind, str(hub[kind])
    for key, kind in (("script_url", "script"), ("cloud_file_name", "cloud_file")):
        if key in given:
            return kind, str(given[key])
    return "file", str(given.get("file_name", ""))


def _resolved(given: Any, names: tuple[str, ...], defaults: Mapping[str, Any]) -> dict[str, str | None]:
    """Declared mapping over the release's names: with a declaration, what it leaves out is None, not the default."""
    if isinstance(given, dict):
        return {name: None if given.get(name) is None else str(given[name]) for name in names}
    return {name: defaults.get(name) for name in names}


def _unknown_keys(given: Mapping[str, Any], rules: DatasetRules) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    groups: list[tuple[str, Any, tuple[str, ...]]] = [
        ("", given, rules.keys),
        ("columns.", given.get("columns"), rules.columns),
        ("tags.", given.get("tags"), rules.tags),
    ]
    for prefix, mapping, known in groups:
        for key in mapping if isinstance(mapping, dict) else ():
            if key not in known:
                found[prefix + key] = nearest(key, known)
    return found


_ALIASES = {"format": "formatting", "file": "file_name", "path": "file_name", "filename": "file_name",
            "conversations": "messages", "instruction": "prompt", "input": "query", "output": "response",
            "image": "images", "video": "videos", "column": "columns", "tag": "tags"}  # fmt: skip


def nearest(name: str, known: tuple[str, ...] | list[str]) -> str | None:
    """The known name most like `name`, or None."""
    lowered = {k.lower(): k for k in known}
    if _ALIASES.get(name.lower()) in known:
        return _ALIASES[name.lower()]
    if name.lower() in lowered:
        return lowered[name.lower()]
    found = difflib.get_close_matches(name.lower(), list(lowered), n=1, cutoff=0.6)
    return lowered[found[0]] if found else None


def is_placeholder(source: str) -> bool:
    """Whether a file name is what upstream ships for the user to fill in."""
    lowered = source.lower()
    return any(p in lowered for p in PLACEHOLDERS) or source.strip().strip("<>").upper() in ("TODO", "FIXME")
