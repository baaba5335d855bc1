"""dataset_info.json and the entries that the recipe names, as the installed LLaMA-Factory will resolve them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec

from doctor.facts import Facts, Unknown
from doctor.probes import Judgement
from doctor.recipe import (
    dataset_info,
    dataset_judged,
    dataset_rules,
    json_text,
    parquet_footer,
    source_cache,
    sources_judged,
    text_encodings,
    tokenized_judged,
    tokenized_set,
)
from doctor.target import Target

ID = "dataset"
AFTER: tuple[str, ...] = ("recipe", "llamafactory")

LARGEST_INFO = 16 << 20  # bytes
SECONDS_OF_IDS = 8.0  # for the ids of a tokenised set: most of it is the import of pyarrow, on a busy disk
MOST_FILES = 1000  # of a folder given as file_name
_TRUE = ("1", "true", "y", "yes")


_INFO_FACTS = (
    "info_error",
    "info_ascii",
    "names",
    "entries",
    "info_complete",
    "info_shape",
    "odd_entries",
    "beyond_output",
)


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    values = facts["recipe.values"]
    requested = {
        "dataset": dataset_info.named(values.get("dataset")),
        "eval_dataset": dataset_info.named(values.get("eval_dataset")),
    }
    rules = _rules(facts)
    folder, stage = values.get("dataset_dir", "data"), str(values.get("stage", "sft"))
    tokenized = _tokenized(target, facts, values.get("tokenized_path"), stage)
    found: dict[str, Any] = {
        "dataset.requested": requested,
        "dataset.stage": stage,
        "dataset.rules": msgspec.to_builtins(rules),
        **{f"dataset.{name}": fact for name, fact in tokenized.items()},
        "dataset.elsewhere": [],
        "dataset.locale": text_encodings.of_files(target.environ),
        "dataset.output_encoding": text_encodings.of_output(target.environ),
    }
    document, state, path = _document(target, folder)
    found["dataset.info_state"] = state
    found["dataset.info_path"] = target.shown(path) if path else None
    if state == "absent":
        found["dataset.elsewhere"] = _elsewhere(target, facts)
    if document is None:
        lacking = Unknown(f"dataset_info.json is {state}")
        return found | {f"dataset.{name}": lacking for name in _INFO_FACTS}
    stopped = {json_text.SYNTAX, json_text.TRUNCATED, json_text.EXTRA_DATA, "encoding"}
    modelscope = target.environ.get("USE_MODELSCOPE_HUB", "0").lower() in _TRUE
    entries = {}
    for name in dict.fromkeys(requested["dataset"] + requested["eval_dataset"]):
        resolved = dataset_info.entry(name, document, rules, modelscope)
        if resolved is not None:
            base = path.parent if path else target.workdir
            entries[name] = msgspec.to_builtins(resolved) | _files(target, base, resolved, rules)
            raw = document.value.get(name) if isinstance(document.value, dict) else None
            entries[name]["declared_keys"] = sorted(raw) if isinstance(raw, dict) else []
    known = document.value if isinstance(document.value, dict) else {}
    odd = [n for names in requested.values() for n in names if n in known and not isinstance(known[n], dict)]
    return found | {
        "dataset.info_error": [msgspec.to_builtins(p) for p in document.problems] or None,
        "dataset.info_ascii": path is None or path.read_bytes().isascii(),
        "dataset.info_complete": not any(p.kind in stopped for p in document.problems),
        "dataset.info_shape": "object" if isinstance(document.value, dict) else type(document.value).__name__,
        "dataset.names": list(document.value) if isinstance(document.value, dict) else [],
        "dataset.entries": entries,
        "dataset.beyond_output": _beyond_output(entries, found["dataset.output_encoding"]),
        "dataset.odd_entries": {n: [json.dumps(known[n])[:60], document.lines.get((n,), 1)] for n in odd},
    }


def _beyond_output(entries: dict[str, Any], encoding: str | None) -> list[str]:
    """Text files, the first of each entry, that begin with what the output's encoding does not hold."""
    firsts = [entry["files"][0] for entry in entries.values() if entry["files"]] if encoding else []
    readable = [file for file in firsts if file["loader"] in ("json", "csv", "text")]
    return [file["shown"] for file in readable if text_encodings.beyond(Path(file["path"]), str(encoding))]


def _rules(facts: Facts) -> dataset_rules.DatasetRules:
    root = facts.get("llamafactory.root")
    if root is None:
        return dataset_rules.FALLBACK
    package = Path(root)
    try:
        own = ("data/parser.py", "data/formatter.py", "extras/constants.py")
        sources = [path for name in own if (path := package / name).is_file()]
        return source_cache.cached(
            "dataset_rules", sources, lambda: dataset_rules.read(package), dataset_rules.DatasetRules
        )
    except (OSError, SyntaxError):  # the llamafactory probe reports a tree that cannot be read
        return dataset_rules.FALLBACK


