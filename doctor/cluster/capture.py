"""Capture: the facts of many nodes, joined. Equal values are kept once, so that a thousand nodes cost little.

    Capture.add(node, document)    the facts document of a node, as `check` writes it
    Capture.missing(node, reason)  a node that gave none
    Capture.groups(fact)           who has which value, the largest group first
    Capture.facts(node)            the facts of one node, for the judgements of a single machine

As JSON, `nodes` says of every node how it answered and `facts` says of every fact which values it has and where; a host
list stands for the nodes. Nothing is left out: `from_json(to_json())` is the same capture.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from doctor.cluster import hostlist
from doctor.facts import Facts, Unknown

FORMAT = 1

_raw = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Group(msgspec.Struct, frozen=True):
    """Nodes that have the same value of a fact."""

    value: Any
    nodes: tuple[str, ...]


class Capture:
    """What every node said. Nodes keep the order in which they were added."""

    def __init__(self) -> None:
        self.reasons: dict[str, str | None] = {}  # node -> why it gave no facts; None when it answered
        self._values: list[Any] = []  # every distinct value once
        self._texts: list[bytes] = []  # its JSON
        self._known: dict[bytes, int] = {}
        self._facts: dict[str, dict[str, int]] = {}  # node -> fact -> place in _values
        self._columns: dict[str, list[int | None]] = {}

    @property
    def nodes(self) -> list[str]:
        return list(self.reasons)

    @property
    def answered(self) -> list[str]:
        return [node for node, reason in self.reasons.items() if reason is None]

    def add(self, node: str, document: bytes | Mapping[str, Any]) -> None:
        """Raises ValueError for bytes that are no JSON object."""
        if not isinstance(document, bytes):
            document = msgspec.json.encode(document, order="sorted")
        try:
            raw = _raw.decode(document)
        except msgspec.DecodeError as error:
            raise ValueError(f"{node} sent no facts ({error})") from None
        places: dict[str, int] = {}
        known = self._known
        for name, value in raw.items():
            text = bytes(value)
            place = known.get(text)
            places[name] = self._kept(text) if place is None else place
        self._facts[node] = places
        self.reasons[node] = None
        self._columns.clear()

    def missing(self, node: str, reason: str) -> None:
        self.reasons[node] = reason

    def _kept(self, text: bytes) -> int:
        value = msgspec.json.decode(text)
        if isinstance(value, dict) and value.keys() == {"unknown"}:
            value = Unknown(value["unknown"])
        self._values.append(value)
        self._texts.append(text)
        self._known[text] = len(self._values) - 1
        return len(self._values) - 1

    def facts(self, node: str) -> Facts:
        """Raises KeyError for a node that gave none."""
        return Facts(self.values(node))

    def values(self, node: str) -> dict[str, Any]:
        """Fact name -> value or Unknown. Raises KeyError for a node that gave none."""
        return {name: self._values[place] for name, place in self._facts[node].items()}

    def value(self, node: str, fact: str, default: Any) -> Any:
        """One fact as it is kept: a value, Unknown, or the default where the node does not have it."""
        place = self._facts[node].get(fact)
        return default if place is None else self._values[place]

    def column(self, fact: str) -> list[int | None]:
        """For every node that answered, in order, a number that is equal for equal values; None where it lacks the fact."""
        if fact not in self._columns:
            self._columns[fact] = [self._facts[node].get(fact) for node in self.answered]
        return self._columns[fact]

    def names(self) -> set[str]:
        """Every fact that some node has, known or not."""
        return {name for facts in self._facts.values() for name in facts}

    def groups(self, fact: str) -> list[Group]:
        """Known values of a fact with the nodes that have them, the largest group first, then in the nodes' order."""
        return self._grouped(fact, unknown=False)

    def unknown(self, fact: str) -> list[Group]:
        """Reasons why a fact is unknown (value: the reason), with the nodes."""
        return [Group(g.value.reason, g.nodes) for g in self._grouped(fact, unknown=True)]

    def _grouped(self, fact: str, unknown: bool) -> list[Group]:
        by_place: dict[int, list[str]] = {}
        for node, place in zip(self.answered, self.column(fact), strict=True):
            if place is not None:
                by_place.setdefault(place, []).append(node)
        groups = [
            Group(self._values[place], tuple(nodes))
            for place, nodes in by_place.items()
            if isinstance(self._values[place], Unknown) == unknown
        ]
        return sorted(groups, key=lambda group: -len(group.nodes))

    def of(self, fact: str) -> dict[str, Any]:
        """Node -> value, only where it is known."""
        return {node: group.value for group in self.groups(fact) for node in group.nodes}

    def to_json(self) -> dict[str, Any]:
        by_fact: dict[str, dict[int, list[str]]] = {}
        for node, facts in self._facts.items():
            for name, place in facts.items():
                by_fact.setdefault(name, {}).setdefault(place, []).append(node)
        return {
            "format": FORMAT,
            "nodes": {node: {"unknown": reason} if reason else "answered" for node, reason in self.reasons.items()},
            "facts": {
                name: [
                    {"nodes": hostlist.fold(nodes), "value": msgspec.Raw(self._texts[place])}
                    for place, nodes in places.items()
                ]
                for name, places in sorted(by_fact.items())
            },
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Capture:
        """Raises ValueError or KeyError for what is no capture."""
        capture = cls()
        documents: dict[str, dict[str, Any]] = {}
        for node, said in document["nodes"].items():
            capture.reasons[node] = said["unknown"] if isinstance(said, dict) else None
            documents[node] = {}
        for name, groups in document["facts"].items():
            for group in groups:
                for node in hostlist.expand(group["nodes"]):
                    documents[node][name] = group["value"]
        for node, facts in documents.items():
            if capture.reasons[node] is None:
                capture.add(node, facts)
        return capture


def zipped(facts: Mapping[str, Any]) -> bytes:
    """A facts document as it travels: JSON, gzipped, the same bytes for the same facts."""
    return gzip.compress(json.dumps(facts, ensure_ascii=False, sort_keys=True).encode(), compresslevel=6, mtime=0)


def joined(documents: Iterable[tuple[str, bytes]]) -> Capture:
    """A capture of gzipped documents."""
    capture = Capture()
    for node, data in documents:
        capture.add(node, gzip.decompress(data))
    return capture
