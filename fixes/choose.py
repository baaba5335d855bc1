"""Which fix of a cause applies to a finding, and its actions with placeholders filled."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from doctor.findings import Finding
from fixes.errors import Refused
from knowledge_base.schema import Action, Cause, Fix, FixClass

PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
ARGUMENTS = {"model": "--model PATH", "dataset": "--dataset PATH"}


@dataclass(frozen=True)
class Choice:
    """What the user said. `only`: ids of causes or fixes; `yes`: consent to every fix of class review.

    `skip`: causes or fixes that the user declined one by one.
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
                raise Refused(f"{ARGUMENTS[name].split()[0]} {given} does not exist.")
            found[name] = str(place.absolute()) if place else given
        return found

    def covers(self, cause: Cause) -> bool:
        ids = {cause.id, *(fix.id for fix in cause.fixes)}
        return cause.id not in self.skip and (not self.only or bool(ids & self.only))

    def names(self, cause: str, fix: str) -> bool:
        return bool({cause, fix} & self.only)


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
        if fix.id in choice.skip or (named and fix.id not in named):
            continue
        yield _candidate(fix, values)


def _candidate(fix: Fix, values: Mapping[str, Any]) -> Candidate:
    if missing := [name for name in fix.when if not values.get(name)]:
        return Candidate(fix, obstacle=f"it applies only where {missing[0].replace('_', ' ')}")
    if present := [name for name in fix.unless if values.get(name)]:
        return Candidate(fix, obstacle=f"it does not apply where {present[0].replace('_', ' ')}")
    wanted = {name for action in fix.actions for name in _placeholders(action)}
    lacking = sorted(name for name in wanted if values.get(name) is None)
    if lacking:
        argument = next((name for name in lacking if name in ARGUMENTS), None)
        if argument and all(name in ARGUMENTS for name in lacking):
            needed = " and ".join(ARGUMENTS[name] for name in lacking)
            return Candidate(fix, obstacle=f"give {needed}", missing_argument=needed)
        return Candidate(fix, obstacle=f"{lacking[0].replace('_', ' ')} is not known here")
    actions = tuple(Action(a.kind, fill(a.args, values)) for a in fix.action_list())
    return Candidate(fix, actions, uses_argument=bool(wanted & ARGUMENTS.keys()), values=values)


def _placeholders(value: Any) -> set[str]:
    if isinstance(value, str):
        return set(PLACEHOLDER.findall(value))
    if isinstance(value, Mapping):
        return {name for item in [*value.keys(), *value.values()] for name in _placeholders(item)}
    if isinstance(value, (list, tuple)):
        return {name for item in value for name in _placeholders(item)}
    return set()


def fill(value: Any, values: Mapping[str, Any]) -> Any:
    """Placeholders replaced in every string; a string that is one placeholder becomes the value itself, type kept."""
    if isinstance(value, str):
        whole = PLACEHOLDER.fullmatch(value)
        if whole and whole[1] in values:
            return values[whole[1]]
        return PLACEHOLDER.sub(lambda m: str(values[m[1]]) if m[1] in values else m[0], value)
    if isinstance(value, Mapping):
        return {str(fill(key, values)): fill(item, values) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        filled: list[Any] = []
        for item in value:
            new = fill(item, values)
            # A detail that is a list stands for its items: packages: ['{requirements}'].
            filled += new if isinstance(new, list) and isinstance(item, str) else [new]
        return filled
    return value


def is_manual(fix: Fix) -> bool:
    return fix.class_ is FixClass.MANUAL or not fix.actions
