"""Judgements of what is left of the data for this recipe: its stage, cutoff and split, copies."""

from __future__ import annotations

import math
from collections.abc import Iterator

from doctor.facts import Facts
from doctor.findings import Evidence, Finding
from doctor.recipe import conversion
from doctor.recipe.records_judged import examples, finding, first_file, missing_columns, scans
from knowledge_base.schema import Severity

MOST_BYTES_A_TOKEN = 10  # English has 4 to 5, JSON's own marks and keys included less than twice that
ENOUGH = 20  # records for an average
EMPTY = 0.01  # share of empty answers from which on it is a warning
MANY, COPIES = 1000, 0.2  # records from which on, and share of them that must be copies, for a finding


def something_left(facts: Facts) -> Iterator[Finding]:
    """Records without an answer are dropped in silence; with none left the run ends."""
    for name, entry, scan, details in scans(facts):
        if scan["rows"] == 0:
            yield finding(
                "data-empty-after-filter", [Evidence(f'"{name}" has no records', name)], details | {"usable": 0}
            )
        fault = scan["faults"].get(conversion.NO_ANSWER)
        if not fault or missing_columns(entry, scan) or scan["message_keys"]:
            continue  # without its column, or chats read as alpaca: what is declared is at fault
        what = f'{fault["count"]} of {scan["read"]} records of "{name}" have no answer (as text) and are dropped'
        evidence = [Evidence(what, fault["examples"][0]["file"]), *examples(fault)[:3]]
        severity = None if scan["usable"] == 0 else Severity.WARNING
        details |= {"count": fault["count"], "usable": scan["usable"], "file": first_file(fault)}
        yield finding("data-empty-after-filter", evidence, details, severity)


def stage_fits_records(facts: Facts) -> Iterator[Finding]:
    for _, entry, scan, details in scans(facts):
        for kind in (conversion.NO_PAIR, conversion.NO_LABEL):
            fault = scan["faults"].get(kind)
            if not fault or missing_columns(entry, scan):
                continue
            what = f"{fault['count']} of {scan['read']} records are dropped in stage {facts['dataset.stage']}: {kind}"
            evidence = [Evidence(what, fault["examples"][0]["file"]), *examples(fault)[:3]]
            severity = None if scan["usable"] == 0 else Severity.WARNING
            details |= {"stage": facts["dataset.stage"], "has_pairs": False}
            details |= {"fitting_stage": "sft"} if scan["usable"] == 0 else {}
            yield finding("data-stage-mismatch", evidence, details, severity)


def repeated(facts: Facts) -> Iterator[Finding]:
    """Copies in numbers that nobody chose: a small set may be repeated on purpose."""
    for name, _, scan, details in scans(facts):
        copies, first = scan.get("duplicates", 0), scan.get("first_duplicate")
        if first is None or scan["read"] < MANY or copies < COPIES * scan["read"]:
            continue
        what = f'{copies} of {scan["read"]} records of "{name}" are copies of others'
        where = f"{first['file']}:{first['line']}"
        evidence = [Evidence(what, first["file"]), Evidence(f"record {first['record']} is the first of them", where)]
        yield finding("data-duplicates", evidence, details | {"file": first["file"], "count": copies})


def answers_said(facts: Facts) -> Iterator[Finding]:
    """An empty answer is text and is kept; what is learned from it is to say nothing. In the form openai a call has none."""
    for name, entry, scan, details in scans(facts):
        empty, first = scan["empty_answers"], scan["first_empty"]
        of_others = entry["formatting"] == "openai" or entry["ranking"] or entry["columns"].get("kto_tag")
        if first is None or facts["dataset.stage"] != "sft" or of_others:
            continue
        what = f'{empty} of {scan["read"]} records of "{name}" end with an empty answer'
        where = f"{first['file']}:{first['line']}"
        evidence = [Evidence(what, first["file"]), Evidence(f"record {first['record']} is the first of them", where)]
        severity = None if empty >= EMPTY * scan["read"] else Severity.INFO
        yield finding("data-empty-answers", evidence, details | {"file": first["file"], "count": empty}, severity)


def cutoff_plausible(facts: Facts) -> Iterator[Finding]:
    """By bytes alone: the average record is longer than the cutoff even if every token were of MOST_BYTES_A_TOKEN bytes."""
    cutoff = facts["recipe.values"].get("cutoff_len", 2048)
    if facts["dataset.stage"] == "pt" or not isinstance(cutoff, int) or isinstance(cutoff, bool) or cutoff <= 0:
        return  # pre-training cuts its text into blocks and loses nothing
    for name, entry, scan, details in scans(facts):
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
        yield finding("data-cutoff-truncates", [Evidence(what, where)], details, Severity.WARNING)


def blocks_filled(facts: Facts) -> Iterator[Finding]:
    """Pre-training packs whole blocks; a token has a byte at least, so fewer bytes than a block leave none."""
    values = facts["recipe.values"]
    cutoff = values.get("cutoff_len", 2048)
    if facts["dataset.stage"] != "pt" or values.get("packing") is False or type(cutoff) is not int:
        return
    used = [scan for name, scan in facts["records.scans"].items() if name in facts["dataset.requested"]["dataset"]]
    if len(used) < len(facts["dataset.requested"]["dataset"]) or not all(scan["complete"] for scan in used):
        return
    if any(file["loader"] == "parquet" for entry in facts["dataset.entries"].values() for file in entry["files"]):
        return  # its bytes are packed
    most = sum(scan["bytes_total"] + scan["read"] for scan in used)  # and one token for the end of each text
    if 0 < most < cutoff and all(scan["read"] for scan in used):
        where = f"{facts['recipe.path']}:{facts.get('recipe.lines', {}).get('cutoff_len', 1)}"
        what = f"all the text has {most:,} bytes, fewer than the {cutoff:,} tokens of one block"
        yield finding("data-too-short-to-pack", [Evidence(what, where)], {"key": "cutoff_len"})


def validation_fits(facts: Facts) -> Iterator[Finding]:
    """`val_size` is a share, or from 1 on a number of records; it must leave some for training."""
    size = facts["recipe.values"].get("val_size")
    if (
        not isinstance(size, (int, float))
        or isinstance(size, bool)
        or size <= 0
        or (facts["recipe.values"].get("streaming") and not isinstance(size, int))  # a share is refused there
    ):
        return
    used = [scan for name, scan in facts["records.scans"].items() if name in facts["dataset.requested"]["dataset"]]
    if len(used) < len(facts["dataset.requested"]["dataset"]) or not all(scan["complete"] for scan in used):
        return
    most = facts["recipe.values"].get("max_samples")
    limit = most if isinstance(most, int) and not isinstance(most, bool) and most > 0 else math.inf
    records = int(sum(min(scan["read"], limit) for scan in used))
    taken = size if size > 1 or isinstance(size, int) else math.ceil(records * size)
    if 0 < records <= taken:
        where = f"{facts['recipe.path']}:{facts.get('recipe.lines', {}).get('val_size', 1)}"
        details = {"val_size": size, "records": records, "val_size_suggestion": 0.1}
        what = f"val_size: {size:g} is to be taken from {records} records"
        yield finding("data-val-split-too-large", [Evidence(what, where)], details)
