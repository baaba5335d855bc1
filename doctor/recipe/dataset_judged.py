"""Judgements of dataset_info.json and of the recipe's entries in it: pure functions of the facts of probes/dataset.py."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from doctor.facts import Facts
from doctor.findings import Evidence, Finding, found
from doctor.recipe import dataset_info, json_text
from knowledge_base.schema import Severity

ID = "dataset"
SOURCE = f"probe:{ID}"

_finding = partial(found, ID)


def _wanted(facts: Facts) -> bool:
    """Whether dataset_info.json will be read at all."""
    return not facts["dataset.tokenized"] and any(facts["dataset.requested"].values())


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


_MEANT = {
    "columns": "a mapping of names to columns",
    "tags": "a mapping of names to tags",
    "num_samples": "a whole number above 0",
    "ranking": "true or false",
}


def values_fit(facts: Facts) -> Iterator[Finding]:
    """Values of another type than the loader uses, on which it ends."""
    for name, entry, path in _entries(facts):
        for key, text in entry.get("misfits", {}).items():
            wanted = _MEANT.get(key, "the name of a source, or no such key,")
            unread = key == "file_name"  # beside a hub, from which other data come, or none
            what = f'{key} of "{name}" is {text or "empty"}; {wanted} is needed'
            what = (
                f'file_name of "{name}" is not read: its data come from {entry["source"]} of a hub' if unread else what
            )
            details: dict[str, Any] = {"entry": name, "info_file": path, "key": key}
            taken = key == "ranking" and facts["dataset.stage"] in ("rm", "dpo")  # any text counts as true
            taken = taken or (key == "num_samples" and text == "True")  # counts as 1
            severity = Severity.WARNING if taken or unread else None
            yield _finding("data-format-undeclared", what, _at(path, entry, key), severity, **details)


def entries_are_objects(facts: Facts) -> Iterator[Finding]:
    for name, (text, line) in (facts["dataset.odd_entries"] if _wanted(facts) else {}).items():
        path = facts["dataset.info_path"]
        what = f'the entry "{name}" is {text}; an object with file_name is needed'
        details: dict[str, Any] = {"entry": name, "info_file": path}
        yield _finding("data-format-undeclared", what, f"{path}:{line}", **details)


def parquet_fits(facts: Facts) -> Iterator[Finding]:
    """The turns of a Parquet file: a list of objects, with the keys that the tags name."""
    for name, entry, path in _entries(facts):
        column = entry["columns"].get("messages")
        tags = [entry["tags"].get(tag) for tag in ("role_tag", "content_tag")]
        for file in entry["files"] if entry["formatting"] != "alpaca" else ():
            inner = (file.get("inner") or {}).get(column)
            details: dict[str, Any] = {"entry": name, "info_file": path, "file": file["shown"], "ambiguous": True}
            if inner == []:
                what = f'"{column}" holds plain values in {file["shown"]}, where lists of turns are read'
                yield _finding("data-invalid-json", what, file["shown"], **details)
            elif inner and not all(tag in inner for tag in tags):
                keys = ", ".join(field for field in inner if field not in ("list", "element", "item", "array"))
                what = f"the turns in {file['shown']} have {keys}; the tags name {', '.join(map(str, tags))}"
                yield _finding("data-role-tag-mismatch", what, _at(path, entry, "tags"), **details)


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


# datasets/arrow_reader.py: ReadInstruction
_SLICE = re.compile(r"\w+(?:\.\w+)*(?:\[(?:-?\d+%?)?:(?:-?\d+%?)?\])?(?:\([^)]*\))?")


def split_there(facts: Facts) -> Iterator[Finding]:
    """Files of the entry itself are loaded as the one split `train`; another name is not found among them."""
    for name, entry, path in _entries(facts):
        split = entry["split"]
        parts = split.split("+")
        unread = next((part for part in parts if not _SLICE.fullmatch(part.strip())), None)
        if entry["load_from"] == "file" and entry["files"] and unread is not None:
            what = f'split "{split}" of "{name}": "{unread.strip()[:40]}" is no split, nor a slice such as train[:100]'
            details = {"entry": name, "info_file": path, "nearest_split": "train", "split": split}
            yield _finding("data-split-missing", what, _at(path, entry, "split"), **details)
            continue
        other = [part for part in parts if part.strip().partition("[")[0] != "train"]
        if entry["load_from"] == "file" and entry["files"] and other:
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


ALL: tuple[Callable[[Facts], Iterator[Finding]], ...] = (
    entries_are_objects, parquet_fits,
    info_found, info_is_json, info_is_object, entries_defined, keys_known, values_fit, format_known,
    format_declared, split_there, columns_complete, stage_fits, files_exist, file_types_known,
)  # fmt: skip
