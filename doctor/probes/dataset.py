"""dataset_info.json and the entries that the recipe names, as the installed LLaMA-Factory will resolve them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from doctor.facts import Facts, Unknown
from doctor.findings import Evidence, Finding, found
from doctor.probes import Judgement
from doctor.recipe import dataset_info, dataset_rules, json_text, source_cache
from doctor.target import Target
from knowledge_base.schema import Severity

ID = "dataset"
AFTER: tuple[str, ...] = ("recipe", "llamafactory")
SOURCE = f"probe:{ID}"

_finding = partial(found, ID)

LARGEST_INFO = 16 << 20  # bytes
MOST_FILES = 1000  # of a folder given as file_name
_TRUE = ("1", "true", "y", "yes")


_INFO_FACTS = ("info_error", "info_ascii", "names", "entries", "info_complete", "info_shape")


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    values = facts["recipe.values"]
    requested = {
        "dataset": dataset_info.named(values.get("dataset")),
        "eval_dataset": dataset_info.named(values.get("eval_dataset")),
    }
    rules = _rules(facts)
    folder = values.get("dataset_dir", "data")
    found: dict[str, Any] = {
        "dataset.requested": requested,
        "dataset.stage": str(values.get("stage", "sft")),
        "dataset.rules": msgspec.to_builtins(rules),
        "dataset.tokenized": _tokenized(target, values.get("tokenized_path")),
        "dataset.tokenized_fault": _tokenized_fault(target, values.get("tokenized_path")),
        "dataset.elsewhere": [],
        "dataset.locale": locale_encoding(target.environ),
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
    return found | {
        "dataset.info_error": [msgspec.to_builtins(p) for p in document.problems] or None,
        "dataset.info_ascii": path is None or path.read_bytes().isascii(),
        "dataset.info_complete": not any(p.kind in stopped for p in document.problems),
        "dataset.info_shape": "object" if isinstance(document.value, dict) else type(document.value).__name__,
        "dataset.names": list(document.value) if isinstance(document.value, dict) else [],
        "dataset.entries": entries,
    }


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
    except (FileNotFoundError, NotADirectoryError):
        return None, "absent", path
    except OSError as error:
        return None, f"unreadable ({error.strerror})", path
    try:
        return json_text.parse(raw.decode("utf-8")), "present", path
    except UnicodeDecodeError as wrong:
        from doctor.recipe.json_records import guess_encoding

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


def _tokenized(target: Target, path: Any) -> bool:
    """Whether a tokenised data set will be loaded, so that dataset_info.json is never read."""
    try:
        return bool(path) and any((target.workdir / str(path)).iterdir())
    except OSError:
        return False


def _tokenized_fault(target: Target, given: Any) -> str | None:
    """What a folder of tokenised data lacks, as `datasets.load_from_disk` reads it."""
    if not isinstance(given, str) or not _tokenized(target, given):
        return None
    folder = target.workdir / given
    try:
        splits = json.loads((folder / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]
    except FileNotFoundError:
        splits = [""]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"dataset_dict.json cannot be read ({error})"
    for split in splits:
        for name in ("dataset_info.json", "state.json"):
            if not (folder / split / name).is_file():
                return f"{Path(split) / name} is not there"
        try:
            files = json.loads((folder / split / "state.json").read_text(encoding="utf-8"))["_data_files"]
            lost = [str(Path(split) / f["filename"]) for f in files if not _has_bytes(folder / split / f["filename"])]
        except (OSError, ValueError, KeyError, TypeError) as error:
            return f"{Path(split) / 'state.json'} cannot be read ({error})"
        if lost:
            return f"{lost[0]} is empty or not there"
    return None


def _has_bytes(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _files(target: Target, base: Path, entry: dataset_info.Entry, rules: dataset_rules.DatasetRules) -> dict[str, Any]:
    """`files`: [{path, shown, bytes, loader}] of an entry loaded from disk; `missing`: the path that is not there."""
    if entry.load_from not in ("file", "script"):
        return {"files": [], "missing": None, "near_files": []}
    local = base / entry.source
    if entry.source and entry.load_from == "script":
        return {"files": [], "missing": None if os.path.exists(local) else target.shown(local), "near_files": []}
    if entry.source and os.path.isdir(local):
        paths = sorted(p for p in local.iterdir())[:MOST_FILES]
    elif entry.source and os.path.isfile(local):
        paths = [local]
    else:
        return {"files": [], "missing": target.shown(local), "near_files": _near_files(base, entry.source, rules)}
    return {"files": [_file(target, p, rules) for p in paths], "missing": None, "near_files": []}


def _file(target: Target, path: Path, rules: dataset_rules.DatasetRules) -> dict[str, Any]:
    size = path.stat().st_size if os.path.exists(path) else 0
    return {
        "path": str(path),
        "shown": target.shown(path),
        "bytes": size,
        "loader": rules.file_types.get(path.suffix[1:]),
    }


def _near_files(base: Path, source: str, rules: dataset_rules.DatasetRules) -> list[str]:
    """Data files beside dataset_info.json whose name is like the one that is missing."""
    import difflib

    try:
        present = [item.name for item in os.scandir(base) if item.name.rpartition(".")[2] in rules.file_types]
    except OSError:
        return []
    present = [name for name in present if name != dataset_info.FILE_NAME]
    return difflib.get_close_matches(Path(source).name, present, n=1, cutoff=0.75)


def locale_encoding(environ: dict[str, str]) -> str | None:
    """The encoding that `open()` of the target will use where it is not UTF-8: named by LC_ALL, LC_CTYPE or LANG."""
    if environ.get("PYTHONUTF8") == "1":
        return None
    chosen = next((environ[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if environ.get(name)), "")
    encoding = chosen.partition(".")[2].partition("@")[0]
    return encoding if encoding and encoding.lower().replace("-", "") != "utf8" else None


# -- judgements ---------------------------------------------------------------------------------------------------------
def _wanted(facts: Facts) -> bool:
    """Whether dataset_info.json will be read at all."""
    return not facts["dataset.tokenized"] and any(facts["dataset.requested"].values())


def tokenized_whole(facts: Facts) -> Iterator[Finding]:
    fault = facts["dataset.tokenized_fault"]
    if fault:
        path = str(facts["recipe.values"]["tokenized_path"])
        where = f"{facts['recipe.path']}:{facts.get('recipe.lines', {}).get('tokenized_path', 1)}"
        details: dict[str, Any] = {"tokenized_path": path, "cache_path": path}
        yield _finding("data-cache-corrupt", f"tokenized_path {path} is no whole data set: {fault}", where, **details)


def info_found(facts: Facts) -> Iterator[Finding]:
    if not _wanted(facts) or facts["dataset.info_state"] != "absent":
        return
    elsewhere = facts["dataset.elsewhere"]
    more = f"; {elsewhere[0]}/data holds one" if elsewhere else ""
    details = {"dataset_dir": f"{elsewhere[0]}/data", "workdir": elsewhere[0]} if elsewhere else {}
    path = facts["dataset.info_path"]
    if path.endswith(f"{dataset_info.FILE_NAME}/{dataset_info.FILE_NAME}"):  # the file was given for the folder
        details = {"dataset_dir": str(Path(path).parent.parent)}
    yield _finding("cli-wrong-workdir", f"{path} does not exist{more}", path, **details)


def info_is_json(facts: Facts) -> Iterator[Finding]:
    if not _wanted(facts):
        return
    path = facts["dataset.info_path"]
    locale = facts["dataset.locale"]
    problems = facts["dataset.info_error"] or []
    fatal = [p for p in problems if p["kind"] not in (json_text.DUPLICATE_KEY, "encoding")]
    if fatal:
        evidence = tuple(Evidence(f"{p['kind']}: {p['text']}".rstrip(": "), f"{path}:{p['line']}") for p in fatal[:10])
        first = fatal[0]
        details = {"info_file": path, "kind": first["kind"], "line": first["line"], "column": first["column"]}
        details["ambiguous"] = any(p["kind"] not in json_text.CLEAR for p in fatal)
        yield Finding("data-info-invalid-json", evidence, source=SOURCE, details=details)
    used = {*facts["dataset.requested"]["dataset"], *facts["dataset.requested"]["eval_dataset"]}
    for problem in problems:
        where = f"{path}:{problem['line']}"
        if problem["kind"] == "encoding":
            details = {"file": path, "encoding": problem["text"], "line": problem["line"]}
            yield _finding("data-encoding", f"not UTF-8 but probably {problem['text']}", where, **details)
        elif problem["kind"] == json_text.DUPLICATE_KEY and problem["text"] in used:
            what = f'the entry "{problem["text"]}" is defined twice; the last definition counts'
            details = {"info_file": path, "kind": problem["kind"], "line": problem["line"]}
            yield _finding("data-info-invalid-json", what, where, Severity.WARNING, **details)
    if locale and not facts["dataset.info_ascii"]:
        what = f"the locale reads files as {locale}, this one holds UTF-8 text beyond ASCII"
        yield _finding("data-encoding", what, path, info_file=path, locale_encoding=locale, file_is_utf8=True)


def entries_defined(facts: Facts) -> Iterator[Finding]:
    if not _wanted(facts) or not facts["dataset.info_complete"] or facts["dataset.info_shape"] != "object":
        return
    names, lines = facts["dataset.names"], facts.get("recipe.lines", {})
    for key, wanted in facts["dataset.requested"].items():
        for name in wanted:
            if name in names:
                continue
            near = dataset_info.nearest(name, names)
            hint = f'; the nearest is "{near}"' if near else ""
            what = f'{key} names "{name}", which {facts["dataset.info_path"]} does not define{hint}'
            details = {"entry": name, "info_file": facts["dataset.info_path"], "key": key}
            stem = Path(name).stem
            if key == "dataset" and not name and any(wanted):
                details["named_entries"] = ",".join(filter(None, wanted))
            if key == "dataset" and stem != name and stem in names:
                details["key_without_suffix"] = ",".join(stem if other == name else other for other in wanted)
            elif key == "dataset" and near:  # the fix writes the whole value of `dataset`
                details["nearest"] = ",".join(near if other == name else other for other in wanted)
            where = f"{facts['recipe.path']}:{lines.get(key, 1)}"
            yield _finding("data-entry-missing", what, where, **details)


def _entries(facts: Facts) -> Iterator[tuple[str, dict[str, Any], str]]:
    """(name, entry, path of dataset_info.json) of each entry that will be loaded."""
    if _wanted(facts):
        for name, entry in facts["dataset.entries"].items():
            yield name, entry, facts["dataset.info_path"] or "dataset_dir"


def _at(path: str, entry: dict[str, Any], key: str) -> str:
    return f"{path}:{entry['lines'].get(key, entry['lines'].get('', 1))}"


def keys_known(facts: Facts) -> Iterator[Finding]:
    defaults = facts["dataset.rules"]["defaults"]
    for name, entry, path in _entries(facts):
        for key, near in entry["unknown_keys"].items():
            counts = near in ("formatting", "file_name", "columns", "tags", "ranking") and near not in entry["lines"]
            what = f'"{key}" of the entry "{name}" is not read' + (f'; "{near}" is' if near else "")
            details: dict[str, Any] = {"entry": name, "info_file": path, "key": key}
            if near == "formatting" and entry["unread_values"].get(key) == entry["formatting"]:
                continue  # it is said again where it is read
            if near:
                details |= {"nearest": near}
            if near == "formatting" and entry["unread_values"].get(key) in ("sharegpt", "openai", "chatml"):
                details["messages_column"] = entry["columns"].get("messages") or defaults["messages"]
            severity = None if counts else Severity.WARNING
            yield _finding("data-format-undeclared", what, _at(path, entry, key), severity, **details)


_MEANT = {"columns": "a mapping of names to columns", "tags": "a mapping of names to tags", "num_samples": "a number"}


def values_fit(facts: Facts) -> Iterator[Finding]:
    """Values of another type than the loader uses, on which it ends."""
    for name, entry, path in _entries(facts):
        for key, text in entry.get("misfits", {}).items():
            what = f'{key} of "{name}" is {text}; {_MEANT[key]} is needed'
            details: dict[str, Any] = {"entry": name, "info_file": path, "key": key}
            yield _finding("data-format-undeclared", what, _at(path, entry, key), **details)


def format_known(facts: Facts) -> Iterator[Finding]:
    rules = facts["dataset.rules"]
    for name, entry, path in _entries(facts):
        if entry["formatting"] in rules["formats"]:
            continue
        read_as = "refused" if rules["strict_format"] else "read as sharegpt"
        near = dataset_info.nearest(entry["formatting"], rules["formats"])
        what = f'formatting "{entry["formatting"]}" of "{name}" is {read_as}; known: {", ".join(rules["formats"])}'
        details: dict[str, Any] = {
            "entry": name,
            "info_file": path,
            "formatting": near or "sharegpt",
            "key": "formatting",
        }
        severity = None if rules["strict_format"] else Severity.WARNING
        yield _finding("data-format-undeclared", what, _at(path, entry, "formatting"), severity, **details)


def format_declared(facts: Facts) -> Iterator[Finding]:
    """Columns or tags of messages in an entry that, without `formatting`, is read as alpaca."""
    for name, entry, path in _entries(facts):
        if "formatting" in entry["lines"] or entry["formatting"] != "alpaca" or "formatting" in _near(entry):
            continue
        spoken = [key for key in ("messages",) if key in entry["declared_columns"]] + entry["declared_tags"]
        if not spoken:
            continue
        what = (
            f'"{name}" declares {", ".join(spoken)} and no formatting: it is read as alpaca, which knows none of them'
        )
        column = entry["columns"].get("messages") or facts["dataset.rules"]["defaults"]["messages"]
        details = {"entry": name, "info_file": path, "messages_column": column, "key": "formatting"}
        yield _finding("data-format-undeclared", what, _at(path, entry, ""), **details)


def _near(entry: Mapping[str, Any]) -> list[str | None]:
    """Known keys that the entry's unknown keys were meant to be."""
    return list(entry["unknown_keys"].values())


