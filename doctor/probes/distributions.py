"""Whether a package's files are those that its metadata records, and whether this Python is one that it is for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from doctor.facts import Facts
from doctor.findings import Finding, found
from doctor.probes import Judgement
from doctor.probes.packages import first_text, version_of
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
_ASKED = ("llamafactory", "transformers", "torch", "accelerate", "peft", "trl", "datasets", "deepspeed")


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    """`distributions.files`: {name: version that the files name}; `distributions.python`: {name: Requires-Python}."""
    installed = facts["packages.versions"]
    named = {name: _OWN.search(first_text(target.site, _FILES[name]) or "") for name in _FILES if name in installed}
    asked = {
        name: _PYTHON.search(_header(first_text(target.site, f"{name}-{installed[name]}.dist-info/METADATA")))
        for name in _ASKED
        if name in installed
    }
    return {
        "distributions.files": {name: said[1] for name, said in named.items() if said},
        "distributions.python": {name: said[1] for name, said in asked.items() if said},
    }


def _header(metadata: str | None) -> str:
    """Without the description, which may hold anything."""
    return (metadata or "").replace("\r\n", "\n").partition("\n\n")[0]


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


def newer_python_is_known(facts: Facts) -> Iterator[Finding]:
    """Releases that import and break on Python 3.13, which their metadata do not say: tyro before 0.9.1, which LLaMA-Factory
    0.9.1 to 0.9.3 ask for, makes Annotated types in a way that went; pydub, which gradio 4 brings, wants audioop."""
    installed = facts["packages.versions"]
    if Version(facts["python.version"]) < Version("3.13") or "llamafactory" not in installed:
        return
    tyro = version_of(facts, "tyro")
    if tyro and tyro < Version("0.9.1") and "trl" in installed:
        what = f"trl imports tyro {tyro}, which cannot be imported by Python {facts['python.version']}"
        yield _found("env-wrong-python-version", what, "tyro", package="tyro", newer_than_packages=True)
    elif {"gradio", "pydub"} <= installed.keys() and "audioop-lts" not in installed:
        what = f"gradio imports pydub, and Python {facts['python.version']} has no audioop for it"
        yield _found("env-wrong-python-version", what, "pydub", package="pydub", newer_than_packages=True)


JUDGEMENTS: tuple[Judgement, ...] = (files_are_of_record, python_fits, newer_python_is_known)
