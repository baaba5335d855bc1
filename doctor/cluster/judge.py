"""Judges a capture: every node by the judgements of one machine, then all of them against each other.

A judgement is a pure function of the facts that it reads. Nodes with equal values of those facts have the same answer,
so it is computed once for all of them: what a judgement reads is recorded while it runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from doctor.cluster.capture import Capture
from doctor.cluster.rules import all_rules
from doctor.cluster.rules.contrast import Across
from doctor.examine import likely_root_first, severity_of
from doctor.facts import Facts, UnknownFact
from doctor.findings import Evidence, Finding
from doctor.probes import Judgement, Probe, all_probes, is_deep

# Judged across all nodes by doctor.cluster.rules; on one node it would say the same in other words.
_ACROSS = {"launch-master-addr"}


class Judged(msgspec.Struct):
    """Findings with their nodes, the likely root first; `not_judged`: probe -> why, with the nodes."""

    findings: list[Across]
    not_judged: dict[str, dict[str, list[str]]]


class _Reading(Mapping[str, Any]):
    """The facts of one node as they are kept, with the names that were asked for."""

    def __init__(self, capture: Capture, node: str) -> None:
        self._capture = capture
        self._node = node
        self.names: dict[str, None] = {}

    def get(self, name: str, default: Any = None) -> Any:
        self.names[name] = None
        return self._capture.value(self._node, name, default)

    def __getitem__(self, name: str) -> Any:
        value = self.get(name, _MISSING)
        if value is _MISSING:
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[str]:
        whole = self._capture.values(self._node)
        self.names.update(dict.fromkeys(whole))
        return iter(whole)

    def __len__(self) -> int:
        return len(list(iter(self)))


_MISSING = object()


class _ReadFacts(Facts):
    """Facts over values that record what is read of them."""

    def __init__(self, values: _Reading) -> None:
        self._values = values  # type: ignore[assignment]  # the base class only reads them


Answer = list[Finding] | str  # the findings, or in words why it could not be judged


def _answers(capture: Capture, judgement: Judgement) -> Iterator[Answer]:
    """The judgement's answer for every node that answered, in order; run once for equal values of what it reads."""
    tables: dict[tuple[str, ...], tuple[list[tuple[int | None, ...]], dict[tuple[int | None, ...], Answer]]] = {}
    for index, node in enumerate(capture.answered):
        for keys, known in tables.values():
            if (answer := known.get(keys[index])) is not None:
                break
        else:
            reading = _Reading(capture, node)
            answer = _asked(judgement, _ReadFacts(reading))
            names = tuple(reading.names)
            if names not in tables:
                columns = [capture.column(name) for name in names]
                keys = list(zip(*columns, strict=True)) if columns else [()] * len(capture.answered)
                tables[names] = keys, {}
            keys, known = tables[names]
            known[keys[index]] = answer
        yield answer


def _asked(judgement: Judgement, facts: Facts) -> Answer:
    try:
        return list(judgement(facts))
    except UnknownFact as missing:
        return str(missing)
    except Exception as error:  # noqa: BLE001 - a fault of ours in one judgement must not hide the others
        return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def judge(capture: Capture, probes: Sequence[Probe] | None = None) -> Judged:
    """All findings. A judgement of one machine that fires on many nodes is one finding with those nodes."""
    probes = all_probes() if probes is None else probes
    not_judged: dict[str, dict[str, list[str]]] = {}
    grouped: dict[tuple[str, str], dict[str, list[Finding]]] = {}
    answered = capture.answered
    for probe in probes:
        if is_deep(probe) and not any(
            capture.groups(name) for name in capture.names() if name.startswith(f"{probe.ID}.")
        ):
            continue  # --deep was not asked for
        for judgement in probe.JUDGEMENTS:
            for node, answer in zip(answered, _answers(capture, judgement), strict=True):
                if isinstance(answer, str):
                    not_judged.setdefault(probe.ID, {}).setdefault(answer, []).append(node)
                    continue
                for finding in answer:
                    if finding.cause not in _ACROSS:
                        key = (finding.cause, severity_of(finding).value)
                        grouped.setdefault(key, {}).setdefault(node, []).append(finding)
    for reasons in not_judged.values():  # several judgements of a probe may lack the same
        reasons.update({reason: list(dict.fromkeys(nodes)) for reason, nodes in reasons.items()})
    findings = [_joined(by_node) for by_node in grouped.values()]
    for rule in all_rules():
        try:
            findings += list(rule(capture))
        except UnknownFact as unknown:
            not_judged.setdefault(unknown.name, {})[unknown.reason] = capture.answered
        except Exception as error:  # noqa: BLE001 - a fault of ours in one rule must not hide the others
            name = f"nodes.{rule.__module__.rpartition('.')[2]}"  # type: ignore[attr-defined]
            not_judged.setdefault(name, {})[f"{type(error).__name__}: {error}"[:300]] = capture.answered
    order = {id(finding): place for place, finding in enumerate(likely_root_first(a.finding for a in findings))}
    return Judged(sorted(findings, key=lambda across: order[id(across.finding)]), not_judged)


def _joined(by_node: Mapping[str, Iterable[Finding]]) -> Across:
    """One finding for all nodes: equal evidence once, each with its nodes where they are not all."""
    from doctor.cluster import hostlist

    nodes = tuple(by_node)
    told: dict[Evidence, list[str]] = {}
    for node, findings in by_node.items():
        for finding in findings:
            for item in finding.evidence:
                told.setdefault(item, []).append(node)
    first = next(iter(next(iter(by_node.values()))))
    evidence = tuple(
        item if len(on) == len(nodes) else Evidence(f"{hostlist.fold(on)}: {item.what}", item.where)
        for item, on in told.items()
    )
    return Across(msgspec.structs.replace(first, evidence=evidence), nodes)