def split_there(facts: Facts) -> Iterator[Finding]:
    """Files of the entry itself are loaded as the one split `train`; another name is not found among them."""
    for name, entry, path in _entries(facts):
        split = entry["split"]
        if entry["load_from"] == "file" and entry["files"] and re.split(r"[\[+]", split)[0] != "train":
            what = f'split "{split}" of "{name}": files on disk have the split train only'
            details = {"entry": name, "info_file": path, "nearest_split": "train", "split": split}
            yield _finding("data-split-missing", what, _at(path, entry, "split"), **details)


def info_is_object(facts: Facts) -> Iterator[Finding]:
    if _wanted(facts) and facts["dataset.info_complete"] and facts["dataset.info_shape"] != "object":
        path, shape = facts["dataset.info_path"], facts["dataset.info_shape"]
        what = f"it holds a {shape}; names with their entries in braces are needed"
        details = {"info_file": path, "kind": f"a {shape}", "line": 1, "column": 1, "ambiguous": True}
        yield _finding("data-info-invalid-json", what, f"{path}:1", **details)


def columns_complete(facts: Facts) -> Iterator[Finding]:
    """A `columns` mapping replaces the defaults, so that what it leaves out is None for the converter."""
    stage, defaults = facts["dataset.stage"], facts["dataset.rules"]["defaults"]
    undeclared = {finding.details["entry"] for finding in format_declared(facts)}
    for name, entry, path in _entries(facts):
        if name in undeclared or "formatting" in _near(entry):
            continue  # as what it was meant to be, it may be complete
        if entry["ranking"] and stage not in ("rm", "dpo"):
            continue  # what does not fit is the stage
        if not entry["declared_columns"] and not entry["ranking"] and stage != "kto":
            continue  # the defaults are complete
        needed = ["chosen", "rejected"] if entry["ranking"] else ["kto_tag"] if stage == "kto" else []
        if entry["formatting"] != "alpaca":
            needed.append("messages")
        elif entry["declared_columns"] != ["prompt"]:  # else a text corpus: the stage is what may not fit
            needed += ["prompt"] if entry["ranking"] or stage not in ("sft", "kto") else ["prompt", "response"]
        lacking = [key for key in needed if not entry["columns"].get(key)]
        if not lacking:
            continue
        columns = {k: c for k, c in entry["columns"].items() if c}
        columns |= {key: defaults.get(key) or key for key in lacking}
        missing = ", ".join(f'"{key}"' for key in lacking)
        details = {"entry": name, "info_file": path, "missing": lacking, "columns": columns}
        yield Finding(
            "data-info-columns-incomplete",
            (Evidence(f'columns of "{name}" lack {missing}', _at(path, entry, "columns")),),
            source=SOURCE,
            details=details,
        )


