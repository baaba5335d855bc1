"""Packages of the target: what is installed, what needs what, and which pairs cannot live together.

Everything is read from files (`*.dist-info`, `version.py`, a header that pyarrow ships); nothing is imported, so a
package that dies at import is seen all the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from packaging.markers import InvalidMarker, UndefinedEnvironmentName, default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from doctor.facts import Facts
from doctor.findings import Finding, Severity, found
from doctor.machine import on_demand
from doctor.recipe.source_tree import source_url
from doctor.target import Target

ID = "packages"
AFTER: tuple[str, ...] = ("recipe", "llamafactory")

_found = partial(found, ID)

_METADATA_HEAD = 65536  # bytes; Requires-Dist stands in the header, before the long description
_BUILD = re.compile(r"^__version__\s*=\s*['\"]([^'\"]+)", re.M)
_CUDA = re.compile(r"^cuda(?::[^=]*)?\s*=\s*['\"]([\d.]+)['\"]", re.M)
_NUMPY_TARGET = re.compile(r"^#define\s+NPY_TARGET_VERSION\s+NPY_(\d+)_", re.M)


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    versions: dict[str, str] = {}
    requires: dict[str, list[str]] = {}
    sources: dict[str, str] = {}
    duplicates: dict[str, list[str]] = {}
    remains: list[str] = []
    for site in target.site:
        of_site: set[str] = set()
        for entry in _entries(site):
            if entry.name.startswith("~"):
                remains.append(str(entry))
            if entry.suffix != ".dist-info" or "-" not in entry.stem:
                continue
            raw_name, _, version = entry.stem.rpartition("-")
            name = canonicalize_name(raw_name)
            if name in versions:  # an earlier site directory, or an earlier distribution, wins at import
                if name in of_site and versions[name] != version:
                    duplicates.setdefault(name, [versions[name]]).append(version)
                continue
            of_site.add(name)
            versions[name] = version
            requires[name] = _requires(entry)
            if url := source_url(entry):
                sources[name] = url
    return {
        "python.version": target.version,
        "python.prefix": str(target.prefix),
        "python.executable": str(target.python),
        "python.chosen_because": target.chosen_because,
        "packages.versions": dict(sorted(versions.items())),
        "packages.requires": {name: needs for name, needs in sorted(requires.items()) if needs},
        "packages.sources": sources,
        "packages.duplicates": {n: v for n, v in duplicates.items() if len(set(v)) > 1},
        "packages.remains": remains,
        "packages.cuda_builds": _cuda_builds(target.site),
        "packages.pyarrow_numpy_major": _pyarrow_numpy_major(target.site),
    }


def _entries(site: Path) -> list[Path]:
    try:
        return sorted(site.iterdir())
    except OSError:
        return []


def _requires(dist_info: Path) -> list[str]:
    try:
        with (dist_info / "METADATA").open("rb") as file:
            head = file.read(_METADATA_HEAD).decode("utf-8", errors="replace")
    except OSError:
        return []
    header = head.replace("\r\n", "\n").partition("\n\n")[0]
    return [line[14:].strip() for line in header.splitlines() if line.startswith("Requires-Dist:")]


def _cuda_builds(site: tuple[Path, ...]) -> dict[str, str | None]:
    """`{"torch": "13.2", "torchaudio": "13.0"}`: the CUDA each was compiled for, None for a CPU build."""
    builds: dict[str, str | None] = {}
    for name in ("torch", "torchvision", "torchaudio"):
        text = first_text(site, f"{name}/version.py")
        if text is None:
            continue
        local = _BUILD.search(text)
        tag = re.search(r"\+cu(\d+)(\d)$", local[1]) if local else None
        said = _CUDA.search(text)
        builds[name] = said[1] if said else f"{tag[1]}.{tag[2]}" if tag else None
    return builds


def _pyarrow_numpy_major(site: tuple[Path, ...]) -> int | None:
    """The NumPy major that pyarrow was compiled to need, from the header that it ships; None when it does not say."""
    text = first_text(site, "pyarrow/include/arrow/python/numpy_interop.h")
    found = _NUMPY_TARGET.search(text) if text else None
    return int(found[1]) if found else None


def first_text(site: tuple[Path, ...], name: str) -> str | None:
    """Of the first of the site directories that has the file."""
    for folder in site:
        try:
            return (folder / name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
    return None


def version_of(facts: Facts, name: str) -> Version | None:
    """An installed version as PEP 440 sees it, or None."""
    text = facts["packages.versions"].get(name)
    return None if text is None else _version(text)


@lru_cache(maxsize=4096)
def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None


def numpy_abi(facts: Facts) -> Iterator[Finding]:
    """Compiled packages that cannot load with the installed NumPy."""
    numpy = version_of(facts, "numpy")
    if not numpy:
        return
    pyarrow = version_of(facts, "pyarrow")
    if pyarrow and numpy.major < 2 and (facts["packages.pyarrow_numpy_major"] or 1) >= 2:
        what = f"pyarrow {pyarrow} is compiled for NumPy 2 and refuses numpy {numpy}; its metadata does not say so"
        yield _found("pkg-numpy-abi", what, "pyarrow", package="pyarrow", numpy=str(numpy), pyarrow_needs_numpy2=True)
    for name, first in _FIRST_FOR_NUMPY_2.items():
        version = version_of(facts, name)
        if version and numpy.major >= 2 and version < Version(first):
            what = f"{name} {version} was compiled for NumPy 1.x and cannot run with numpy {numpy} (first that can: {first})"
            # torch is never raised for numpy's sake: the older numpy is the smaller change.
            newer: dict[str, Any] = {} if name == "torch" else {"package_for_numpy2": f"{name}>={first}"}
            details: dict[str, Any] = {
                "package": name,
                "numpy": str(numpy),
                "llamafactory_needs_numpy2": _llamafactory_needs_numpy2(facts),
            }
            yield _found("pkg-numpy-abi", what, name, **details, **newer)


def _llamafactory_needs_numpy2(facts: Facts) -> bool:
    needs = facts["packages.requires"].get("llamafactory", ())
    numpy = [
        requirement for _, requirement in _needs(tuple(needs), facts["python.version"]) if requirement.name == "numpy"
    ]
    return any(not requirement.specifier.contains("1.26.4") for requirement in numpy)


# First releases built against NumPy 2, from each project's release notes (https://github.com/numpy/numpy/issues/26191).
_FIRST_FOR_NUMPY_2 = {
    "torch": "2.3.0",
    "pyarrow": "16.0.0",
    "pandas": "2.2.2",
    "scipy": "1.13.0",
    "scikit-learn": "1.4.2",
}


def cuda_pairs(facts: Facts) -> Iterator[Finding]:
    """torch, torchvision and torchaudio compiled for different CUDA versions: the import of the latter dies."""
    builds = facts["packages.cuda_builds"]
    torch_cuda, torch = builds.get("torch"), version_of(facts, "torch")
    for name in ("torchaudio", "torchvision"):
        cuda, version = builds.get(name), version_of(facts, name)
        if not (torch and torch_cuda and cuda and version) or cuda == torch_cuda:
            continue
        what = f"torch {torch} is compiled for CUDA {torch_cuda}, {name} {version} for CUDA {cuda}"
        yield _found(
            "pkg-torch-torchvision-mismatch", what, name, **_matching_torch(facts), **_required_by(facts, name)
        )


def _required_by(facts: Facts, name: str) -> dict[str, Any]:
    needs = facts["packages.requires"].get("llamafactory", ())
    declared = {needed for needed, _ in _needs(tuple(needs), facts["python.version"])}
    return {f"{name}_not_required": name not in declared}


def _matching_torch(facts: Facts) -> dict[str, Any]:
    """Details: the newest set whose three parts exist. torchaudio's releases follow torch's minor; it is the youngest
    that bounds the set, and torchvision's minor is torch's plus 15 (README of torchvision, table of versions)."""
    audio, torch = version_of(facts, "torchaudio"), version_of(facts, "torch")
    if not torch or torch.major != 2:
        return {}
    minor = min(audio.minor, torch.minor) if audio and audio.major == 2 else torch.minor
    return {
        "torch_version": f"2.{minor}.0",
        "torchvision_version": f"0.{minor + 15}.0",
        "torchaudio_version": f"2.{minor}.0",
    }


def out_of_range(facts: Facts) -> Iterator[Finding]:
    """What LLaMA-Factory's own check at start refuses. DISABLE_VERSION_CHECK silences it: then it is a warning."""
    disabled = facts.get("launch.environ", {}).get("DISABLE_VERSION_CHECK", "0").lower() in ("1", "true")
    for name, version, specifier in outside(facts):
        what = f"{name} {version} is installed, LLaMA-Factory {facts['llamafactory.version']} accepts {specifier}"
        yield _found(
            "pkg-version-out-of-range",
            what,
            name,
            severity=Severity.WARNING if disabled else None,
            package=name,
            found=str(version),
            requirement=f"{name}{specifier}",
        )


