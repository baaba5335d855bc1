"""Who is the odd one out, in one sentence: `node[003-007]: deepspeed 0.16.2, the others 0.15.4`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from doctor.cluster import hostlist
from doctor.cluster.capture import Group
from doctor.findings import Evidence, Finding, Severity


class Across(msgspec.Struct, frozen=True):
    """A finding and the nodes that it is about: the odd ones where most agree, else all that take part."""

    finding: Finding
    nodes: tuple[str, ...]


def merged(groups: Iterable[Group], value: Callable[[Any], Any] = lambda value: value) -> list[Group]:
    """Groups by `value(group.value)`, the largest first; a group whose value is None takes no part."""
    by_value: dict[Any, list[str]] = {}
    for group in groups:
        key = value(group.value)
        if key is not None:
            by_value.setdefault(key, []).extend(group.nodes)
    return sorted((Group(key, tuple(nodes)) for key, nodes in by_value.items()), key=lambda g: -len(g.nodes))


def majority(groups: Sequence[Group]) -> Group | None:
    """The group that has more than half of the nodes, None where there is none."""
    total = sum(len(group.nodes) for group in groups)
    return groups[0] if groups and 2 * len(groups[0].nodes) > total else None


def odd(groups: Sequence[Group]) -> tuple[str, ...]:
    """The nodes outside the majority; all nodes where there is no majority."""
    normal = majority(groups)
    return tuple(node for group in groups if group is not normal for node in group.nodes)


def sentence(
    groups: Sequence[Group], show: Callable[[Any], str] = str, others: Callable[[Any], str] | None = None
) -> str:
    """`node003: SHOWN, the others OTHERS`; without a majority every group is named."""
    normal = majority(groups)
    parts = [f"{hostlist.fold(group.nodes)}: {show(group.value)}" for group in groups if group is not normal]
    if normal is not None:
        parts[-1] += f", the others {(others or show)(normal.value)}"
    return "; ".join(parts)


def labelled(name: str, between: str = " ") -> Callable[[Any], str]:
    """`name value`, for the first naming of a value in a sentence."""
    return lambda value: f"{name}{between}{value}"


def across(
    rule: str,
    cause: str,
    evidence: Iterable[tuple[str, str]],
    nodes: Iterable[str],
    severity: Severity | None = None,
    facts: Mapping[str, Any] | None = None,
    **details: Any,
) -> Across:
    """A finding about several nodes; `evidence` are pairs of what and where."""
    shown = tuple(Evidence(what, where) for what, where in evidence)
    named = tuple(dict.fromkeys(nodes))
    values = {"nodes": hostlist.fold(named), **(facts or {}), **details}
    return Across(Finding(cause, shown, severity, source=f"probe:{rule}", details=values), named)
