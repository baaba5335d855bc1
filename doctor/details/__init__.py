"""What fixes ask for and the facts can tell, whatever found the cause: a probe, or a log that knows only its own lines.

A detail is a function with its name in one of the modules here, `(facts, finding) -> value`. None means that it cannot
be told here; then a fix that needs it is not offered. An unknown fact (UnknownFact) means the same. What the finding
says itself always goes first. Pure, and only what the fixes of the finding's cause name is computed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import msgspec

from doctor.facts import Facts, UnknownFact
from doctor.findings import Finding
from knowledge_base import load, offers
from knowledge_base.schema import Cause

Detail = Callable[[Facts, Finding], Any]
SUBJECTS = (
    "recipe", "deepspeed", "model", "data", "checkpoints", "packages", "versions", "torch_family", "libraries", "machine",
    "hub", "memory",
)  # fmt: skip


@cache
def known() -> dict[str, Detail]:
    """Name of a detail -> the function that tells it."""
    found: dict[str, Detail] = {}
    for subject in SUBJECTS:
        module = importlib.import_module(f"{__name__}.{subject}")
        found |= {
            name: value
            for name, value in vars(module).items()
            if callable(value) and getattr(value, "__module__", "") == module.__name__ and not name.startswith("_")
        }
    return found


def wanted(cause: Cause) -> set[str]:
    """Names that the cause's fixes ask for, in conditions, actions and titles."""
    names = {name for fix in cause.fixes for name in (*fix.when, *fix.unless)}
    for fix in cause.fixes:
        names |= offers.placeholders([fix.actions, fix.title.en, fix.title.zh])
    return names | offers.placeholders([cause.title.en, cause.title.zh])


def complete(findings: Iterable[Finding], facts: Facts) -> list[Finding]:
    """The findings with every detail that their fixes ask for and the facts can tell. A cause that is not shipped (of an
    index of one's own) has no such fixes."""
    return [_complete(finding, facts) if finding.cause in load.paths() else finding for finding in findings]


def _complete(finding: Finding, facts: Facts) -> Finding:
    told: dict[str, Any] = {}
    for name in sorted(wanted(load.cause(finding.cause)) & known().keys()):
        if finding.details.get(name) is not None:
            continue
        try:
            value = known()[name](facts, finding)
        except UnknownFact:
            continue
        if value is not None:
            told[name] = value
    return msgspec.structs.replace(finding, details={**told, **_given(finding)}) if told else finding


def _given(finding: Finding) -> dict[str, Any]:
    return {name: value for name, value in finding.details.items() if value is not None}