def outside(facts: Facts) -> Iterator[tuple[str, Version, str]]:
    """Name, version and range of what is installed and not in the range that this LLaMA-Factory checks."""
    for name, specifier in facts["llamafactory.required"].items():
        version = version_of(facts, canonicalize_name(name))
        if version and not SpecifierSet(specifier).contains(version, prereleases=True):
            yield name, version, specifier


def missing(facts: Facts) -> Iterator[Finding]:
    """Packages that the training needs and that are not there, the declared ones first; a warning for those that this
    run does not import."""
    for name, needed, requirement, demanded, when in _asked(facts):
        if needed in facts["packages.versions"]:
            continue
        what = f"{needed} is required by {name} and not installed"
        what += f"; {name if demanded else 'it'} is imported {when}" if when else ""
        severity = Severity.WARNING if when else None
        yield _found("pkg-missing", what, name, severity=severity, module=needed, distribution=_plain(requirement))


def reached(facts: Facts) -> dict[str, str | None]:
    """What the training needs and has -> when it is imported, None where this run imports it."""
    installed = facts["packages.versions"]
    found: dict[str, str | None] = {name: None for name in _IMPORTED if name in installed}
    for _, needed, _, _, when in _asked(facts):
        if needed in installed and found.get(needed, "not seen yet") is not None:
            found[needed] = when
    return found


