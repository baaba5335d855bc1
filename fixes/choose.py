"""Which fix of a cause applies to a finding, and its actions with placeholders filled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from doctor.findings import Finding
from fixes.errors import Refused
from knowledge_base import load, offers
from knowledge_base.schema import Action, Cause, Fix, FixClass


@dataclass(frozen=True)
class Choice:
    """What the user said. `only`: ids of causes or fixes; `yes`: consent to every fix of class review.

    `skip`: causes, fixes or "cause/fix" that the user declined one by one.
    """

    only: frozenset[str] = frozenset()
    yes: bool = False
    model: str | None = None
    dataset: str | None = None
    skip: frozenset[str] = frozenset()

    def arguments(self, workdir: Path) -> dict[str, str]:
        """{model} and {dataset}; what exists as a path is made absolute. Raises Refused for a file that is not there."""
        found = {}
        for name, given in (("model", self.model), ("dataset", self.dataset)):
            if given is None:
                continue
            place = next((p for p in (Path(given).expanduser(), workdir / given) if p.exists()), None)
            if place is None and (given.startswith((".", "/", "~")) or Path(given).suffix in (".json", ".jsonl")):
                raise Refused(f"{offers.ARGUMENTS[name].split()[0]} {given} does not exist.")
            found[name] = str(place.absolute()) if place else given
        return found

    def covers(self, cause: Cause) -> bool:
        ids = {*cause.names, *(fix.id for fix in cause.fixes)}
        return cause.id not in self.skip and (not self.only or bool(ids & self.only))

    def names(self, cause: str, fix: str) -> bool:
        return bool({*load.cause(cause).names, fix} & self.only)


@dataclass(frozen=True)
class Candidate:
    """A fix of a cause. `obstacle`: why it does not apply here (then `actions` is empty)."""

    fix: Fix
    actions: tuple[Action, ...] = ()
    obstacle: str | None = None
    missing_argument: str | None = None
    uses_argument: bool = False
    values: Mapping[str, Any] = field(default_factory=dict)


def candidates(finding: Finding, cause: Cause, choice: Choice, arguments: Mapping[str, str]) -> Iterator[Candidate]:
    """The fixes of a cause in its order; only the named ones when the user named fixes of it."""
    named = {fix.id for fix in cause.fixes} & choice.only
    values = {**finding.details, **arguments}
    for fix in cause.fixes:
        if {fix.id, f"{cause.id}/{fix.id}"} & choice.skip or (named and fix.id not in named):
            continue
        yield _candidate(fix, values)


def _candidate(fix: Fix, values: Mapping[str, Any]) -> Candidate:
    if missing := [name for name in fix.when if not values.get(name)]:
        return Candidate(fix, obstacle=f"it applies only where {missing[0].replace('_', ' ')}")
    if present := [name for name in fix.unless if values.get(name)]:
        return Candidate(fix, obstacle=f"it does not apply where {present[0].replace('_', ' ')}")
    wanted = offers.placeholders(fix.actions)
    lacking = sorted(name for name in wanted if values.get(name) is None)
    if lacking:
        argument = next((name for name in lacking if name in offers.ARGUMENTS), None)
        if argument and all(name in offers.ARGUMENTS for name in lacking):
            needed = " and ".join(offers.ARGUMENTS[name] for name in lacking)
            return Candidate(fix, obstacle=f"give {needed}", missing_argument=needed)
        return Candidate(fix, obstacle=f"{lacking[0].replace('_', ' ')} is not known here")
    actions = tuple(Action(a.kind, offers.filled(a.args, values)) for a in fix.action_list())
    return Candidate(fix, actions, uses_argument=bool(wanted & offers.ARGUMENTS.keys()), values=values)


def is_manual(fix: Fix) -> bool:
    return fix.class_ is FixClass.MANUAL or not fix.actions
