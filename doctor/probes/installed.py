"""Whether the files of the packages that a training run imports are those that were installed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from packaging.utils import canonicalize_name

from doctor.facts import Facts
from doctor.findings import Finding, found
from doctor.machine import recorded_files
from doctor.probes import Judgement
from doctor.probes.packages import reached
from doctor.target import Target

ID = "installed"
AFTER: tuple[str, ...] = ("packages", "recipe", "launch", "model")

_found = partial(found, ID)

# Of which every module may be imported; of the others the modules at the top are.
_DEEP = ("llamafactory", "transformers", "accelerate", "peft", "trl", "datasets", "tokenizers", "safetensors",
         "huggingface-hub", "deepspeed", "numpy")  # fmt: skip
_ALWAYS = ("auto",)  # of transformers/models


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    """`installed.faults`: {distribution: recorded_files.Faults}, of those that have any and that this run imports."""
    wanted = {name for name, when in reached(facts).items() if when is None}
    kind = (facts.get("model.config") or {}).get("model_type")
    kinds = frozenset({*_ALWAYS, kind.replace("-", "_")}) if isinstance(kind, str) else frozenset(_ALWAYS)
    told: dict[str, Any] = {}
    for dist_info in _dist_infos(target.site):
        name = canonicalize_name(dist_info.stem.rpartition("-")[0])
        if name not in wanted or name in told or name in facts["packages.sources"]:
            continue
        faults = recorded_files.look(dist_info, name in _DEEP, kinds if name == "transformers" else None)
        told[name] = msgspec.to_builtins(faults)
    return {
        "installed.faults": {name: faults for name, faults in told.items() if faults["lacking"] or faults["broken"]}
    }


def _dist_infos(site: tuple[Path, ...]) -> Iterator[Path]:
    for folder in site:
        try:
            yield from sorted(path for path in folder.glob("*.dist-info") if "-" in path.stem)
        except OSError:
            continue


def files_there(facts: Facts) -> Iterator[Finding]:
    """An installation that was interrupted, a disk that was full, a folder that was deleted by hand."""
    for name, faults in facts["installed.faults"].items():
        files = [*faults["broken"], *faults["lacking"]]
        if not faults["whole"]:
            what = f"{name} is recorded, and none of its files is there"
        elif faults["broken"]:
            what = f"{name}: {_named(faults['broken'])} is cut off or cannot be read as what it is"
        else:
            what = f"{name}: {_named(faults['lacking'])} is recorded and not there"
        details: dict[str, Any] = {"package": name, "mixed_files": True}
        details["installed_version"] = facts["packages.versions"].get(name)
        yield _found("pkg-broken-install", what, files[0], **details)


def _named(files: list[str]) -> str:
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return files[0] + more


JUDGEMENTS: tuple[Judgement, ...] = (files_there,)