# Beside what is declared: trl and peft import deepspeed wherever it is, and a vision tower's code asks for pillow.
_IMPORTED = ("llamafactory", "deepspeed", "pillow")


def _asked(facts: Facts) -> Iterator[tuple[str, str, Requirement, str | None, str | None]]:
    """Who needs what by which requirement, when the asker is imported and when the package; None where it is by this run."""
    installed = facts["packages.versions"]
    python = facts["python.version"]
    known: set[str] = set()
    # What only a package on demand needs comes last, and is on demand as that one is.
    pending: list[tuple[str, str | None]] = [(n, None) for n in ("llamafactory", "deepspeed") if n in installed]
    while pending:
        name, demanded = pending.pop(0)
        for needed, requirement in _needs(tuple(facts["packages.requires"].get(name, ())), python):
            when = demanded or on_demand.of(name, needed, facts)
            yield name, needed, requirement, demanded, when
            if needed in installed and needed not in known:
                known.add(needed)
                pending.insert(len(pending) if when else 0, (needed, when))


def setuptools_missing(facts: Facts) -> Iterator[Finding]:
    """torch.utils.cpp_extension imports setuptools, which nothing declares on Python < 3.12 and uv venvs lack."""
    installed = facts["packages.versions"]
    if "setuptools" in installed or "torch" not in installed or "deepspeed" not in installed:
        return
    if facts["deepspeed.config_path"] is not None:
        what = "setuptools is not installed; DeepSpeed builds its ops with torch.utils.cpp_extension, which imports it"
        yield _found("pkg-missing", what, "setuptools", module="setuptools", distribution="setuptools<81")


# What transformers compares with its own table when it is imported (transformers/dependency_versions_check.py).
CHECKED_AT_IMPORT = ("tqdm", "regex", "requests", "packaging", "filelock", "numpy", "tokenizers", "huggingface-hub",
                     "safetensors", "accelerate", "pyyaml")  # fmt: skip


