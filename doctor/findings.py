"""Finding: one detected problem, from a probe or from a log. Pure data, no knowledge of texts or fixes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from doctor.facts import Facts
from knowledge_base.schema import Severity

SEVERITY_ORDER = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.INFO: 2}


class Evidence(msgspec.Struct, frozen=True):
    """`what` was seen, `where`: `file:line`, a package, a log line, a variable."""

    what: str
    where: str


class Finding(msgspec.Struct, frozen=True):
    """A cause that was judged to be there.

    `severity` overrides the cause's own when the situation makes it milder or graver. `details` are the values that
    the cause's fixes need (placeholders and preconditions); they are facts, never prose. `rank` is the rank or node
    where it began, when known.
    """

    cause: str
    evidence: tuple[Evidence, ...]
    severity: Severity | None = None
    confidence: float = 1.0
    source: str = "log"  # "probe:<id>" | "log" | "watch" (an alarm of a run that goes on)
    rank: int | None = None
    details: dict[str, Any] = {}


def precise(told: Mapping[str, Any]) -> str:
    """The exact id of a finding, a step or an outcome in a document: its kind, where it has one. Older ones have none."""
    return str(told.get("kind") or told.get("cause", ""))


def found(
    probe: str,
    cause: str,
    what: str,
    where: str,
    severity: Severity | None = None,
    confidence: float = 1.0,
    **details: Any,
) -> Finding:
    """A probe's finding with one piece of evidence; `details` are what the cause's fixes ask for."""
    return Finding(cause, (Evidence(what, where),), severity, confidence, f"probe:{probe}", details=details)


def in_recipe(facts: Facts, key: str) -> str:
    """`path:line` of a key of the recipe; the path alone for a key that is not written there."""
    path, line = facts.get("recipe.path", "the recipe"), facts.get("recipe.lines", {}).get(key)
    return f"{path}:{line}" if line else str(path)


def key_of_recipe(facts: Facts, key: str) -> dict[str, Any]:
    """The details that fixes of one key of the recipe ask for."""
    return {"key": key, "line": facts.get("recipe.lines", {}).get(key, 1), "recipe": facts["recipe.path"]}
