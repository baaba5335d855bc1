"""What is installed in the target, read from its dist-info: version, source, installer, files. Nothing is imported."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from doctor import redact
from doctor.target import Target
from fixes.errors import Refused

# What a change of which decides whether the GPU works; never changed without its own consent.
TORCH_FAMILY = re.compile(r"torch|torchvision|torchaudio|triton|pytorch-triton|nvidia-.*|cuda-.*")


def is_torch(name: str) -> bool:
    return bool(TORCH_FAMILY.fullmatch(canonicalize_name(name)))


@dataclass(frozen=True)
class Dist:
    """One installed distribution."""

    name: str
    version: str
    info: Path  # its *.dist-info directory

    @property
    def site(self) -> Path:
        return self.info.parent

    @cached_property
    def metadata(self) -> str:
        try:
            return (self.info / "METADATA").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    @cached_property
    def origin(self) -> dict[str, Any]:
        """direct_url.json: present for what came from a URL, a local path or version control; else empty."""
        try:
            found = json.loads((self.info / "direct_url.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def installer(self) -> str:
        try:
            return (self.info / "INSTALLER").read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return ""

    @property
    def requested(self) -> bool:
        """Whether somebody asked pip for it by name (PEP 376's REQUESTED); uv marks everything so."""
        return self.installer != "uv" and (self.info / "REQUESTED").exists()

    @property
    def source(self) -> str:
        """Where it came from, as the journal records it: index, editable PATH, URL, conda."""
        if self.installer == "conda":
            return "conda"
        if not self.origin:
            return "index"
        editable = self.origin.get("dir_info", {}).get("editable", False)
        return ("editable " if editable else "") + redact.text(str(self.origin.get("url", "")))

    @property
    def requires(self) -> list[Requirement]:
        found = []
        for line in self.metadata.split("\n\n", 1)[0].splitlines():
            if line.startswith("Requires-Dist:"):
                try:
                    found.append(Requirement(line.split(":", 1)[1].strip()))
                except InvalidRequirement:  # old metadata; pip ignores such lines too
                    continue
        return found

    def listed(self) -> Iterator[str]:
        """The paths of RECORD as it has them, whether they exist or not; nothing without a RECORD."""
        try:
            rows = csv.reader((self.info / "RECORD").read_text(encoding="utf-8").splitlines())
        except OSError:
            return
        site = str(self.site)
        yield from (os.path.normpath(f"{site}/{row[0]}") for row in rows if row and row[0])

    def files(self) -> list[Path]:
        """Every file of it that exists, from RECORD, with the bytecode beside. Raises Refused without a RECORD."""
        record = self.info / "RECORD"
        try:
            rows = list(csv.reader(record.read_text(encoding="utf-8").splitlines()))
        except OSError:
            raise Refused(
                f"{self.name} {self.version} has no RECORD of its files (installed by {self.installer or 'an old tool'}); "
                "it cannot be changed in a way that could be taken back."
            ) from None
        found = {_normal(self.site / row[0]) for row in rows if row and row[0]}
        found.update(path for path in self.info.rglob("*") if path.is_file())
        for path in list(found):
            if path.suffix == ".py":
                found.update((path.parent / "__pycache__").glob(f"{_glob(path.stem)}.*.pyc"))
        return sorted(path for path in found if path.is_file() or path.is_symlink())


def _normal(path: Path) -> Path:
    """Without `..`, links kept as they are."""
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return Path(*parts)


def _glob(stem: str) -> str:
    return re.sub(r"([\[\]*?])", r"[\1]", stem)


def site_of(target: Target) -> list[Path]:
    """The site-packages directories that belong to the environment itself, links resolved, without repeats."""
    prefix = target.prefix.resolve()
    found: dict[Path, None] = {}
    for site in target.site:
        real = site.resolve()
        if prefix in real.parents and real.is_dir():
            found[real] = None
    return list(found)


def installed(target: Target) -> dict[str, list[Dist]]:
    """Normalised name → its distributions in the environment (two of one name: a damaged environment)."""
    found: dict[str, list[Dist]] = {}
    for site in site_of(target):
        for dist in read_site(site):
            found.setdefault(dist.name, []).append(dist)
    return found


def read_site(site: Path) -> Iterator[Dist]:
    for info in sorted(site.glob("*.dist-info")):
        name, _, version = info.name.removesuffix(".dist-info").rpartition("-")
        if name and info.is_dir():
            yield Dist(canonicalize_name(name), version, info)


def listing(dists: dict[str, list[Dist]]) -> dict[str, str]:
    """Name → "version source" of the whole set, as recorded in a journal and compared when a plan is applied."""
    return {name: ", ".join(f"{d.version} {d.source}" for d in found) for name, found in sorted(dists.items())}


def fingerprint(dists: dict[str, list[Dist]]) -> str:
    return hashlib.sha256(json.dumps(listing(dists)).encode()).hexdigest()


def conda_owned(dist: Dist, prefix: Path) -> bool:
    """Installed by conda: its files must not be replaced behind conda's back."""
    if dist.installer == "conda":
        return True
    return any((prefix / "conda-meta").glob(f"{dist.name}-{dist.version}-*.json"))
