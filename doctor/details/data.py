"""Details of the data: the entry of dataset_info.json, lengths, and what a log lists to choose from."""

from __future__ import annotations

import difflib
from typing import Any

from doctor import syntax
from doctor.facts import Facts
from doctor.findings import Finding

BYTES_A_TOKEN = 8  # more than any text takes with today's tokenizers (4 to 5 for English), JSON's own signs among them
_ROUND = 64  # lengths are given in multiples of it


def entry(facts: Facts, finding: Finding) -> str | None:
    """The recipe's data set where it has one, or the one whose source a log names."""
    names = list(facts["dataset.entries"])
    source = finding.details.get("repo")
    of_source = [name for name, found in facts["dataset.entries"].items() if source and found["source"] == source]
    return of_source[0] if of_source else names[0] if len(names) == 1 else None


def _entry(facts: Facts, finding: Finding) -> dict[str, Any] | None:
    name = finding.details.get("entry") or entry(facts, finding)
    found: dict[str, Any] | None = facts["dataset.entries"].get(name) if name else None
    return found


def info_file(facts: Facts, finding: Finding) -> str | None:
    path = facts["dataset.info_path"]
    return str(path) if path else None


def file(facts: Facts, finding: Finding) -> str | None:
    found = _entry(facts, finding)
    files = found["files"] if found else []
    return str(files[0]["shown"]) if len(files) == 1 else None


def stem(facts: Facts, finding: Finding) -> str | None:
    name = str(finding.details.get("file") or file(facts, finding) or "")
    return name.rpartition(".")[0] or None


def has_ms_url(facts: Facts, finding: Finding) -> bool:
    found = _entry(facts, finding)
    return bool(found and "ms_hub_url" in found.get("declared_keys", ()))


def tags_incomplete(facts: Facts, finding: Finding) -> bool:
    """A data set of messages whose entry has not all four tags although its records need them."""
    found = _entry(facts, finding)
    return bool(found and found["formatting"] == "sharegpt" and finding.details.get("tags"))


def nearest_split(facts: Facts, finding: Finding) -> str | None:
    return _nearest(finding.details.get("splits"), finding.details.get("split"), "train")


def nearest_subset(facts: Facts, finding: Finding) -> str | None:
    return _nearest(finding.details.get("subsets"), finding.details.get("subset"), "default")


def _nearest(listed: Any, meant: Any, usual: str) -> str | None:
    """Of a list that a log prints: the one spelt most like what was asked for, else the usual one, else the only one."""
    if not listed:
        return None
    try:
        names = [str(name) for name in syntax.literal(str(listed))]
    except (ValueError, SyntaxError, TypeError):  # the log cut the list off
        return None
    near = difflib.get_close_matches(str(meant), names, n=1)
    return near[0] if near else usual if usual in names else names[0] if len(names) == 1 else None


def longest(facts: Facts, finding: Finding) -> int | None:
    """The cutoff that would have kept the tokens that a log misses: it prints both counts of one record."""
    cutoff = facts["recipe.values"].get("cutoff_len", 2048)
    try:
        missing = int(finding.details["features"]) - int(finding.details["tokens"])
    except (KeyError, ValueError, TypeError):
        return None
    return -(-(cutoff + missing) // _ROUND) * _ROUND if isinstance(cutoff, int) and missing > 0 else None


def cutoff_suggestion(facts: Facts, finding: Finding) -> int | None:
    """A block that the data fill four times, by their bytes over the bytes that a token takes at most."""
    cutoff = facts["recipe.values"].get("cutoff_len", 2048)
    read = sum(scan["bytes_total"] for scan in facts["records.scans"].values())
    fitting = int(read / BYTES_A_TOKEN / 4) // _ROUND * _ROUND
    return fitting if isinstance(cutoff, int) and 0 < fitting < cutoff else None


def fewer_rows_than_workers(facts: Facts, finding: Finding) -> bool:
    """Fewer files to read side by side than the four workers that the fix sets."""
    return any(0 < len(found["files"]) < 4 for found in facts["dataset.entries"].values())
