"""Whether a package's files are those that its metadata records, and whether this Python is one that it is for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from doctor.facts import Facts
from doctor.findings import Finding, found
from doctor.probes import Judgement
from doctor.target import Target

ID = "distributions"
AFTER: tuple[str, ...] = ("packages",)

_found = partial(found, ID)

# Distribution -> file of the package that names its version.
_FILES = {"transformers": "transformers/__init__.py", "accelerate": "accelerate/__init__.py", "peft": "peft/__init__.py",
          "datasets": "datasets/__init__.py", "huggingface-hub": "huggingface_hub/__init__.py",
          "torch": "torch/version.py", "tokenizers": "tokenizers/__init__.py", "trl": "trl/__init__.py",
          "deepspeed": "deepspeed/git_version_info_installed.py", "numpy": "numpy/version.py"}  # fmt: skip
_OWN = re.compile(r"^(?:__version__|version)\s*(?::[^=]*)?=\s*['\"](\d[^'\"]*)['\"]", re.M)
_PYTHON = re.compile(r"^Requires-Python:\s*(.+?)\s*$", re.M)
_METADATA_HEAD = 65536  # bytes
_ASKED = ("llamafactory", "transformers", "torch", "accelerate", "peft", "trl", "datasets", "deepspeed")


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    """`distributions.files`: {name: version that the files name}; `distributions.python`: {name: Requires-Python}."""
    installed = facts["packages.versions"]
    files, pythons = {}, {}
    for site in target.site:
        for name, file in _FILES.items():
            if name in installed and name not in files and (said := _OWN.search(_head(site / file, None))):
                files[name] = said[1]
        for name in _ASKED:
            metadata = site / f"{name}-{installed.get(name)}.dist-info" / "METADATA"
            if name not in pythons and (asked := _PYTHON.search(_head(metadata, _METADATA_HEAD))):
                pythons[name] = asked[1]
    return {"distributions.files": files, "distributions.python": pythons}


def _head(path: Path, size: int | None) -> str:
    try:
        with path.open("rb") as file:
            return file.read(-1 if size is None else size).decode("utf-8", errors="replace")
    except OSError:
        return ""


def files_are_of_record(facts: Facts) -> Iterator[Finding]:
    """Files of another release than the one recorded: an upgrade that was interrupted, or two installers at once."""
    installed = facts["packages.versions"]
    for name, said in facts["distributions.files"].items():
        try:
            recorded, own = Version(installed[name]), Version(said)
        except InvalidVersion:
            continue
        if recorded.release != own.release and name not in facts["packages.sources"]:
            what = f"{name} is recorded as {recorded}, and its files say {own}"
            details = {"package": name, "installed_version": str(recorded), "mixed_files": True}
            yield _found("pkg-broken-install", what, _FILES[name], **details)


def python_fits(facts: Facts) -> Iterator[Finding]:
    """What an installer asks for and a copied or forced environment may lack."""
    for name, wanted in facts["distributions.python"].items():
        try:
            fits = SpecifierSet(wanted).contains(facts["python.version"], prereleases=True)
        except InvalidSpecifier:
            continue
        if not fits:
            release = facts["packages.versions"][name]
            what = f"{name} {release} is for Python {wanted}, this environment has {facts['python.version']}"
            yield _found("env-wrong-python-version", what, name, package=name)
            return


JUDGEMENTS: tuple[Judgement, ...] = (files_are_of_record, python_fits)