def stage_fits(facts: Facts) -> Iterator[Finding]:
    stage = facts["dataset.stage"]
    loaded_as = "rm" if stage == "dpo" else stage
    recipe, lines = facts["recipe.path"], facts.get("recipe.lines", {})
    for name, entry, path in _entries(facts):
        details: dict[str, Any] = {"entry": name, "info_file": path, "stage": stage}
        ours = Evidence(f"stage: {stage}", f"{recipe}:{lines.get('stage', 1)}")
        if (loaded_as == "rm") != entry["ranking"]:
            says = "is" if entry["ranking"] else "is not"
            what = (
                f'"{name}" {says} a ranking data set, which stage {stage} {"needs" if loaded_as == "rm" else "refuses"}'
            )
            details |= {"ranking": entry["ranking"]}
            has_pairs = bool(entry["columns"].get("chosen") and entry["columns"].get("rejected"))
            details |= {"has_pairs": has_pairs, "fitting_stage": "dpo" if entry["ranking"] else "sft"}
            details["pairs_undeclared"] = entry["ranking"] and bool(entry["declared_columns"]) and not has_pairs
        elif stage == "kto" and not entry["columns"].get("kto_tag") and entry["declared_columns"]:
            continue  # data-info-columns-incomplete says it
        elif stage == "sft" and entry["declared_columns"] == ["prompt"] and entry["formatting"] == "alpaca":
            what = f'"{name}" has text without answers (columns: prompt only), of which stage sft drops every record'
            details |= {"fitting_stage": "pt", "text_only": True}
        else:
            continue
        evidence = (Evidence(what, _at(path, entry, "ranking" if entry["ranking"] else "")), ours)
        yield Finding("data-stage-mismatch", evidence, source=SOURCE, details=details)


