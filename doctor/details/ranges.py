"""Ranges in which the installed packages want each other. Helpers of the details, none themselves."""

from __future__ import annotations

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from doctor.facts import Facts

# Packages with which LLaMA-Factory 0.8.3 was seen to train, of the summer of 2024.
_BEFORE_0_9 = {"transformers": "4.43.4", "datasets": "2.20.0", "accelerate": "0.32.1", "peft": "0.12.0", "trl": "0.9.6"}


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
    """`name` with the range that the installed LLaMA-Factory checks or declares. Before 0.9.0 the ranges had no upper end:
    there it is the newest of its time."""
    checked: dict[str, str] = {canonicalize_name(n): s for n, s in facts.get("llamafactory.required", {}).items()}
    declared = checked.get(name) or demands(facts, name).get("llamafactory")
    if not declared:
        return None
    release = version(facts, "llamafactory")
    newest = _BEFORE_0_9.get(name) if release and release < Version("0.9.0") and "<" not in str(declared) else None
    return f"{name}{declared},<={newest}" if newest else f"{name}{declared}"
