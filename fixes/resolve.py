"""One resolution for all package changes of a plan, against what is installed.

First every other installed package is pinned to its version. Only when that has no solution may others move: what the
new versions need, and packages whose own requirements would break. LLaMA-Factory, torch and its CUDA packages stay
pinned unless a fix names them. What LLaMA-Factory and the packages that stay require, and have today, must still be met.
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

ROUNDS = 4  # how often more packages may be set free before the attempt is given up


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
    hashes: dict[str, list[str]] = field(default_factory=dict)  # name → SHA-256 of the files that may be installed

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

    @property
    def said(self) -> list[str]:
        """What a plan says of the download and of the way back."""
        size = self.download_bytes
        incoming = [change for change in self.changes if change.after]
        unknown = sum(change.size is None for change in incoming)
        told = f"at most {size / 1e6:.0f} MB to download" if size else "how much is to be downloaded is not known"
        more = f" (and {unknown} packages whose size is not known)" if size and unknown else ""
        return [
            "undo of the packages needs no network: their files are kept",
            *([told + more] if incoming else []),
        ]


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
    return _with_others_moving(target, dists, wanted, named, factory, again)


def _with_others_moving(
    target: Target,
    dists: dict[str, list[Dist]],
    wanted: list[str],
    named: set[str],
    factory: list[str],
    again: list[str],
) -> tuple[dict[str, tuple[str | None, str | None]], list[str]]:
    """The second try: packages whose requirements would break may move, LLaMA-Factory and torch only if named."""
    torch_named = any(is_torch(name) for name in named)
    fixed = [n for n in dists if n not in named and (n == "llamafactory" or (is_torch(n) and not torch_named))]
    constraints = [f"{name}=={dists[name][0].version}" for name in fixed] + factory
    constraints += _kept_promises({n: dists[n] for n in fixed}, set(dists) | named)
    moving: set[str] = set()
    for _ in range(ROUNDS):
        try:
            asked = [*wanted, *sorted(moving)]
            changes = installer.would_change(target, asked, constraints, again, target.offline)
        except installer.Unsatisfiable as error:
            kept = "" if torch_named else " (LLaMA-Factory and torch were to stay as they are.)"
            raise installer.Unsatisfiable(f"The packages cannot be changed as this fix wants: {error}{kept}") from None
        broken = _broken(dists, changes) - moving
        needless = _needless(dists, changes, broken)
        moving |= broken - needless
        if broken <= needless:
            gone: dict[str, tuple[str | None, str | None]] = {n: (dists[n][0].version, None) for n in needless}
            others = sorted((changes.keys() | needless) - named)
            return changes | gone, [f"other packages must change with it: {', '.join(others)}"] if others else []
    raise installer.Unsatisfiable(f"The packages cannot be changed without breaking {', '.join(sorted(moving))}.")


def _broken(dists: dict[str, list[Dist]], changes: dict[str, tuple[str | None, str | None]]) -> set[str]:
    """Packages that stay, and one of whose requirements is met today and would not be after the changes."""
    found = set()
    for name, (dist, *_) in dists.items():
        if name in changes or dist.source != "index":
            continue
        for requirement in dist.requires:
            needed = canonicalize_name(requirement.name)
            after = changes.get(needed, (None, None))[1]
            promised = needed in dists and _applies(requirement) and _met(requirement, dists[needed])
            if after and promised and not requirement.specifier.contains(Version(after), prereleases=True):
                found.add(name)
    return found


def _needless(
    dists: dict[str, list[Dist]], changes: dict[str, tuple[str | None, str | None]], broken: set[str]
) -> set[str]:
    """Those of `broken` that came along with packages which change now and do not want them any more: what the resolver
    still wanted it would have kept whole. Nobody asked for them by name."""
    wanted_by = {
        name: {n for n, (dist, *_) in dists.items() if any(canonicalize_name(r.name) == name for r in dist.requires)}
        for name in broken
    }
    return {
        name
        for name, owners in wanted_by.items()
        if owners and owners <= changes.keys() and not dists[name][0].requested
    }


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
        for requirement in dist.requires if name not in named else ():
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


def _guard(
    target: Target, dists: dict[str, list[Dist]], changes: dict[str, tuple[str | None, str | None]], asked: set[str]
) -> None:
    """Refuse what must not change: a torch that is there and that nobody asked for, conda's packages. A torch that comes
    into an environment without one needs consent only (fixes.plan)."""
    there = "torch" in dists and not any(is_torch(name) for name in asked)
    if there and (torch := sorted(n for n in changes if is_torch(n))):
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
