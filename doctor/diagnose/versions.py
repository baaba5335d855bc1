"""Versions of packages as a log states them: banners, complaints, installers. Only what is printed by the run itself."""

from __future__ import annotations

import re

from doctor.diagnose.lines import Line
from doctor.facts import Facts

VERSION = r"(?P<version>\d+(?:\.\d+)+(?:[.+-]?\w+)*)"
STATED: tuple[tuple[str | None, re.Pattern[str]], ...] = (
    ("deepspeed", re.compile(rf"DeepSpeed info: version={VERSION}")),  # deepspeed/runtime/engine.py
    (None, re.compile(rf"but found (?P<package>[\w.-]+)=={VERSION}")),  # transformers.utils.versions
    (None, re.compile(rf"but you(?:'ll)? have (?P<package>[\w.-]+) {VERSION}")),  # pip's resolver
    (None, re.compile(rf"^- `?(?P<package>[A-Za-z][\w ]*?)`? version: {VERSION}")),  # llamafactory-cli env
    (
        None,
        re.compile(
            rf"^(?P<package>torch|transformers|accelerate|deepspeed|peft|trl|datasets|numpy)(?:==| version:? |: ){VERSION}"
        ),
    ),
    ("nccl", re.compile(rf"NCCL version {VERSION}")),
)
NAMES = {"pytorch": "torch", "deepspeed": "deepspeed", "llamafactory": "llamafactory"}


def stated(lines: list[Line]) -> dict[str, str]:
    """Normalised package name -> the last version that the log states for it."""
    found: dict[str, str] = {}
    for line in lines:
        text = line.text[:400]
        if "ersion" not in text and "==" not in text and "have " not in text and ": " not in text:
            continue
        for package, pattern in STATED:
            if match := pattern.search(text):
                name = (package or match["package"]).lower().replace("_", "-").strip()
                found[NAMES.get(name, name)] = match["version"].rstrip(".")
    return found


def known(lines: list[Line], facts: Facts | None) -> dict[str, str]:
    """What the log states, over what the examined environment has."""
    installed = facts.get("packages.versions", {}) if facts is not None else {}
    return {**installed, **stated(lines)}


def contradicts(affected: dict[str, str], versions: dict[str, str]) -> bool:
    """Whether a known version lies outside the range in which a cause occurs."""
    if not affected.keys() & versions.keys():
        return False
    from packaging.specifiers import InvalidSpecifier, SpecifierSet  # 40 ms, and seldom needed
    from packaging.version import InvalidVersion, Version

    for package, specifier in affected.items():
        if package in versions:
            try:
                if not SpecifierSet(specifier, prereleases=True).contains(Version(versions[package]), prereleases=True):
                    return True
            except (InvalidSpecifier, InvalidVersion):
                continue  # a vendor's own version scheme says nothing
    return False