def too_old_or_new(facts: Facts) -> Iterator[Finding]:
    """Declared requirements that the installed versions do not meet (what `pip check` says), as information."""
    installed, python = facts["packages.versions"], facts["python.version"]
    enforced = {canonicalize_name(name) for name in facts.get("llamafactory.required", {})}
    for name, needs in facts["packages.requires"].items():
        for needed, requirement in _needs(tuple(needs), python):
            version = version_of(facts, needed)
            if not version or requirement.specifier.contains(version, prereleases=True):
                continue
            if name == "llamafactory" and needed in enforced:
                continue  # LLaMA-Factory's own check speaks with more weight
            what = f"{name} {installed[name]} wants {_plain(requirement)}, installed is {version}"
            if name == "transformers" and needed in CHECKED_AT_IMPORT:
                cause = "hub-version-mismatch" if needed == "huggingface-hub" else "pkg-version-out-of-range"
                details: dict[str, Any] = {"package": needed, "found": str(version), "requirement": _plain(requirement)}
                yield _found(cause, f"{what}; transformers refuses to be imported", needed, **details)
                continue
            if needed == "torch" and name in ("torchvision", "torchaudio"):  # compiled for that very release
                details = {**_matching_torch(facts), **_required_by(facts, name)}
                yield _found("pkg-torch-torchvision-mismatch", what, name, **details)
                continue
            # Generated code asks its runtime for the version that it was made for; only what imports it then stops.
            cause, severity = (
                ("pkg-protobuf-version", Severity.WARNING) if needed == "protobuf" else ("pkg-conflict", None)
            )
            yield _found(cause, what, needed, severity, package=needed, requirement=_plain(requirement))


def duplicates(facts: Facts) -> Iterator[Finding]:
    """Two records of one name in one folder: which of them is found is chance. A warning, because the files may be whole."""
    for name, versions in facts["packages.duplicates"].items():
        what = f"{name} is recorded in the versions {', '.join(versions)} at once"
        yield _found("pkg-broken-install", what, name, Severity.WARNING, package=name, version=versions[-1])


# Of which another package takes the version apart when it is imported.
_COMPARED = ("transformers", "accelerate", "peft", "trl", "datasets", "torch", "tokenizers", "huggingface-hub", "numpy",
             "safetensors", "deepspeed")  # fmt: skip


def version_readable(facts: Facts) -> Iterator[Finding]:
    """A record whose version is none, as an interrupted or a hand-made one leaves it."""
    for name in _COMPARED:
        given = facts["packages.versions"].get(name)
        if given is not None and _version(given) is None:
            what = f"{name} is recorded in the version {given!r}, which is none: whoever compares it ends"
            yield _found("pkg-broken-install", what, name, package=name)


def leftovers(facts: Facts) -> Iterator[Finding]:
    """Folders that an interrupted pip renamed; a warning, because what is installed may be whole all the same."""
    for path in facts["packages.remains"]:
        tail = canonicalize_name(Path(path).name.removesuffix(".dist-info")[1:].split("-")[0])
        package = next((name for name in facts["packages.versions"] if name[1:] == tail), None)
        details: dict[str, Any] = {"leftover": Path(path).name, "leftover_path": path}
        if package:
            details |= {"package": package, "installed_version": facts["packages.versions"][package]}
        what = f"{Path(path).name} is left of an installation that was interrupted"
        yield _found("pkg-broken-install", what, path, Severity.WARNING, **details)


@lru_cache(maxsize=4096)
def _needs(declared: tuple[str, ...], python: str) -> tuple[tuple[str, Requirement], ...]:
    """Name and requirement of what applies under this Python and is of no extra, of the Requires-Dist of one package.

    Read once: many nodes are judged after each other, and what their packages need is the same.
    """
    described = {key: str(value) for key, value in default_environment().items()}
    described |= {"python_version": ".".join(python.split(".")[:2]), "python_full_version": python, "extra": ""}
    found = []
    for need in declared:
        if "extra ==" in need or "extra==" in need:
            continue
        try:
            requirement = Requirement(need)
            if requirement.marker is None or requirement.marker.evaluate(described):
                found.append((canonicalize_name(requirement.name), requirement))
        except (InvalidRequirement, InvalidMarker, UndefinedEnvironmentName):
            continue
    return tuple(found)


def _plain(requirement: Requirement) -> str:
    return f"{requirement.name}{requirement.specifier}"


JUDGEMENTS = (
    numpy_abi, cuda_pairs, out_of_range, missing, setuptools_missing, too_old_or_new, duplicates, leftovers,
    version_readable,
)  # fmt: skip
