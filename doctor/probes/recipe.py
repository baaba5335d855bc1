"""The recipe file: its keys, values and lines. What each key means is judged by the probes of its subject."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from doctor.facts import Facts
from doctor.findings import Evidence, Finding
from doctor.probes import Judgement
from doctor.recipe import yaml_recipe
from doctor.recipe.model_values import at_least
from doctor.target import Target

ID = "recipe"
AFTER: tuple[str, ...] = ()
SOURCE = f"probe:{ID}"


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    """Raises BadInput when the recipe cannot be read; `check` has read it before and ended with exit code 2."""
    shown = target.shown(target.recipe)
    recipe = yaml_recipe.read(target.recipe, shown)
    return {
        "recipe.path": shown,
        "recipe.workdir": str(target.workdir),
        "recipe.values": {**recipe.values, **yaml_recipe.parse_overrides(target.overrides)},
        "recipe.lines": recipe.lines,
        "recipe.repeated": recipe.repeated,
        "recipe.tab": recipe.tab,
        "recipe.overrides": dict(target.overrides),
        "recipe.launches": target.launches,
    }


# The first OmegaConf that reads by libyaml.
_TAKES_TABS = "2.4"


def tab_is_taken(facts: Facts) -> Iterator[Finding]:
    """A tab between a key and its value, which only releases that load recipes by such an OmegaConf read."""
    line = facts.get("recipe.tab")
    release = str((facts.get("packages.versions") or {}).get("omegaconf"))
    if line and not (facts.get("arguments.loader") == "OmegaConf" and at_least(release, _TAKES_TABS)):
        problem = "found character '\\t' that cannot start any token; a tab stands there"
        details: dict[str, Any] = {"recipe": facts["recipe.path"], "line": line, "problem": problem}
        what = f"{facts['recipe.path']}:{line} is not valid YAML ({problem}); correct that line."
        yield Finding(
            "cfg-yaml-syntax", (Evidence(what, f"{facts['recipe.path']}:{line}"),), source=SOURCE, details=details
        )


JUDGEMENTS: tuple[Judgement, ...] = (tab_is_taken,)
