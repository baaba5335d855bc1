"""The JSON document of every command: findings joined with what the knowledge base says of their causes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from doctor import __version__, redact
from doctor.findings import Finding, Severity
from knowledge_base import load, offers
from knowledge_base.index import index
from knowledge_base.schema import Cause, Fix, Proof

if TYPE_CHECKING:  # the probes behind it take 20 ms to import, which a diagnosis does not need
    from doctor.examine import Examination

SCHEMA_VERSION = 1


def envelope(
    command: str, findings: Iterable[Finding] = (), lang: str = "en", facts_known: bool = True, **more: Any
) -> dict[str, Any]:
    """The document of one command. `healthy` is: no finding of severity error. `facts_known`: whether facts of the
    target stand behind the findings, so that a fix which is not offered does not apply."""
    shown = [describe(finding, lang, facts_known) for finding in findings]
    document = {
        "schema_version": SCHEMA_VERSION,
        "command": command,
        "version": __version__,
        "healthy": not any(finding["severity"] == Severity.ERROR.value for finding in shown),
        "findings": shown,
        "probes": [],
        "unrecognised": None,
        **more,
    }
    return redact.document(document)


def examination(command: str, result: Examination, lang: str, with_facts: bool, **more: Any) -> dict[str, Any]:
    """The document of an examination (`check`, and the base of `fix` and `train`)."""
    if with_facts:
        more["facts"] = result.facts.to_json()
    return envelope(command, result.findings, lang, probes=msgspec.to_builtins(result.probes), **more)


def describe(finding: Finding, lang: str = "en", facts_known: bool = True) -> dict[str, Any]:
    """One finding in the shape of the contract, texts in `lang`. `may_apply`: the fixes of which only the target can tell
    whether they apply."""
    cause = index().cause(finding.cause)
    severity = finding.severity or cause.severity
    return {
        **cause.filed,
        "severity": severity.value,
        "confidence": round(finding.confidence, 3),
        "title": offers.title(cause.title, finding.details, lang),
        "why": cause.why.in_language(lang).strip(),
        "evidence": [{"what": item.what, "where": item.where} for item in finding.evidence],
        "source": finding.source,
        "blocks_training": blocks_training(finding),
        "rank": finding.rank,
        "fixes": remedies(offers.offered(cause, finding.details), finding.details, lang),
        "may_apply": remedies(() if facts_known else offers.possible(cause, finding.details), finding.details, lang),
        "does_not_help": folk_advice(cause, lang),
    }


def blocks_training(finding: Finding) -> bool:
    """Whether a run that is started with this finding does not come to its end, or trains wrongly."""
    cause = index().cause(finding.cause)
    return (finding.severity or cause.severity) is Severity.ERROR and cause.blocks_training is not False


def entry(cause: Cause, lang: str) -> dict[str, Any]:
    """A cause by itself: all its fixes, also those that apply to some findings only."""
    return {
        "cause": cause.id,
        "kind_of": cause.kind_of or None,
        "area": load.area(cause.id),
        "severity": cause.severity.value,
        "title": offers.title(cause.title, {}, lang),
        "why": cause.why.in_language(lang).strip(),
        "affected": cause.affected,
        "evidence_kind": cause.evidence.value,
        "fixes": remedies(cause.fixes, {}, lang),
        "does_not_help": folk_advice(cause, lang),
        "references": list(cause.references),
    }


def remedies(fixes: Iterable[Fix], details: Mapping[str, Any], lang: str) -> list[dict[str, Any]]:
    return [
        {
            "id": fix.id,
            "class": fix.class_.value,
            "title": offers.title(fix.title, details, lang),
            "verified_on": proofs(fix.verified_on),
        }
        for fix in fixes
    ]


def folk_advice(cause: Cause, lang: str) -> list[dict[str, str]]:
    """What the web advises and was found not to help."""
    return [
        {"id": advice.id, "what": advice.what.in_language(lang), "why": advice.why.in_language(lang).strip()}
        for advice in cause.does_not_help
    ]


def proofs(verified_on: tuple[Proof, ...]) -> dict[str, Any]:
    """`{stack: {"reproduction": …, package: version, …}}`."""
    return {proof.stack: {"reproduction": proof.reproduction, **proof.versions} for proof in verified_on}
