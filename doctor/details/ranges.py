"""Ranges in which the installed packages want each other. Helpers of the details, none themselves."""

from __future__ import annotations

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from doctor.facts import Facts


def version(facts: Facts, name: str) -> Version | None:
    """The installed version, None where it is not there or not one that can be compared."""
    try:
        return Version(facts["packages.versions"][name])
    except (KeyError, InvalidVersion):
        return None


def demands(facts: Facts, name: str) -> dict[str, SpecifierSet]:
    """What the installed packages want of one, extras left out: package -> range."""
    found = {}
    for owner, needs in facts["packages.requires"].items():
        for need in needs:
            try:
                requirement = Requirement(need)
            except InvalidRequirement:
                continue
            plain = requirement.marker is None or "extra" not in str(requirement.marker)
            if plain and canonicalize_name(requirement.name) == name:
                found[owner] = requirement.specifier
    return found


def accepted(facts: Facts, name: str, wanted: str) -> bool:
    """Whether LLaMA-Factory's own check and every installed package allow that version."""
    checked: dict[str, str] = {canonicalize_name(n): s for n, s in facts.get("llamafactory.required", {}).items()}
    ranges = [*demands(facts, name).values(), *([SpecifierSet(checked[name])] if name in checked else [])]
    return all(allowed.contains(wanted, prereleases=True) for allowed in ranges)


def of_llamafactory(facts: Facts, name: str) -> str | None:
    """`name` with the range that the installed LLaMA-Factory checks or declares."""
    checked: dict[str, str] = {canonicalize_name(n): s for n, s in facts.get("llamafactory.required", {}).items()}
    if name in checked:
        return f"{name}{checked[name]}"
    declared = demands(facts, name).get("llamafactory")
    return f"{name}{declared}" if declared else None
