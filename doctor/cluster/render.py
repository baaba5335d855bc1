"""The answer about many nodes: one document, and its text, which stays short however many nodes there are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from doctor import redact
from doctor.cluster import hostlist
from doctor.cluster.capture import Capture
from doctor.cluster.judge import Judged
from doctor.findings import precise
from doctor.report import document as documents
from doctor.report.words import LANGUAGES, say, summary

MOST_UNKNOWN = 8  # lines about what could not be judged
MOST_EVIDENCE = 5  # lines of evidence under a finding; the document has them all
WIDEST = 300  # characters of a line; a host list of a thousand scattered nodes is longer
_MARK = {"error": "✗", "warning": "!", "info": "·"}
_WORDS = {
    "answered": ("{answered} of {nodes} nodes answered", "{nodes} 个节点中 {answered} 个已应答"),
    "unknown": ("unknown: {reason}", "未知：{reason}"),
    "more": ("and {count} more; --format json has all", "另有 {count} 条，见 --format json"),
    "all": ("all nodes", "所有节点"),
    "healthy": (
        "Nothing found stands between these nodes and a training run.",
        "未发现会妨碍这些节点训练的问题。",
    ),
    "not_judged": ("not judged on {nodes}: {reason}", "未能在 {nodes} 上判断：{reason}"),
}


def words(word: str, lang: str, **values: object) -> str:
    return _WORDS[word][LANGUAGES.index(lang)].format(**values)


def document(command: str, capture: Capture, judged: Judged, lang: str, with_facts: bool = True) -> dict[str, Any]:
    """The envelope of every command; each finding has `nodes`, a host list. `nodes` says how each node answered."""
    content = documents.envelope(command, (across.finding for across in judged.findings), lang)
    for shown, across in zip(content["findings"], judged.findings, strict=True):
        shown["nodes"] = hostlist.fold(across.nodes)
        shown["node_count"] = len(across.nodes)
    whole = capture.to_json()
    content["nodes"] = redact.document(whole["nodes"])
    content["probes"] = [
        {
            "id": probe,
            "status": "unknown",
            "reason": redact.text(reason),
            "nodes": hostlist.fold(nodes),
            "node_count": len(nodes),
            "seconds": 0.0,
        }
        for probe, reasons in sorted(judged.not_judged.items())
        for reason, nodes in reasons.items()
    ]
    if with_facts:
        content["cluster_facts"] = {"format": whole["format"], "nodes": whole["nodes"], "facts": whole["facts"]}
    return content


def lines(content: Mapping[str, Any], lang: str, why: bool = False) -> Iterator[str]:
    """The text: how many answered, who did not and why, the findings with their nodes."""
    said = content["nodes"]
    silent: dict[str, list[str]] = {}
    for node, answer in said.items():
        if isinstance(answer, dict):
            silent.setdefault(answer["unknown"], []).append(node)
    count = len(said)
    yield words("answered", lang, answered=count - sum(map(len, silent.values())), nodes=count)
    for reason, nodes in silent.items():
        yield _cut(f"? {hostlist.fold(nodes)}: {words('unknown', lang, reason=reason)}")
    yield ""
    for finding in content["findings"]:
        on = words("all", lang) if finding["node_count"] == count > 1 else finding["nodes"]
        yield _cut(f"{_MARK[finding['severity']]} {precise(finding)}  {finding['title']}  [{on}]")
        for item in finding["evidence"][:MOST_EVIDENCE]:
            yield _cut(f"    {item['what']}  — {item['where']}")
        if len(finding["evidence"]) > MOST_EVIDENCE:
            yield f"    {words('more', lang, count=len(finding['evidence']) - MOST_EVIDENCE)}"
        if why:
            yield f"    {say('why', lang)}: {finding['why']}"
        for fix in finding["fixes"]:
            yield _cut(f"    {say('fix', lang)} ({say(fix['class'], lang)}): {fix['title']}  {fix['id']}")
    yield from _not_judged(content["probes"], count, lang)
    severities = [finding["severity"] for finding in content["findings"]]
    if severities:
        yield ""
        errors, warnings, notes = (severities.count(name) for name in _MARK)
        yield summary(lang, errors, warnings, notes)
    if content["healthy"] and "warning" not in severities and not silent:
        yield words("healthy", lang)


def _not_judged(probes: Sequence[Mapping[str, Any]], count: int, lang: str) -> Iterator[str]:
    """What could not be judged, on which nodes and why: a line for each probe and the nodes that it could not judge."""
    by_nodes: dict[tuple[str, str], list[str]] = {}
    for probe in probes:
        on = words("all", lang) if probe["node_count"] == count else probe["nodes"]
        by_nodes.setdefault((probe["id"], on), []).append(probe["reason"])
    for (name, on), reasons in list(by_nodes.items())[:MOST_UNKNOWN]:
        yield _cut(f"? {name}: {words('not_judged', lang, nodes=on, reason='; '.join(reasons))}")
    if len(by_nodes) > MOST_UNKNOWN:
        yield f"? {words('more', lang, count=len(by_nodes) - MOST_UNKNOWN)}"


def _cut(line: str) -> str:
    return line if len(line) <= WIDEST else line[: WIDEST - 1] + "…"
