"""Judgements of what stands in the records of the data: pure functions of the facts of probes/records.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from doctor.facts import Facts
from doctor.findings import Evidence, Finding
from doctor.recipe import conversion, data_scan, data_shape, json_faults
from knowledge_base.schema import Severity

ID = "records"
SOURCE = f"probe:{ID}"


def scans(facts: Facts) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Any], dict[str, Any]]]:
    """(name, entry, scan, details that every fix of data needs)."""
    for name, scan in facts["records.scans"].items():
        details = {"entry": name, "info_file": facts["dataset.info_path"], "records_read": scan["read"]}
        yield name, facts["dataset.entries"][name], scan, details


def at(facts: Facts, entry: Mapping[str, Any], key: str) -> str:
    return f"{facts['dataset.info_path']}:{entry['lines'].get(key, entry['lines'][''])}"


def finding(cause: str, evidence: list[Evidence], details: dict[str, Any], severity: Severity | None = None) -> Finding:
    return Finding(cause, tuple(evidence), severity=severity, source=SOURCE, details=details)


def examples(fault: Mapping[str, Any]) -> list[Evidence]:
    return [
        Evidence(f"record {e['record']}: {e['text']}", f"{e['file']}:{e['line']}") for e in fault["examples"]
    ]  # fmt: skip


def first_file(fault: Mapping[str, Any]) -> str:
    return str(fault["examples"][0]["file"])


def files_readable(facts: Facts) -> Iterator[Finding]:
    for _, entry, scan, details in scans(facts):
        broken = scan["broken"]
        if broken is None or broken["kind"] == json_faults.TOO_LARGE:
            continue
        where = f"{broken['file']}:{broken['line']}"
        details |= {"file": broken["file"], "kind": broken["kind"], "line": broken["line"], "record": broken["record"]}
        if broken["kind"] == json_faults.ENCODING:
            encoding = broken["encoding"]
            if encoding:
                details["encoding"] = encoding
            what = f"not UTF-8 but {'probably ' + encoding if encoding else 'an unknown encoding'}: {broken['text']}"
            yield finding("data-encoding", [Evidence(what, where)], details)
        elif broken["kind"] == data_scan.NOT_AS_NAMED:
            what = f"it is not what its name says: {broken['text']}"
            yield finding("data-file-type", [Evidence(what, broken["file"])], details | {"stem": stem(broken["file"])})
        elif broken["kind"] == json_faults.LFS_POINTER:
            what = "a git-lfs pointer stands in place of the data"
            yield finding("data-invalid-json", [Evidence(what, where)], details | {"truncated": True})
        else:
            details["truncated"] = broken["kind"] in (json_faults.TRUNCATED, json_faults.EMPTY, json_faults.HTML)
            clear = (json_faults.TRAILING_COMMA, json_faults.BYTE_ORDER_MARK, json_faults.PYTHON)
            repairable = broken["kind"] in clear
            what = f"record {broken['record']}, column {broken['column']}: {broken['kind']}: {broken['text']}".rstrip(
                ": "
            )
            # One of several is passed over as long as another has records.
            beside = broken["kind"] == json_faults.EMPTY and len(entry["files"]) > 1
            severity = Severity.WARNING if beside else None
            yield finding(
                "data-invalid-json", [Evidence(what, where)], details | {"ambiguous": not repairable}, severity
            )


def objects_only(facts: Facts) -> Iterator[Finding]:
    for _, entry, scan, details in scans(facts):
        if scan["complete"] and scan["read"] == 0 and not scan["broken"] and scan["rows"] is None:
            shown = entry["files"][0]["shown"]
            yield finding(
                "data-invalid-json", [Evidence("it holds no record", f"{shown}:1")], details | {"file": shown}
            )
        fault = scan["faults"].get(conversion.NOT_AN_OBJECT)
        if fault:
            file = fault["examples"][0]["file"]
            yield finding("data-invalid-json", examples(fault), details | {"file": file, "kind": "not objects"})


def columns_present(facts: Facts) -> Iterator[Finding]:
    for name, entry, scan, details in scans(facts):
        missing = missing_columns(entry, scan)
        if not missing:
            continue
        shape = data_shape.recognise(scan, entry)
        evidence = []
        for key, column in missing.items():
            what = f'"{name}" reads its {key} from "{column}", which no record has'
            evidence.append(Evidence(what, at(facts, entry, f"columns.{key}")))
        present = sorted(scan["columns"])
        evidence.append(Evidence(f"columns of the data: {', '.join(present[:20])}", entry["files"][0]["shown"]))
        severity = None if scan["complete"] or scan["rows"] is not None else Severity.WARNING
        other_format = shape is not None and (shape.formatting == "alpaca") != (entry["formatting"] == "alpaca")
        if shape is not None and other_format and not set(missing) <= set(data_shape.OPTIONAL):
            evidence.append(Evidence(f"the records have the form {shape.formatting}", entry["files"][0]["shown"]))
            details |= data_shape.repair(entry, shape, present)
            yield finding("data-format-undeclared", evidence, details, severity)
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
        yield finding("data-column-missing", evidence, details, severity)


def missing_columns(entry: Mapping[str, Any], scan: Mapping[str, Any]) -> dict[str, str]:
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
    for name, entry, scan, details in scans(facts):
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
            evidence.append(Evidence(what, at(facts, entry, "tags")))
            spoken = ", ".join(f"{role} ({n})" for role, n in list(scan["roles"].items())[:8])
            evidence.append(Evidence(f"roles: {spoken}", first_file(unknown)))
            evidence += examples(unknown)[:3]
        shape = data_shape.recognise(scan, entry)
        if shape is None and "messages" in missing_columns(entry, scan):
            continue  # what stands elsewhere are no turns
        details |= {"count": unknown["count"], "roles": list(scan["roles"])[:20]}
        if shape is not None and shape.tags:
            details |= data_shape.repair(entry, shape, sorted(scan["columns"]))
        yield finding("data-role-tag-mismatch", evidence, details, None if fails else Severity.WARNING)


_KEY_TAGS = {"role_tag": "role", "content_tag": "text"}


def _key_evidence(facts: Facts, name: str, entry: Mapping[str, Any], scan: Mapping[str, Any]) -> list[Evidence]:
    """Evidence for the keys of a message (role and text) that the entry names wrongly or not at all."""
    found = []
    for tag, word in _KEY_TAGS.items():
        key = entry["tags"].get(tag)
        if key is None:
            found.append(Evidence(f'tags of "{name}" lack "{tag}"', at(facts, entry, "tags")))
        elif key not in scan["message_keys"]:
            what = f'"{name}" takes the {word} of a message from "{key}", which none has'
            found.append(Evidence(what, at(facts, entry, f"tags.{tag}")))
    return found


def turns_in_order(facts: Facts) -> Iterator[Finding]:
    for _, _, scan, details in scans(facts):
        kinds = (conversion.ROLE_ORDER, conversion.ODD_TURNS, conversion.EMPTY_MESSAGES)
        faults = {kind: scan["faults"][kind] for kind in kinds if kind in scan["faults"]}
        if not faults:
            continue
        count = sum(fault["count"] for fault in faults.values())
        evidence = []
        for kind, fault in faults.items():
            first = examples(fault)
            evidence.append(Evidence(f"{fault['count']} of {scan['read']} records are dropped: {kind}", first[0].where))
            evidence += first[:3]
        severity = Severity.ERROR if scan["usable"] == 0 else Severity.WARNING
        details |= {"count": count, "usable": scan["usable"], "file": first_file(next(iter(faults.values())))}
        details |= {"few_bad_rows": count * 20 <= scan["read"], "recipe": facts["recipe.path"]}
        yield finding("data-role-order", evidence, details, severity)


def turns_listed(facts: Facts) -> Iterator[Finding]:
    """The converter walks through the turns of every record: null and text are the end of the run."""
    for _, entry, scan, details in scans(facts):
        fault = scan["faults"].get(conversion.NO_MESSAGES)
        if not fault or missing_columns(entry, scan):
            continue
        nulls = all(example["text"] == "null" for example in fault["examples"])
        column = entry["columns"].get("messages")
        what = f'"{column}" of {fault["count"]} of {scan["read"]} records is {"null" if nulls else "no list of turns"}'
        evidence = [Evidence(what, first_file(fault)), *examples(fault)[:3]]
        details |= {"file": first_file(fault), "bad_rows": fault["count"], "row": fault["examples"][0]["record"]}
        details |= {"line": fault["examples"][0]["line"], "ambiguous": True}
        yield finding("data-null-content" if nulls else "data-invalid-json", evidence, details)


def roles_given(facts: Facts) -> Iterator[Finding]:
    """A turn whose role is null or left out, where a role has no tag: no release passes over it."""
    for _, entry, scan, details in scans(facts):
        fault = scan["faults"].get(conversion.NO_ROLE)
        if fault and not _key_evidence(facts, "", entry, scan):
            what = f'{fault["count"]} of {scan["read"]} records have turns without "{entry["tags"].get("role_tag")}"'
            evidence = [Evidence(what, first_file(fault)), *examples(fault)[:3]]
            yield finding("data-null-content", evidence, details | {"file": first_file(fault), "count": fault["count"]})


def columns_alike(facts: Facts) -> Iterator[Finding]:
    """The files of a folder become one table. The file that is listed first makes it: a column that a later one lacks is
    filled with null, a column more is refused. The order of the list is the disk's: a copy of the folder has another."""
    for _, _, scan, details in scans(facts):
        (first, columns), *others = list(scan["file_columns"].items()) or [("", [])]
        unlike = [(file, found) for file, found in others if found != columns]
        refused = [(file, found) for file, found in unlike if set(found) - set(columns)]
        for file, found in (refused or unlike)[:1]:
            odd = sorted(set(found) ^ set(columns))
            what = f"{', '.join(odd[:8])}: not both in {file} and in {first}, which become one table"
            what += "" if refused else "; it is filled with null as long as the folder is listed in this order"
            details |= {"file": file, "stem": stem(file), "columns": odd[:20]}
            evidence, severity = [Evidence(what, file)], None if refused else Severity.WARNING
            yield finding("data-schema-mixed-types", evidence, details, severity)


