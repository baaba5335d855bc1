"""Every fault of the campaign, in the order of the table."""

from __future__ import annotations

from tests.faults.catalogue import (
    adapters,
    checkpoints,
    combinations,
    data,
    dataset_info,
    deepspeed,
    deepspeed_auto,
    deepspeed_sections,
    deepspeed_values,
    demands,
    launch,
    media,
    model,
    model_values,
    packages,
    rare,
    recipe,
    recipe_conflicts,
    recipe_values,
    source_conditions,
    tokenised,
    unseen,
    variables,
    weights,
)
from tests.faults.fault import Fault

FAULTS: list[Fault] = [
    *recipe.FAULTS, *recipe_conflicts.FAULTS, *recipe_values.FAULTS, *dataset_info.FAULTS, *data.FAULTS, *model.FAULTS,
    *weights.FAULTS, *adapters.FAULTS, *model_values.FAULTS,
    *deepspeed.FAULTS, *deepspeed_values.FAULTS, *launch.FAULTS, *variables.FAULTS, *packages.FAULTS,
    *checkpoints.FAULTS, *combinations.FAULTS, *deepspeed_sections.FAULTS,
    *deepspeed_auto.FAULTS, *tokenised.FAULTS, *source_conditions.FAULTS, *demands.FAULTS, *rare.FAULTS, *media.FAULTS,
    *unseen.FAULTS,
]  # fmt: skip
