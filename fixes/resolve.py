"""One resolution for all package changes of a plan, against what is installed.

First every other installed package is pinned to its version. Only when that has no solution may the packages that
depend on the changed ones move too; torch and its CUDA packages stay pinned unless a fix names them. What the
installed LLaMA-Factory and the other packages require, and have today, must still be met.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from doctor.facts import Facts
from doctor.target import Target
from fixes import diff, installer
from fixes.errors import Refused
from fixes.packages import Dist, conda_owned, installed, is_torch


@dataclass(frozen=True)
class PackageChange:
    """One package that changes; `before` None: added, `after` None: removed. `size` in bytes to download, if told."""

    name: str
    before: str | None
    after: str | None
    size: int | None = None

    @property
    def shown(self) -> str:
        return diff.of_package(self.name, self.before, self.after)


@dataclass(frozen=True)
class Packages:
    """The package step of a plan. `requirements` and `removals` are what the fixes asked for, by cause."""

    requirements: dict[str, list[str]] = field(default_factory=dict)  # cause → requirements
    removals: dict[str, list[str]] = field(default_factory=dict)  # cause → names
    reinstall: tuple[str, ...] = ()
    changes: tuple[PackageChange, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def causes(self) -> set[str]:
        return {*self.requirements, *self.removals}

    @property
    def torch(self) -> list[PackageChange]:
        return [change for change in self.changes if is_torch(change.name)]

    @property
    def download_bytes(self) -> int | None:
        known = [change.size for change in self.changes if change.size is not None]
        return sum(known) if known else None


def resolve(
    target: Target,
    facts: Facts,
    requirements: dict[str, list[str]],
    removals: dict[str, list[str]],
    reinstall: tuple[str, ...] = (),
    with_sizes: bool = False,
) -> Packages:
    """Which packages change. Raises Refused (with the resolver's or conda's reason) or Failed."""
    dists = installed(target)
    wanted = [r for each in requirements.values() for r in each]
    named = {_name(r) for r in wanted}
    removed: set[str] = {canonicalize_name(n) for each in removals.values() for n in each}
    if both := named & removed:
        raise Refused(f"One fix installs {', '.join(sorted(both))} and another removes it.")
    again = [n for n in reinstall if n in dists]
    changes, notes = _solve(target, facts, dists, wanted, named, again) if wanted else ({}, [])
    for name in removed & dists.keys():
        changes[name] = (dists[name][0].version, None)
    _guard(target, dists, changes, named | removed)
    real = {
        name: (dists[name][0].version if name in dists else None, after) for name, (_, after) in sorted(changes.items())
    }
    pins = [f"{name}=={after}" for name, (_, after) in real.items() if after]
    told = installer.sizes(target, pins, target.offline) if with_sizes else {}
    listed = tuple(PackageChange(name, b, a, told.get(name) if a else None) for name, (b, a) in real.items())
    notes += _orphaned(dists, removed)
    return Packages(requirements, removals, tuple(again), listed, tuple(notes))


def _name(requirement: str) -> str:
    try:
        return canonicalize_name(Requirement(requirement).name)
    except InvalidRequirement:
        raise Refused(f"{requirement!r} is not a package requirement.") from None


def _solve(
    target: Target, facts: Facts, dists: dict[str, list[Dist]], wanted: list[str], named: set[str], again: list[str]
) -> tuple[dict[str, tuple[str | None, str | None]], list[str]]:
    torch_named = any(is_torch(name) for name in named)
    free = {name for name in dists if name in named or (torch_named and is_torch(name))}
    kept = _kept_promises(dists, named)
    factory = [] if "llamafactory" in named else _factory_requirements(facts)
    pins = [f"{name}=={found[0].version}" for name, found in dists.items() if name not in free]
    try:
        return installer.would_change(target, wanted, [*pins, *kept, *factory], again, target.offline), []
    except installer.Unsatisfiable:
        pass
    dependents = _dependents(dists, named)
    torch_pins = (
        [] if torch_named else [f"{n}=={d[0].version}" for n, d in dists.items() if is_torch(n) and n not in named]
    )
    promised = _kept_promises({n: d for n, d in dists.items() if n not in dependents}, named)
    try:
        changes = installer.would_change(
            target, [*wanted, *sorted(dependents)], [*torch_pins, *promised, *factory], again, target.offline
        )
    except installer.Unsatisfiable as error:
        raise installer.Unsatisfiable(
            f"The packages cannot be changed as this fix wants: {error}"
            + ("" if torch_named else " (torch was to stay as it is.)")
        ) from None
    others = sorted(changes.keys() - named)
    return changes, [f"other packages must change with it: {', '.join(others)}"] if others else []


def _factory_requirements(facts: Facts) -> list[str]:
    """What the installed LLaMA-Factory checks at its start, as constraints."""
    required: Any = facts.get("llamafactory.required") or {}
    found = []
    for name, specifier in required.items():
        try:
            SpecifierSet(specifier)
        except InvalidSpecifier:
            continue
        found.append(f"{name}{specifier}")
    return found


def _kept_promises(dists: dict[str, list[Dist]], named: set[str]) -> list[str]:
    """Requirements of installed packages on the named ones that are met today and must stay met."""
    found = []
    for name, (dist, *_) in dists.items():
        if name in named:
            continue
        for requirement in dist.requires:
            needed = canonicalize_name(requirement.name)
            if (
                needed in named
                and requirement.specifier
                and _applies(requirement)
                and _met(requirement, dists.get(needed))
            ):
                found.append(f"{needed}{requirement.specifier}")
    return sorted(set(found))


def _applies(requirement: Requirement) -> bool:
    """Whether its marker holds without extras, judged by our interpreter: the same platform, close in version."""
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


def _met(requirement: Requirement, found: list[Dist] | None) -> bool:
    if not found:
        return True
    try:
        return requirement.specifier.contains(Version(found[0].version), prereleases=True)
    except InvalidVersion:
        return False


def _dependents(dists: dict[str, list[Dist]], named: set[str]) -> set[str]:
    """Installed packages that require a named one, directly; editable and conda ones stay as they are."""
    return {
        name
        for name, (dist, *_) in dists.items()
        if name not in named
        and not is_torch(name)
        and dist.source == "index"
        and any(canonicalize_name(r.name) in named and _applies(r) for r in dist.requires)
    }


def _guard(
    target: Target, dists: dict[str, list[Dist]], changes: dict[str, tuple[str | None, str | None]], asked: set[str]
) -> None:
    """Refuse what must not change: torch unasked, conda's packages."""
    if not any(is_torch(name) for name in asked) and (torch := sorted(n for n in changes if is_torch(n))):
        raise Refused(
            f"This fix would also change {', '.join(torch)}; torch and CUDA packages change only when asked for."
        )
    for name in changes:
        if any(conda_owned(dist, target.prefix) for dist in dists.get(name, [])):
            raise Refused(f"{name} was installed by conda; change it with conda, so that conda's record stays true.")


def _orphaned(dists: dict[str, list[Dist]], removed: set[str]) -> list[str]:
    return [
        f"{name} requires {canonicalize_name(requirement.name)}, which is removed"
        for name, (dist, *_) in dists.items()
        if name not in removed
        for requirement in dist.requires
        if canonicalize_name(requirement.name) in removed and _applies(requirement)
    ]
