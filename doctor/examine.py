"""Runs the probes side by side under one deadline, then judges what they collected.

Each probe collects in a daemon thread of its own, after the probes whose facts it reads. What has not arrived at the
deadline is unknown, with that reason; a stuck worker (DNS, a hung driver, a dead mount) holds up neither the others
nor the exit.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterable, Sequence
from queue import Empty, SimpleQueue
from typing import Any

import msgspec

from doctor import details, places
from doctor.facts import Facts, Unknown, UnknownFact
from doctor.findings import Finding, Severity
from doctor.probes import Probe, all_probes, is_deep
from doctor.target import Target

DEFAULT_BUDGET = 5.0  # seconds
DEEP_BUDGET = 300.0  # of --deep: it imports what a training run imports, tokenises a sample, reads weights


class ProbeReport(msgspec.Struct):
    """How one probe went: ok | warn | fail by its findings, unknown, error or skipped with the reason."""

    id: str
    status: str
    seconds: float
    reason: str | None = None


class Examination(msgspec.Struct):
    """The facts, what was judged from them, and how each probe went."""

    facts: Facts
    findings: list[Finding]
    probes: list[ProbeReport]


def collect(target: Target, probes: Sequence[Probe], budget: float) -> tuple[Facts, dict[str, ProbeReport]]:
    """Facts of all probes within `budget` seconds. Of a probe that did not finish, what it had told until then is kept."""
    probes = [probe for probe in probes if not is_deep(probe) or target.deep]
    started = time.monotonic()
    deadline = started + budget
    arrived: SimpleQueue[tuple[str, dict[str, Any] | Exception, float, bool]] = SimpleQueue()
    facts = Facts()
    reports: dict[str, ProbeReport] = {}
    ids = {probe.ID for probe in probes}
    waiting = {probe.ID: probe for probe in probes}
    running: set[str] = set()

    def work(probe: Probe, known: Facts) -> None:
        begun = time.monotonic()
        answer: dict[str, Any] | Exception = {}
        try:
            if parts := getattr(probe, "parts", None):
                for part in parts(target, known):
                    arrived.put((probe.ID, part, time.monotonic() - begun, False))
            else:
                answer = dict(probe.collect(target, known))
        except Exception as error:  # noqa: BLE001 - a probe that crashes is reported as `error`, the others go on
            answer = error
        arrived.put((probe.ID, answer, time.monotonic() - begun, True))

    def start_ready() -> None:
        for probe in list(waiting.values()):
            if all(need in reports or need not in ids for need in probe.AFTER):
                del waiting[probe.ID]
                running.add(probe.ID)
                threading.Thread(target=work, args=(probe, facts), name=f"probe-{probe.ID}", daemon=True).start()

    start_ready()
    while running:
        try:
            probe_id, answer, seconds, last = arrived.get(timeout=max(0.0, deadline - time.monotonic()))
        except Empty:
            break
        if not last:
            facts = facts.merged(answer) if isinstance(answer, dict) else facts
            continue
        running.discard(probe_id)
        if isinstance(answer, Exception):
            needs = answer.name if isinstance(answer, UnknownFact) else None
            status, reason = ("unknown", f"needs {needs}") if needs else ("error", _sentence(answer))
        else:
            facts = facts.merged(answer)
            status, reason = "ok", None
        reports[probe_id] = ProbeReport(probe_id, status, round(seconds, 4), reason)
        start_ready()
    for probe_id in sorted(running | set(waiting)):
        late = (
            f"did not answer within {budget:g} s" if probe_id in running else "waited for a probe that did not answer"
        )
        reports[probe_id] = ProbeReport(probe_id, "unknown", round(time.monotonic() - started, 4), late)
    return facts, reports


def _sentence(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def judge(facts: Facts, probes: Sequence[Probe], reports: dict[str, ProbeReport]) -> list[Finding]:
    """Run every judgement; one that lacks a fact is skipped and its probe says which. Updates `reports`."""
    findings: list[Finding] = []
    for probe in probes:
        if is_deep(probe) and not any(name.startswith(f"{probe.ID}.") for name in facts):
            continue  # it was not asked
        report = reports.setdefault(probe.ID, ProbeReport(probe.ID, "ok", 0.0))
        lacking: list[str] = []
        found: list[Finding] = []
        for judgement in probe.JUDGEMENTS:
            try:
                found += judgement(facts)
            except UnknownFact as missing:
                lacking.append(str(missing))
            except Exception as error:  # noqa: BLE001 - a fault of ours in one judgement must not hide the others
                report.status, report.reason = "error", _sentence(error)
        findings += found
        if report.status == "ok":
            if found:
                worst = {severity_of(finding) for finding in found}
                report.status = "fail" if Severity.ERROR in worst else "warn" if Severity.WARNING in worst else "ok"
            elif lacking:
                report.status, report.reason = (
                    "unknown",
                    f"not judged, unknown: {'; '.join(dict.fromkeys(lacking))}"[:300],
                )
    return findings


def severity_of(finding: Finding) -> Severity:
    """The finding's own severity, else its cause's."""
    if finding.severity is not None:
        return finding.severity
    from knowledge_base import load

    return load.cause(finding.cause).severity


def likely_root_first(findings: Iterable[Finding]) -> list[Finding]:
    """Sorted as they will bite: errors first, then by the order in which a run meets them, then by confidence."""
    from knowledge_base import load

    order = {area: place for place, area in enumerate(_ORDER_OF_A_RUN)}
    severities = list(Severity)

    def key(finding: Finding) -> tuple[int, int, float]:
        place = order.get(load.area(finding.cause), len(order))
        return severities.index(severity_of(finding)), place, -finding.confidence

    return sorted(findings, key=key)


# A run meets its obstacles in this order: the command, the imports, the arguments, the data, the model, the launch.
_ORDER_OF_A_RUN = (
    "cli", "environment", "packages", "launch", "recipe", "cuda", "gpu", "hub", "model", "tokenizer", "template",
    "data", "memory", "disk", "deepspeed", "nccl", "attention", "peft", "quantisation", "training", "logging",
    "checkpoints", "evaluation", "security",
)  # fmt: skip


def examine(
    target: Target,
    budget: float = DEFAULT_BUDGET,
    only: Collection[str] = (),
    skip: Collection[str] = (),
) -> Examination:
    """Collect and judge. `only` and `skip` name probes or causes; `only` chooses findings, never what is collected."""
    probes = [probe for probe in all_probes() if probe.ID not in skip]
    facts, reports = collect(target, probes, budget)
    return _examination(facts, probes, reports, only, skip)


def replay(facts: Facts, only: Collection[str] = (), skip: Collection[str] = ()) -> Examination:
    """The same judgements on captured facts (`check --from facts.json`)."""
    probes = [probe for probe in all_probes() if probe.ID not in skip]
    return _examination(facts, probes, {}, only, skip)


def _examination(
    facts: Facts, probes: Sequence[Probe], reports: dict[str, ProbeReport], only: Collection[str], skip: Collection[str]
) -> Examination:
    findings = _once(judge(facts, probes, reports))
    for probe_id in skip:
        if probe_id in {probe.ID for probe in all_probes()}:
            reports[probe_id] = ProbeReport(probe_id, "skipped", 0.0, "skipped with --skip")
    if only:
        findings = [f for f in findings if f.cause in only or f.source.removeprefix("probe:") in only]
    findings = places.located(details.complete((f for f in findings if f.cause not in skip), facts), facts)
    return Examination(facts, likely_root_first(findings), sorted(reports.values(), key=lambda report: report.id))


def _once(findings: list[Finding]) -> list[Finding]:
    """What a deep probe says of a cause that another probe has found already becomes evidence of that finding."""
    deep = {f"probe:{probe.ID}" for probe in all_probes() if is_deep(probe)}
    first = {f.cause: place for place, f in reversed(list(enumerate(findings))) if f.source not in deep}
    kept = list(findings)
    for place, finding in enumerate(findings):
        if finding.source in deep and finding.cause in first:
            other = kept[first[finding.cause]]
            graver = min(severity_of(other), severity_of(finding), key=list(Severity).index)
            details = {**finding.details, **other.details}
            evidence = (*other.evidence, *finding.evidence)
            kept[first[finding.cause]] = msgspec.structs.replace(
                other, evidence=evidence, severity=graver, details=details
            )
            kept[place] = None  # type: ignore[call-overload]
    return [finding for finding in kept if finding is not None]


def unknown_facts(prefix: str, names: Iterable[str], reason: str) -> dict[str, Any]:
    """Facts of one subject, all unknown for the same reason."""
    return {f"{prefix}.{name}": Unknown(reason) for name in names}
