"""Compiled packages whose import would die at the linker: names that this torch does not have, a libc that is older.

transformers imports flash-attn wherever it is installed, whether the recipe asks for it or not.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from packaging.version import Version

from doctor.facts import Facts
from doctor.findings import Finding, found
from doctor.machine import elf
from doctor.probes import Judgement
from doctor.target import Target

ID = "extensions"
AFTER: tuple[str, ...] = ("packages",)

_found = partial(found, ID)

_MODULES = {"flash-attn": "flash_attn_2_cuda*.so"}
_TORCH = ("libc10.so", "libc10_cuda.so", "libtorch.so", "libtorch_cpu.so", "libtorch_cuda.so", "libtorch_python.so")
_OF_TORCH = re.compile(rb"^_Z\w*(?:3c10|2at|5torch)")
_VERSION = re.compile(r"^(GLIBC|GLIBCXX)_(\d+(?:\.\d+)+)$")
_PROVIDED = re.compile(rb"GLIBCXX_(\d+(?:\.\d+)+)\x00")
_SYSTEM = ("/usr/lib", "/usr/lib64", "/lib", "/lib64")


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    """`extensions.found`: [{package, file, undefined: names that no library of torch has, glibc, glibcxx: the newest
    versions it needs}]; `extensions.glibc`, `extensions.libstdcxx`: what is here, None where that is not known."""
    listed = []
    for package, pattern in _MODULES.items():
        if package in facts["packages.versions"]:
            paths = (path for site in target.site for path in sorted(site.glob(pattern)))
            listed += [told for path in paths if (told := _module(package, path, target))]
    return {
        "extensions.found": listed,
        "extensions.glibc": _glibc() if listed else None,
        "extensions.libstdcxx": _libstdcxx(target) if listed else None,
    }


def _module(package: str, path: Path, target: Target) -> dict[str, Any] | None:
    try:
        _, undefined = elf.symbols(path)
        versions = elf.wanted_versions(path)
        wanted = {name for name in undefined if _OF_TORCH.search(name)}
        for library in _torch(target):
            if wanted:
                wanted -= elf.symbols(library)[0]
    except (elf.NotElf, OSError):
        return None
    newest = {"GLIBC": Version("0"), "GLIBCXX": Version("0")}
    for name in versions:
        if said := _VERSION.match(name):
            newest[said[1]] = max(newest[said[1]], Version(said[2]))
    return {
        "package": package,
        "file": path.name,
        "undefined": sorted(name.decode("ascii", "replace") for name in wanted)[:5],
        "glibc": str(newest["GLIBC"]),
        "glibcxx": str(newest["GLIBCXX"]),
    }


def _torch(target: Target) -> list[Path]:
    """The libraries of torch; raises OSError where there are none, for then nothing can be said."""
    for site in target.site:
        there = [path for name in _TORCH if (path := site / "torch" / "lib" / name).is_file()]
        if there:
            return there
    raise FileNotFoundError("no library of torch")


def _glibc() -> str | None:
    try:
        said = os.confstr("CS_GNU_LIBC_VERSION")  # "glibc 2.31"; a libc of another kind has no such name
    except (AttributeError, ValueError, OSError):
        return None
    return said.split()[-1] if said else None


def _libstdcxx(target: Target) -> str | None:
    """The newest GLIBCXX of the libstdc++ that the loader finds first."""
    given = [folder for folder in target.environ.get("LD_LIBRARY_PATH", "").split(":") if folder]
    own = [str(target.prefix / "lib")] if (target.prefix / "conda-meta").is_dir() else []
    for folder in (*given, *own, *_SYSTEM):
        for path in (Path(folder) / "libstdc++.so.6", *Path(folder).glob("*-linux-gnu/libstdc++.so.6")):
            try:
                provided = _PROVIDED.findall(path.read_bytes())
            except OSError:
                continue
            if provided:
                return max((version.decode() for version in provided), key=Version)
    return None


def symbols_there(facts: Facts) -> Iterator[Finding]:
    torch = facts["packages.versions"].get("torch", "?")
    for module in facts["extensions.found"]:
        if module["undefined"]:
            first = module["undefined"][0]
            what = (
                f"{module['file']} asks for {first[:90]}, which torch {torch} does not have; it was built for another"
            )
            yield _found("pkg-flash-attn-abi", what, module["package"], package=module["package"], symbol=first)


def libraries_new_enough(facts: Facts) -> Iterator[Finding]:
    for module in facts["extensions.found"]:
        for key, here, cause in (
            ("glibc", facts["extensions.glibc"], "env-glibc-too-old"),
            ("glibcxx", facts["extensions.libstdcxx"], "env-libstdcxx-too-old"),
        ):
            if here and Version(module[key]) > Version(here):
                name = f"{key.upper()}_{module[key]}"
                what = f"{module['file']} asks for {name}, the newest here is {here}"
                details: dict[str, Any] = {"package": module["package"], "library": module["file"], "needed": name}
                yield _found(cause, what, module["package"], **details)


JUDGEMENTS: tuple[Judgement, ...] = (symbols_there, libraries_new_enough)
