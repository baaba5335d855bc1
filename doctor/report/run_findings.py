"""The findings of a run's record, told again in the reader's language.

A record holds findings as JSON in the language of the run. What the knowledge base says of their causes is taken from
there in the language that is asked for; a text with the finding's own values stays as it was recorded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from doctor.findings import precise
from doctor.report.run_record import RunRecord
from doctor.report.run_words import say
from knowledge_base import load, offers
from knowledge_base.schema import Cause, Severity, Text

_ORDER = [severity.value for severity in (Severity.ERROR, Severity.WARNING, Severity.INFO)]


class Piece(msgspec.Struct, frozen=True):
    """One piece of evidence."""

    what: str
    where: str


class Remedy(msgspec.Struct, frozen=True):
    """A fix as the reader sees it; `stacks` are those on which it was proven."""

    id: str
    title: str
    kind: str
    stacks: tuple[str, ...]


class Advice(msgspec.Struct, frozen=True):
    """Popular advice that does not help, and why."""

    what: str
    why: str


class Told(msgspec.Struct, frozen=True):
    """One finding ready to be shown. `count`: how often it was raised."""

    cause: str
    severity: str
    title: str
    why: str
    origin: str
    confidence: float | None
    rank: int | None
    evidence: tuple[Piece, ...]
    fixes: tuple[Remedy, ...]
    does_not_help: tuple[Advice, ...]
    count: int = 1


def of_run(record: RunRecord, lang: str) -> list[Told]:
    """Errors first; of equal ones those of the final diagnosis before those raised on the way. Each cause once."""
    final = [told(item, lang) for item in _dicts(record.diagnosis.get("findings"))]
    raised = [
        told(e.finding, lang) for e in record.events if e.finding is not None and e.kind in ("alarm", "diagnosis")
    ]
    times = Counter(finding.cause for finding in raised)  # the final diagnosis repeats what was raised
    merged = _once([*final, *raised])
    counted = [msgspec.structs.replace(finding, count=max(1, times[finding.cause])) for finding in merged]
    return sorted(counted, key=lambda finding: _ORDER.index(finding.severity))


def told(finding: Mapping[str, Any], lang: str, origin: str | None = None) -> Told:
    """One recorded finding in `lang`. Anything may be missing in it."""
    cause = _cause(precise(finding))
    source = str(finding.get("source", ""))
    if source.startswith("probe:"):
        origin = say("from_probe", lang, name=source.partition(":")[2])
    elif source == "watch":
        origin = say("from_watch", lang)
    severity = str(finding.get("severity", cause.severity.value if cause else ""))
    return Told(
        cause=precise(finding) or "?",
        severity=severity if severity in _ORDER else Severity.INFO.value,
        title=_again(cause.title if cause else None, finding.get("title"), lang),
        why=_again(cause.why if cause else None, finding.get("why"), lang),
        origin=origin or say("from_log", lang),
        confidence=_number(finding.get("confidence")),
        rank=finding["rank"] if isinstance(finding.get("rank"), int) else None,
        evidence=tuple(
            Piece(str(item.get("what", "")), str(item.get("where", ""))) for item in _dicts(finding.get("evidence"))
        ),
        fixes=tuple(_remedy(item, cause, lang) for item in _dicts(finding.get("fixes"))),
        does_not_help=_advice(finding, cause, lang),
    )


def _remedy(recorded: Mapping[str, Any], cause: Cause | None, lang: str) -> Remedy:
    known = next((fix for fix in cause.fixes if fix.id == recorded.get("id")), None) if cause else None
    stacks = recorded.get("verified_on")
    return Remedy(
        id=str(recorded.get("id", "")),
        title=_again(known.title if known else None, recorded.get("title"), lang),
        kind=str(recorded.get("class", known.class_.value if known else "")),
        stacks=tuple(str(stack) for stack in stacks) if isinstance(stacks, (dict, list)) else (),
    )


def _advice(finding: Mapping[str, Any], cause: Cause | None, lang: str) -> tuple[Advice, ...]:
    if cause:
        return tuple(Advice(a.what.in_language(lang), a.why.in_language(lang).strip()) for a in cause.does_not_help)
    return tuple(
        Advice(str(item.get("what", item.get("id", ""))), str(item.get("why", "")))
        for item in _dicts(finding.get("does_not_help"))
    )


def _again(text: Text | None, recorded: Any, lang: str) -> str:
    """The knowledge base's text in `lang`; the recorded one where values of the finding stand in it."""
    if text is None or (offers.placeholders(text.in_language(lang)) and isinstance(recorded, str)):
        return str(recorded or "")
    return text.in_language(lang).strip()


def _cause(name: str) -> Cause | None:
    """A cause of this release's knowledge base; None for one of another release."""
    return load.cause(name) if name in load.paths() else None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _once(findings: Iterable[Told]) -> list[Told]:
    """Each cause once, in the order of its first mention; a later mention adds its evidence, up to five pieces."""
    merged: dict[str, Told] = {}
    for item in findings:
        before = merged.get(item.cause)
        if before is None:
            merged[item.cause] = item
        else:
            more = tuple(piece for piece in item.evidence if piece not in before.evidence)
            evidence = (*before.evidence, *more)[:5]
            merged[item.cause] = msgspec.structs.replace(before, evidence=evidence)
    return list(merged.values())
