"""Names that packages want of each other and that are not there, where a version lies outside the range of LLaMA-Factory.

Inside a range with two ends releases were tried with each other, but for one pair; outside, LLaMA-Factory's check speaks
of the version, if it is not switched off, and comes after the imports that fail.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from packaging.utils import canonicalize_name
from packaging.version import Version

from doctor.facts import Facts
from doctor.findings import Finding, found
from doctor.probes import Judgement
from doctor.probes.packages import outside, version_of
from doctor.recipe import import_graph, source_tree
from doctor.target import Target

ID = "imports"
AFTER: tuple[str, ...] = ("packages", "llamafactory")

_found = partial(found, ID)

_PACKAGES = ("transformers", "peft", "trl", "accelerate", "datasets", "huggingface_hub")
# Package -> the file from which a training run imports it.
_STARTS = {"llamafactory": "train/tuner.py", "peft": "__init__.py"}
_LEAST = re.compile(r"^ACCELERATE_MIN_VERSION\s*=\s*[\"']([\d.]+)[\"']", re.M)


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    """`imports.lacking`: [{module, name, file, line}]; `imports.accelerate_least`: what transformers' Trainer takes."""
    told: dict[str, Any] = {"imports.lacking": [], "imports.accelerate_least": None}
    if not facts.known("llamafactory.required") or not (any(outside(facts)) or _without_newest(facts)):
        return told
    transformers = source_tree.package_root("transformers", target.site)
    if transformers:
        least = _LEAST.search(source_tree.text(transformers / "utils" / "import_utils.py"))
        told["imports.accelerate_least"] = least[1] if least else None
    roots = {
        "llamafactory": Path(str(facts["llamafactory.root"])),
        "peft": source_tree.package_root("peft", target.site),
    }
    for name, start in _STARTS.items():
        root = roots[name]
        if root:
            needs = import_graph.asked(root, start, _PACKAGES)
            told["imports.lacking"] += msgspec.to_builtins(list(import_graph.lacking(needs, target.site)))
    return told


def _without_newest(facts: Facts) -> bool:
    """Whether this LLaMA-Factory takes any newer release of a package (0.8.3 and older do): what came later it never met."""
    asked = {name: specifier for name, specifier in facts["llamafactory.required"].items() if name in _PACKAGES}
    return any("<" not in specifier and "==" not in specifier for specifier in asked.values())


def _cause(importer: str, imported: str) -> str:
    if (importer, imported) == ("peft", "transformers"):
        return "pkg-peft-transformers-mismatch"
    by_package = {"trl": "pkg-trl-mismatch", "accelerate": "pkg-accelerate-mismatch", "datasets": "pkg-datasets-mismatch",
                  "huggingface_hub": "hub-version-mismatch"}  # fmt: skip
    return by_package.get(imported, "pkg-import-cannot-name")


def names_are_there(facts: Facts) -> Iterator[Finding]:
    """One finding for each pair of packages."""
    pairs: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for lacking in facts["imports.lacking"]:
        pair = (Path(lacking["file"]).parts[0], lacking["module"].partition(".")[0])
        pairs.setdefault(pair, []).append(lacking)
    for (importer, imported), all_lacking in pairs.items():
        first = all_lacking[0]
        names = ", ".join(dict.fromkeys(lacking["name"] for lacking in all_lacking))
        installed = facts["packages.versions"].get(canonicalize_name(imported), "?")
        what = f"{first['module']} of {imported} {installed} has no {names}, which {importer} imports"
        details = {"package": canonicalize_name(imported), "module": first["module"], "name": first["name"]}
        where = f"{first['file']}:{first['line']}"
        yield _found(_cause(importer, imported), what, where, **details)


def accelerate_suffices(facts: Facts) -> Iterator[Finding]:
    least, have = facts["imports.accelerate_least"], version_of(facts, "accelerate")
    if least and have and have < Version(least):
        what = f"accelerate {have} is installed, the Trainer of transformers takes {least} and newer"
        yield _found("pkg-accelerate-mismatch", what, "accelerate", package="accelerate")


def optimizer_has_modes(facts: Facts) -> Iterator[Finding]:
    """transformers 4.45 tells the optimizer that it trains where it has `train`; accelerate 0.30 to 0.33 gave every
    optimizer one that asks the wrapped one without looking (trainer.py and optimizer.py of these releases). The range of
    LLaMA-Factory 0.9.0 holds both."""
    transformers, accelerate = version_of(facts, "transformers"), version_of(facts, "accelerate")
    optim = facts.get("recipe.values", {}).get("optim")
    if not (transformers and accelerate and transformers >= Version("4.45")):
        return
    if not Version("0.30") <= accelerate < Version("0.34") or "schedule_free" in str(optim):
        return
    what = f"accelerate {accelerate} asks every optimizer for the train() that transformers {transformers} calls"
    yield _found("pkg-accelerate-mismatch", what, "accelerate", package="accelerate", name="train")


JUDGEMENTS: tuple[Judgement, ...] = (names_are_there, accelerate_suffices, optimizer_has_modes)
