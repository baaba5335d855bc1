"""The recipe file: its keys, values and lines. What each key means is judged by the probes of its subject."""

from __future__ import annotations

from typing import Any

from doctor.facts import Facts
from doctor.probes import Judgement
from doctor.recipe import yaml_recipe
from doctor.target import Target

ID = "recipe"
AFTER: tuple[str, ...] = ()


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
        "recipe.overrides": dict(target.overrides),
        "recipe.launches": target.launches,
    }


JUDGEMENTS: tuple[Judgement, ...] = ()