def _document(target: Target, folder: Any) -> tuple[json_text.Document | None, str, Path | None]:
    """The parsed file, its state (present, absent, online, remote, inline, unreadable) and its path."""
    if isinstance(folder, dict):
        return json_text.Document(folder, (), {}), "inline", None
    folder = str(folder)
    if folder == "ONLINE":
        return None, "online", None
    if folder.startswith("REMOTE:"):
        return None, "remote", None
    path = target.workdir / folder / dataset_info.FILE_NAME
    try:
        if path.stat().st_size > LARGEST_INFO:
            return None, f"larger than {LARGEST_INFO >> 20} MiB", path
        raw = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None, "absent", path
    except OSError as error:
        return None, f"unreadable ({error.strerror})", path
    try:
        return json_text.parse(raw.decode("utf-8")), "present", path
    except UnicodeDecodeError as wrong:
        from doctor.recipe.json_faults import guess_encoding

        line = raw.count(b"\n", 0, wrong.start) + 1
        encoding = guess_encoding(raw)
        read = json_text.parse(raw.decode(encoding or "utf-8", errors="replace"))
        problem = json_text.Problem("encoding", line, 1, encoding or "unknown encoding")
        return json_text.Document(read.value, (problem, *read.problems), read.lines), "present", path


def _elsewhere(target: Target, facts: Facts) -> list[str]:
    """Folders near the working directory in which `data/dataset_info.json` does exist."""
    near = [*list(target.workdir.parents)[:3], *_subfolders(target.workdir)]
    root = facts.get("llamafactory.root")
    if root:
        near += list(Path(root).parents)[:2]
    return [str(p) for p in dict.fromkeys(near) if (p / "data" / dataset_info.FILE_NAME).is_file()][:3]


def _subfolders(folder: Path) -> list[Path]:
    try:
        return [Path(item.path) for item in os.scandir(folder) if item.is_dir() and not item.name.startswith(".")][:200]
    except OSError:
        return []


def _tokenized(target: Target, facts: Facts, given: Any, stage: str) -> dict[str, Any]:
    folder = target.workdir / given if isinstance(given, str) and given else None
    if folder is None or not tokenized_set.there(folder):
        return {"tokenized": False, "tokenized_fault": None, "tokenized_splits": [], "tokenized_ids": {}}
    root = facts.get("llamafactory.root")
    fault = tokenized_set.fault(folder, stage, Path(root) / "data" / "loader.py" if root else None)
    return {
        "tokenized": True,
        "tokenized_fault": fault,
        "tokenized_splits": [] if fault else tokenized_set.splits(folder),
        "tokenized_ids": {} if fault else tokenized_set.widest(folder, target.python, SECONDS_OF_IDS),
    }


def _files(target: Target, base: Path, entry: dataset_info.Entry, rules: dataset_rules.DatasetRules) -> dict[str, Any]:
    """`files`: [{path, shown, bytes, loader}] of an entry loaded from disk; `missing`: the path that is not there."""
    if entry.load_from not in ("file", "script"):
        return {"files": [], "missing": None, "near_files": []}
    local = base / entry.source
    as_folder = entry.source.endswith("/")  # which no file is
    if entry.source and entry.load_from == "script":
        return {"files": [], "missing": None if os.path.exists(local) else target.shown(local), "near_files": []}
    if entry.source and os.path.isdir(local):
        paths = list(local.iterdir())[:MOST_FILES]  # as LLaMA-Factory lists them: the first one makes the table
    elif entry.source and os.path.isfile(local) and not as_folder:
        paths = [local]
    else:
        return {
            "files": [],
            "missing": target.shown(local) + "/" * as_folder,
            "near_files": _near_files(base, entry.source, rules),
        }
    return {"files": [_file(target, p, rules) for p in paths], "missing": None, "near_files": []}


def _file(target: Target, path: Path, rules: dataset_rules.DatasetRules) -> dict[str, Any]:
    size = path.stat().st_size if os.path.exists(path) else 0
    loader = rules.file_types.get(path.suffix[1:])
    return {
        "path": str(path),
        "shown": target.shown(path),
        "bytes": size,
        "loader": loader,
        "inner": _inner(path) if loader == "parquet" else None,
    }


def _inner(path: Path) -> dict[str, list[str]] | None:
    """Columns of a Parquet file and the fields within them."""
    try:
        return parquet_footer.read(path).inner
    except (OSError, parquet_footer.Unreadable):
        return None  # what is read of its records says so


def _near_files(base: Path, source: str, rules: dataset_rules.DatasetRules) -> list[str]:
    """Data files beside dataset_info.json whose name is like the one that is missing."""
    import difflib

    try:
        present = [item.name for item in os.scandir(base) if item.name.rpartition(".")[2] in rules.file_types]
    except OSError:
        return []
    present = [name for name in present if name != dataset_info.FILE_NAME]
    return difflib.get_close_matches(Path(source).name, present, n=1, cutoff=0.75)


JUDGEMENTS: tuple[Judgement, ...] = (
    *dataset_judged.ALL,
    *sources_judged.ALL,
    *text_encodings.ALL,
    *tokenized_judged.ALL,
)