def files_exist(facts: Facts) -> Iterator[Finding]:
    for name, entry, path in _entries(facts):
        if entry["missing"] is None:
            continue
        source = entry["source"]
        placeholder = dataset_info.is_placeholder(source)
        details: dict[str, Any] = {"entry": name, "info_file": path, "file_name": source, "placeholder": placeholder}
        where = _at(path, entry, "script_url" if entry["load_from"] == "script" else "file_name")
        if not source:
            yield _finding("data-info-no-source", f'the entry "{name}" has no file_name', where, **details)
            continue
        if placeholder:
            what = f'file_name "{source}" of "{name}" is the placeholder that upstream ships'
        else:
            what = f'file_name "{source}" of "{name}": {entry["missing"]} does not exist'
        if entry["near_files"]:
            details["nearest_file"] = entry["near_files"][0]
            what += f"; {entry['near_files'][0]} does"
        yield _finding("data-file-missing", what, where, **details)


def file_types_known(facts: Facts) -> Iterator[Finding]:
    known = facts["dataset.rules"]["file_types"]
    for name, entry, path in _entries(facts):
        loaders = {f["loader"] for f in entry["files"]}
        details: dict[str, Any] = {"entry": name, "info_file": path, "file_name": entry["source"]}
        where = _at(path, entry, "file_name")
        if entry["missing"] is None and entry["load_from"] == "file" and not entry["files"]:
            yield _finding("data-file-missing", f"the folder {entry['source']} of {name!r} is empty", where, **details)
        elif None in loaders:
            odd = next(f["shown"] for f in entry["files"] if f["loader"] is None)
            what = f'{odd} of "{name}" is of none of the types that are read: {", ".join(known)}'
            details |= {"file": odd, "stem": str(Path(odd).with_suffix(""))}
            if len(loaders) > 1:
                details["stray_file"] = odd
            yield _finding("data-file-type", what, where, **details)
        elif len(loaders) > 1:
            what = f'the folder of "{name}" mixes types of files: {", ".join(sorted(map(str, loaders)))}'
            yield _finding("data-file-type", what, where, **details)


JUDGEMENTS: tuple[Judgement, ...] = (
    tokenized_whole, info_found, info_is_json, info_is_object, entries_defined, keys_known, values_fit, format_known,
    format_declared, split_there, columns_complete, stage_fits, files_exist, file_types_known,
)  # fmt: skip
