"""`file` of a piece of evidence becomes `file:line` where the lines of the file's keys are known. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import msgspec

from doctor.facts import Facts
from doctor.findings import Evidence, Finding


def located(findings: Iterable[Finding], facts: Facts) -> list[Finding]:
    """The findings; evidence that names a JSON file points to the line of the key that it speaks of."""
    tables: Mapping[str, Mapping[str, int]] = facts.get("places.lines") or {}
    if not tables:
        return list(findings)
    return [
        msgspec.structs.replace(finding, evidence=tuple(_at(item, tables) for item in finding.evidence))
        for finding in findings
    ]


def _at(item: Evidence, tables: Mapping[str, Mapping[str, int]]) -> Evidence:
    line = line_of(item.what, tables[item.where]) if item.where in tables else None
    return item if line is None else Evidence(item.what, f"{item.where}:{line}")


def line_of(what: str, lines: Mapping[str, int]) -> int | None:
    """The line of the key that a text names: by its whole dotted name, else by its last part where that is unmistakable."""
    dotted = [name for name in lines if "." in name and re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", what)]
    if dotted:
        return lines[max(dotted, key=len)]
    last: dict[str, list[str]] = {}
    for name in lines:
        last.setdefault(name.rpartition(".")[2], []).append(name)
    named = [
        (found.start(), names) for part, names in last.items() if (found := re.search(rf"\b{re.escape(part)}\b", what))
    ]
    # The first one that the text names; a key that stands in several places is meant where it stands least deep.
    for _, names in sorted(named, key=lambda pair: pair[0]):
        level = min(name.count(".") for name in names)
        candidates = [name for name in names if name.count(".") == level]
        if len(candidates) == 1:
            return lines[candidates[0]]
    return None
