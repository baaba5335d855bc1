"""The records of the data that the recipe names: what the loader reads of them and what the converter makes of them."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from doctor.facts import Facts
from doctor.findings import Evidence, Finding
from doctor.probes import Judgement
from doctor.recipe import conversion, data_scan, data_shape, json_records
from doctor.recipe.dataset_info import Entry
from doctor.target import Target
from knowledge_base.schema import Severity

ID = "records"
AFTER: tuple[str, ...] = ("recipe", "dataset")
SOURCE = f"probe:{ID}"

SECONDS = 2.0  # of reading in a default check; what was not read by then is said
SECONDS_DEEP = 3600.0
MOST_BYTES_A_TOKEN = 10  # English has 4 to 5, JSON's own marks and keys included less than twice that
ENOUGH = 20  # records for an average
MANY, COPIES = 1000, 0.2  # records from which on, and share of them that must be copies, for a finding


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    """`records.scans`: entry -> data_scan.Scan, for every entry whose files lie on this machine."""
    if facts["dataset.tokenized"]:
        return {"records.scans": {}}
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
            entry, files, loaders.pop(), facts["dataset.stage"], target.workdir / str(media), until, tell
        )
        scans[name] = msgspec.to_builtins(scan)
    return {"records.scans": scans}


# -- judgements ---------------------------------------------------------------------------------------------------------
def _scans(facts: Facts) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Any], dict[str, Any]]]:
    """(name, entry, scan, details that every fix of data needs)."""
    for name, scan in facts["records.scans"].items():
        details = {"entry": name, "info_file": facts["dataset.info_path"], "records_read": scan["read"]}
        yield name, facts["dataset.entries"][name], scan, details


def _at(facts: Facts, entry: Mapping[str, Any], key: str) -> str:
    return f"{facts['dataset.info_path']}:{entry['lines'].get(key, entry['lines'][''])}"


def _finding(
    cause: str, evidence: list[Evidence], details: dict[str, Any], severity: Severity | None = None
) -> Finding:
    return Finding(cause, tuple(evidence), severity=severity, source=SOURCE, details=details)


def _examples(fault: Mapping[str, Any]) -> list[Evidence]:
    return [
        Evidence(f"record {e['record']}: {e['text']}", f"{e['file']}:{e['line']}") for e in fault["examples"]
    ]  # fmt: skip


def _first_file(fault: Mapping[str, Any]) -> str:
    return str(fault["examples"][0]["file"])


def files_readable(facts: Facts) -> Iterator[Finding]:
    for _, _, scan, details in _scans(facts):
        broken = scan["broken"]
        if broken is None or broken["kind"] == json_records.TOO_LARGE:
            continue
        where = f"{broken['file']}:{broken['line']}"
        details |= {"file": broken["file"], "kind": broken["kind"], "line": broken["line"], "record": broken["record"]}
        if broken["kind"] == json_records.ENCODING:
            encoding = broken["encoding"]
            if encoding:
                details["encoding"] = encoding
            what = f"not UTF-8 but {'probably ' + encoding if encoding else 'an unknown encoding'}: {broken['text']}"
            yield _finding("data-encoding", [Evidence(what, where)], details)
        elif broken["kind"] == data_scan.NOT_AS_NAMED:
            what = f"it is not what its name says: {broken['text']}"
            yield _finding(
                "data-file-type", [Evidence(what, broken["file"])], details | {"stem": _stem(broken["file"])}
            )
        elif broken["kind"] == json_records.LFS_POINTER:
            what = "a git-lfs pointer stands in place of the data"
            yield _finding("data-invalid-json", [Evidence(what, where)], details | {"truncated": True})
        else:
            details["truncated"] = broken["kind"] in (json_records.TRUNCATED, json_records.EMPTY, json_records.HTML)
            clear = (json_records.TRAILING_COMMA, json_records.BYTE_ORDER_MARK, json_records.PYTHON)
            repairable = broken["kind"] in clear
            what = f"record {broken['record']}, column {broken['column']}: {broken['kind']}: {broken['text']}".rstrip(
                ": "
            )
            yield _finding("data-invalid-json", [Evidence(what, where)], details | {"ambiguous": not repairable})


def objects_only(facts: Facts) -> Iterator[Finding]:
    for _, entry, scan, details in _scans(facts):
        if scan["complete"] and scan["read"] == 0 and not scan["broken"] and scan["rows"] is None:
            shown = entry["files"][0]["shown"]
            yield _finding(
                "data-invalid-json", [Evidence("it holds no record", f"{shown}:1")], details | {"file": shown}
            )
        fault = scan["faults"].get(conversion.NOT_AN_OBJECT)
        if fault:
            file = fault["examples"][0]["file"]
            yield _finding("data-invalid-json", _examples(fault), details | {"file": file, "kind": "not objects"})


def columns_present(facts: Facts) -> Iterator[Finding]:
    for name, entry, scan, details in _scans(facts):
        missing = _missing_columns(entry, scan)
        if not missing:
            continue
        shape = data_shape.recognise(scan, entry)
        evidence = []
        for key, column in missing.items():
            what = f'"{name}" reads its {key} from "{column}", which no record has'
            evidence.append(Evidence(what, _at(facts, entry, f"columns.{key}")))
        present = sorted(scan["columns"])
        evidence.append(Evidence(f"columns of the data: {', '.join(present[:20])}", entry["files"][0]["shown"]))
        severity = None if scan["complete"] or scan["rows"] is not None else Severity.WARNING
        other_format = shape is not None and (shape.formatting == "alpaca") != (entry["formatting"] == "alpaca")
        if shape is not None and other_format and not set(missing) <= set(data_shape.OPTIONAL):
            evidence.append(Evidence(f"the records have the form {shape.formatting}", entry["files"][0]["shown"]))
            details |= data_shape.repair(entry, shape, present)
            yield _finding("data-format-undeclared", evidence, details, severity)
            continue
        key, column = next(iter(missing.items()))
        details |= {"role": key, "column": column, "missing": list(missing.values())}
        if shape is not None and not entry["declared_columns"] and not set(missing) - set(shape.columns):
            details["whole_columns"] = shape.columns  # a mapping that names one column leaves the others undeclared
        details["optional"] = all(key in data_shape.OPTIONAL for key in missing)
        # null, not left out: what an entry leaves out stays as it is when the entry is changed.
        details["columns_without"] = dict.fromkeys(missing)
        near = data_shape.column_for(key, column, scan, shape)
        if near and len(missing) == 1:
            details["nearest"] = near
        yield _finding("data-column-missing", evidence, details, severity)


def _missing_columns(entry: Mapping[str, Any], scan: Mapping[str, Any]) -> dict[str, str]:
    """Columns that the converter reads from every record and that no record has: key of `columns` -> column."""
    if not scan["columns"]:
        return {}
    own_system = entry["formatting"] != "alpaca" and _system_first(entry, scan)
    read = conversion.read_columns(entry["formatting"], entry["ranking"])
    keys = [key for key in read if key != "system" or not own_system]
    present = scan["columns"]
    return {k: c for k in keys if (c := entry["columns"].get(k)) and c not in present}


def _system_first(entry: Mapping[str, Any], scan: Mapping[str, Any]) -> bool:
    """Whether records carry the system prompt as their first message, so that its column is not asked for."""
    if entry["formatting"] == "openai":
        return True
    tags = entry["tags"]
    return (
        bool(tags.get("system_tag"))
        and scan["roles"].get(f"{tags['role_tag']}={tags['system_tag']}", 0) >= scan["read"]
    )


def role_tags_fit(facts: Facts) -> Iterator[Finding]:
    for name, entry, scan, details in _scans(facts):
        if entry["formatting"] == "alpaca" or not scan["message_keys"]:
            continue
        evidence = _key_evidence(facts, name, entry, scan)
        unknown = scan["faults"].get(conversion.UNKNOWN_ROLE, {"count": 0, "examples": []})
        if not evidence and not unknown["count"]:
            continue
        fails = bool(evidence) or facts["dataset.rules"]["unknown_role_fails"] or scan["usable"] == 0
        if unknown["count"]:
            outcome = (
                "the run ends at the first" if facts["dataset.rules"]["unknown_role_fails"] else "they are dropped"
            )
            wanted = ", ".join(f"{t[:-4]}={v}" for t, v in entry["tags"].items() if v and t not in _KEY_TAGS)
            what = f"{unknown['count']} of {scan['read']} records have roles outside the tags ({wanted}): {outcome}"
            evidence.append(Evidence(what, _at(facts, entry, "tags")))
            spoken = ", ".join(f"{role} ({n})" for role, n in list(scan["roles"].items())[:8])
            evidence.append(Evidence(f"roles: {spoken}", _first_file(unknown)))
            evidence += _examples(unknown)[:3]
        shape = data_shape.recognise(scan, entry)
        if shape is None and "messages" in _missing_columns(entry, scan):
            continue  # what stands elsewhere are no turns
        details |= {"count": unknown["count"], "roles": list(scan["roles"])[:20]}
        if shape is not None and shape.tags:
            details |= data_shape.repair(entry, shape, sorted(scan["columns"]))
        yield _finding("data-role-tag-mismatch", evidence, details, None if fails else Severity.WARNING)


_KEY_TAGS = {"role_tag": "role", "content_tag": "text"}


def _key_evidence(facts: Facts, name: str, entry: Mapping[str, Any], scan: Mapping[str, Any]) -> list[Evidence]:
    """Evidence for the keys of a message (role and text) that the entry names wrongly or not at all."""
    found = []
    for tag, word in _KEY_TAGS.items():
        key = entry["tags"].get(tag)
        if key is None:
            found.append(Evidence(f'tags of "{name}" lack "{tag}"', _at(facts, entry, "tags")))
        elif key not in scan["message_keys"]:
            what = f'"{name}" takes the {word} of a message from "{key}", which none has'
            found.append(Evidence(what, _at(facts, entry, f"tags.{tag}")))
    return found


def turns_in_order(facts: Facts) -> Iterator[Finding]:
    for _, _, scan, details in _scans(facts):
        kinds = (conversion.ROLE_ORDER, conversion.ODD_TURNS, conversion.EMPTY_MESSAGES)
        faults = {kind: scan["faults"][kind] for kind in kinds if kind in scan["faults"]}
        if not faults:
            continue
        count = sum(fault["count"] for fault in faults.values())
        evidence = []
        for kind, fault in faults.items():
            first = _examples(fault)
            evidence.append(Evidence(f"{fault['count']} of {scan['read']} records are dropped: {kind}", first[0].where))
            evidence += first[:3]
        severity = Severity.ERROR if scan["usable"] == 0 else Severity.WARNING
        details |= {"count": count, "usable": scan["usable"], "file": _first_file(next(iter(faults.values())))}
        details |= {"few_bad_rows": count * 20 <= scan["read"], "recipe": facts["recipe.path"]}
        yield _finding("data-role-order", evidence, details, severity)


def turns_listed(facts: Facts) -> Iterator[Finding]:
    """The converter walks through the turns of every record: null and text are the end of the run."""
    for _, entry, scan, details in _scans(facts):
        fault = scan["faults"].get(conversion.NO_MESSAGES)
        if not fault or _missing_columns(entry, scan):
            continue
        nulls = all(example["text"] == "null" for example in fault["examples"])
        column = entry["columns"].get("messages")
        what = f'"{column}" of {fault["count"]} of {scan["read"]} records is {"null" if nulls else "no list of turns"}'
        evidence = [Evidence(what, _first_file(fault)), *_examples(fault)[:3]]
        details |= {"file": _first_file(fault), "bad_rows": fault["count"], "row": fault["examples"][0]["record"]}
        details |= {"line": fault["examples"][0]["line"], "ambiguous": True}
        yield _finding("data-null-content" if nulls else "data-invalid-json", evidence, details)


def columns_alike(facts: Facts) -> Iterator[Finding]:
    """The files of a folder become one table: each must have the columns of the first."""
    for _, _, scan, details in _scans(facts):
        (first, columns), *others = list(scan["file_columns"].items()) or [("", [])]
        for file, found in others:
            if found == columns:
                continue
            odd = sorted(set(found) ^ set(columns))
            what = f"{', '.join(odd[:8])}: not both in {file} and in {first}, which become one table"
            details |= {"file": file, "stem": _stem(file), "columns": odd[:20]}
            yield _finding("data-schema-mixed-types", [Evidence(what, file)], details)
            break


def something_left(facts: Facts) -> Iterator[Finding]:
    """Records without an answer are dropped in silence; with none left the run ends."""
    for name, entry, scan, details in _scans(facts):
        fault = scan["faults"].get(conversion.NO_ANSWER)
        if not fault or _missing_columns(entry, scan) or scan["message_keys"]:
            continue  # without its column, or chats read as alpaca: what is declared is at fault
        what = f'{fault["count"]} of {scan["read"]} records of "{name}" have no answer (as text) and are dropped'
        evidence = [Evidence(what, fault["examples"][0]["file"]), *_examples(fault)[:3]]
        severity = None if scan["usable"] == 0 else Severity.WARNING
        details |= {"count": fault["count"], "usable": scan["usable"], "file": _first_file(fault)}
        yield _finding("data-empty-after-filter", evidence, details, severity)


def stage_fits_records(facts: Facts) -> Iterator[Finding]:
    for _, entry, scan, details in _scans(facts):
        for kind in (conversion.NO_PAIR, conversion.NO_LABEL):
            fault = scan["faults"].get(kind)
            if not fault or _missing_columns(entry, scan):
                continue
            what = f"{fault['count']} of {scan['read']} records are dropped in stage {facts['dataset.stage']}: {kind}"
            evidence = [Evidence(what, fault["examples"][0]["file"]), *_examples(fault)[:3]]
            severity = None if scan["usable"] == 0 else Severity.WARNING
            details |= {"stage": facts["dataset.stage"], "has_pairs": False}
            details |= {"fitting_stage": "sft"} if scan["usable"] == 0 else {}
            yield _finding("data-stage-mismatch", evidence, details, severity)


def types_uniform(facts: Facts) -> Iterator[Finding]:
    for _, entry, scan, details in _scans(facts):
        mixed = {path: kinds for path, kinds in scan["types"].items() if len(kinds) > 1}
        file = entry["files"][0]["shown"]
        details |= {"file": file, "stem": _stem(file)}
        if mixed and not scan["faults"].get(conversion.NOT_AN_OBJECT):
            evidence = []
            for path, kinds in list(mixed.items())[:5]:
                example = scan["mixed"][path]
                what = f'"{path}" is {" and ".join(kinds)}; record {example["record"]}: {example["text"]}'
                evidence.append(Evidence(what, f"{example['file']}:{example['line']}"))
            top = next((path for path in mixed if path in scan["columns"]), None)
            details |= {"columns": list(mixed)[:20]} | ({"column": top} if top else {})
            yield _finding("data-schema-mixed-types", evidence, details)
            continue
        if evidence := _not_text_for_arrow(entry, scan):
            yield _finding("data-schema-mixed-types", evidence, details)
            continue
        fault = scan["faults"].get(conversion.NOT_TEXT)
        if fault and not _missing_columns(entry, scan) and not _tags_missing(entry, scan):
            what = f"{fault['count']} of {scan['read']} records have something other than text where text is read"
            evidence = [Evidence(what, _first_file(fault)), *_examples(fault)[:3]]
            nulls = all(example["text"] == "null" for example in fault["examples"])
            cause = "data-null-content" if nulls else "data-schema-mixed-types"
            yield _finding(cause, evidence, details | {"count": fault["count"]})


def _not_text_for_arrow(entry: Mapping[str, Any], scan: Mapping[str, Any]) -> list[Evidence]:
    """Columns that are of one type, but not of one that can be stored or read as text."""
    file = entry["files"][0]["shown"]
    texts = [c for key in ("prompt", "query", "response", "system") if (c := entry["columns"].get(key))]
    found = [Evidence(f'"{c}" is read as text and holds numbers', file) for c in scan["numbers"] if c in texts]
    found += [
        Evidence(f'every text of "{c}" is a date, of which the loader of JSON lines makes a time', file)
        for c in scan["dates"]
        if c in texts and scan["complete"]
    ]
    huge = scan["huge"]
    if huge["count"]:
        found += [Evidence(f"{huge['count']} records hold whole numbers of more than 64 bits", _first_file(huge))]
        found += _examples(huge)[:3]
    return found


def _tags_missing(entry: Mapping[str, Any], scan: Mapping[str, Any]) -> bool:
    return bool(scan["message_keys"]) and entry["tags"].get("content_tag") not in scan["message_keys"]


def _stem(file: str) -> str:
    return str(Path(file).with_suffix(""))


def tools_are_json(facts: Facts) -> Iterator[Finding]:
    for _, _, scan, details in _scans(facts):
        fault = scan["faults"].get(conversion.TOOL_JSON)
        if fault:
            what = (
                f"{fault['count']} records have tools that are not the text of a JSON list of objects, or calls that are"
                " not JSON with a name and arguments"
            )
            file = fault["examples"][0]["file"]
            evidence = [Evidence(what, file), *_examples(fault)[:3]]
            yield _finding("data-tools-invalid-json", evidence, details | {"file": file, "stem": _stem(file)})


def media_there(facts: Facts) -> Iterator[Finding]:
    for _, _, scan, details in _scans(facts):
        placeholders = scan["faults"].get(conversion.PLACEHOLDERS)
        if placeholders:
            what = f"{placeholders['count']} of {scan['read']} records have as many placeholders as media files: no"
            evidence = [Evidence(what, placeholders["examples"][0]["file"]), *_examples(placeholders)]
            more = {"count": placeholders["count"], "file": _first_file(placeholders)}
            yield _finding("data-multimodal-placeholder", evidence, details | more)
        missing = scan["missing_media"]
        if missing["count"]:
            details |= {"count": missing["count"], "file": _first_file(missing)}
            if scan["media_found_in"]:
                details["media_dir_suggestion"] = scan["media_found_in"]
            yield _finding("data-media-missing", _examples(missing), details)


def media_wanted(facts: Facts) -> Iterator[Finding]:
    """Images, videos or audios in the data, and a template for text alone: the first record that has one ends the run."""
    name = facts["template.name"]
    if name is None or not facts["template.known"] or facts["template.multimodal"]:
        return
    for entry_name, entry, scan, details in _scans(facts):
        for kind in ("images", "videos", "audios"):
            column = entry["columns"].get(kind)
            if column and scan["columns"].get(column):
                what = f'"{entry_name}" brings {kind} ("{column}"), and template "{name}" is for text'
                yield _finding("tmpl-wrong-for-model", [Evidence(what, _at(facts, entry, f"columns.{kind}"))],
                               details | {"template_name": name, "media": kind})  # fmt: skip


def repeated(facts: Facts) -> Iterator[Finding]:
    """Copies in numbers that nobody chose: a small set may be repeated on purpose."""
    for name, _, scan, details in _scans(facts):
        copies, first = scan.get("duplicates", 0), scan.get("first_duplicate")
        if first is None or scan["read"] < MANY or copies < COPIES * scan["read"]:
            continue
        what = f'{copies} of {scan["read"]} records of "{name}" are copies of others'
        where = f"{first['file']}:{first['line']}"
        evidence = [Evidence(what, first["file"]), Evidence(f"record {first['record']} is the first of them", where)]
        yield _finding("data-duplicates", evidence, details | {"file": first["file"], "count": copies})


def cutoff_plausible(facts: Facts) -> Iterator[Finding]:
    """By bytes alone: the average record is longer than the cutoff even if every token were of MOST_BYTES_A_TOKEN bytes."""
    cutoff = facts["recipe.values"].get("cutoff_len", 2048)
    if facts["dataset.stage"] == "pt" or not isinstance(cutoff, int) or isinstance(cutoff, bool) or cutoff <= 0:
        return  # pre-training cuts its text into blocks and loses nothing
    for name, entry, scan, details in _scans(facts):
        if (
            scan["read"] < ENOUGH
            or not scan["bytes_read"]
            or not entry["files"][0]["shown"].endswith((".json", ".jsonl"))
        ):
            continue
        if any(entry.get("columns", {}).get(kind) for kind in ("images", "videos", "audios")):
            continue  # they may stand in the file themselves, as base64
        average = scan["bytes_read"] / scan["read"]
        if average / MOST_BYTES_A_TOKEN <= cutoff:
            continue
        line = facts["recipe.lines"].get("cutoff_len")
        where = f"{facts['recipe.path']}:{line}" if line else facts["recipe.path"]
        tokens = average / MOST_BYTES_A_TOKEN
        what = (
            f'records of "{name}" have {average:,.0f} bytes on average, more than {tokens:,.0f} tokens; cutoff_len is '
            f"{cutoff} (`check --deep` measures it with the model's tokenizer)"
        )
        details |= {"entry": name, "model_path": facts["recipe.values"].get("model_name_or_path")}
        yield _finding("data-cutoff-truncates", [Evidence(what, where)], details, Severity.WARNING)


def validation_fits(facts: Facts) -> Iterator[Finding]:
    """`val_size` is a share, or from 1 on a number of records; it must leave some for training."""
    size = facts["recipe.values"].get("val_size")
    if (
        not isinstance(size, (int, float))
        or isinstance(size, bool)
        or size <= 0
        or facts["recipe.values"].get("streaming")
    ):
        return
    used = [scan for name, scan in facts["records.scans"].items() if name in facts["dataset.requested"]["dataset"]]
    if len(used) < len(facts["dataset.requested"]["dataset"]) or not all(scan["complete"] for scan in used):
        return
    records = sum(scan["read"] for scan in used)
    taken = size if size > 1 or isinstance(size, int) else math.ceil(records * size)
    if 0 < records <= taken:
        where = f"{facts['recipe.path']}:{facts.get('recipe.lines', {}).get('val_size', 1)}"
        details = {"val_size": size, "records": records, "val_size_suggestion": 0.1}
        what = f"val_size: {size:g} is to be taken from {records} records"
        yield _finding("data-val-split-too-large", [Evidence(what, where)], details)


JUDGEMENTS: tuple[Judgement, ...] = (
    files_readable, objects_only, columns_present, role_tags_fit, turns_in_order, turns_listed, columns_alike,
    something_left, stage_fits_records, types_uniform, tools_are_json, media_there, media_wanted, repeated, cutoff_plausible,
    validation_fits,
)  # fmt: skip
