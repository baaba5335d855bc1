"""Details of LD_LIBRARY_PATH: folders in it whose libraries stand before those that torch brings."""

from __future__ import annotations

from typing import Any

from doctor.facts import Facts
from doctor.findings import Finding

# What a cause is about, as the probe names what a folder holds.
_IN_THE_WAY = {
    "cuda-compat-lib-consumer-gpu": ("compat",),
    "cuda-cublas-failed": ("cuda",),
    "cuda-cudnn-mismatch": ("cudnn", "cuda"),
    "cuda-lib-missing": ("cuda", "cudnn"),
    "nccl-version": ("nccl",),
}


def _folders(facts: Facts) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = facts["surroundings.library_path"]
    return found


def _in_the_way(facts: Facts, finding: Finding) -> list[str]:
    kinds = set(_IN_THE_WAY.get(finding.cause, ()))
    return [folder["path"] for folder in _folders(facts) if kinds & set(folder["has"])]


def library_path_shadows(facts: Facts, finding: Finding) -> bool:
    return bool(_in_the_way(facts, finding))


def library_path_has_nccl(facts: Facts, finding: Finding) -> bool:
    return any("nccl" in folder["has"] for folder in _folders(facts))


def compat_directory(facts: Facts, finding: Finding) -> str | None:
    return next(iter(_in_the_way(facts, finding)), None)


def library_dir(facts: Facts, finding: Finding) -> str | None:
    """The environment's own lib, where it has a libstdc++ (conda environments do)."""
    found = facts["surroundings.environment_libstdcxx"]
    return str(found) if found else None


def library_path(facts: Facts, finding: Finding) -> str | None:
    """LD_LIBRARY_PATH as it should be: without what is in the way, or with the environment's libstdc++ in front."""
    entries = [folder["path"] for folder in _folders(facts)]
    if finding.cause == "env-libstdcxx-too-old":
        first = library_dir(facts, finding)
        if not first or entries[:1] == [first]:
            return None
        return ":".join([first, *(entry for entry in entries if entry != first)])
    wrong = _in_the_way(facts, finding)
    return ":".join(entry for entry in entries if entry not in wrong) if wrong else None


def opencv_library(facts: Facts, finding: Finding) -> bool:
    """libGL and its kin are asked for by opencv-python only."""
    name = str(finding.details.get("library") or "")
    graphics = ("libGL", "libgthread", "libglib", "libSM", "libXext", "libXrender")
    return "opencv-python" in facts["packages.versions"] and name.startswith(graphics)


def flash_attn_library(facts: Facts, finding: Finding) -> bool:
    return "flash_attn" in str(finding.details.get("library") or "")