def types_uniform(facts: Facts) -> Iterator[Finding]:
    for _, entry, scan, details in scans(facts):
        mixed = {path: kinds for path, kinds in scan["types"].items() if len(kinds) > 1}
        file = entry["files"][0]["shown"]
        details |= {"file": file, "stem": stem(file)}
        if mixed and not scan["faults"].get(conversion.NOT_AN_OBJECT):
            evidence = []
            for path, kinds in list(mixed.items())[:5]:
                example = scan["mixed"][path]
                what = f'"{path}" is {" and ".join(kinds)}; record {example["record"]}: {example["text"]}'
                evidence.append(Evidence(what, f"{example['file']}:{example['line']}"))
            top = next((path for path in mixed if path in scan["columns"]), None)
            details |= {"columns": list(mixed)[:20]} | ({"column": top} if top else {})
            yield finding("data-schema-mixed-types", evidence, details)
            continue
        if evidence := _not_text_for_arrow(entry, scan):
            yield finding("data-schema-mixed-types", evidence, details)
            continue
        fault = scan["faults"].get(conversion.NOT_TEXT)
        if fault and not missing_columns(entry, scan) and not _tags_missing(entry, scan):
            what = f"{fault['count']} of {scan['read']} records have something other than text where text is read"
            evidence = [Evidence(what, first_file(fault)), *examples(fault)[:3]]
            nulls = all(example["text"] == "null" for example in fault["examples"])
            cause = "data-null-content" if nulls else "data-schema-mixed-types"
            yield finding(cause, evidence, details | {"count": fault["count"]})


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
        found += [Evidence(f"{huge['count']} records hold whole numbers of more than 64 bits", first_file(huge))]
        found += examples(huge)[:3]
    return found


def _tags_missing(entry: Mapping[str, Any], scan: Mapping[str, Any]) -> bool:
    of_messages = entry["formatting"] != "alpaca" and bool(scan["message_keys"])
    return of_messages and entry["tags"].get("content_tag") not in scan["message_keys"]


def stem(file: str) -> str:
    return str(Path(file).with_suffix(""))


def tools_are_json(facts: Facts) -> Iterator[Finding]:
    for _, _, scan, details in scans(facts):
        fault = scan["faults"].get(conversion.TOOL_JSON)
        if fault:
            what = (
                f"{fault['count']} records have tools that are not the text of a JSON list of objects, or calls that are"
                " not JSON with a name and arguments"
            )
            file = fault["examples"][0]["file"]
            evidence = [Evidence(what, file), *examples(fault)[:3]]
            yield finding("data-tools-invalid-json", evidence, details | {"file": file, "stem": stem(file)})
