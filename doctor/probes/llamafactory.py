"""The LLaMA-Factory that will run: where it is, its version, templates and required versions, from its source."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from doctor.facts import Facts, Unknown
from doctor.probes import Judgement
from doctor.recipe import source_tree, templates
from doctor.target import Target

ID = "llamafactory"
AFTER: tuple[str, ...] = ()

_NOT_INSTALLED = "LLaMA-Factory is not installed in the target"


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    search = [Path(p) for p in target.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    root = source_tree.package_root("llamafactory", target.site, search)
    if root is None:
        lacking = Unknown(_NOT_INSTALLED)
        return {
            "llamafactory.root": None,
            **{f"llamafactory.{name}": lacking for name in ("version", "templates", "required")},
        }
    known: Any
    try:
        known = list(templates.cached(root).templates)
    except (OSError, SyntaxError) as error:
        known = Unknown(f"the templates of LLaMA-Factory cannot be read ({error})")
    required: Any
    try:
        required = source_tree.required_versions(root)
    except (OSError, SyntaxError) as error:
        required = Unknown(f"extras/misc.py of LLaMA-Factory cannot be read ({error})")
    return {
        "llamafactory.root": str(root),
        "llamafactory.version": source_tree.own_version(root) or _recorded_version(target) or Unknown("it names none"),
        "llamafactory.templates": known,
        "llamafactory.required": required,
    }


def _recorded_version(target: Target) -> str | None:
    for site in target.site:
        for entry in site.glob("*.dist-info"):
            name, _, version = entry.stem.rpartition("-")
            if canonicalize_name(name) == "llamafactory":
                return version
    return None


JUDGEMENTS: tuple[Judgement, ...] = ()
