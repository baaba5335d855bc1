"""Every fault of the campaign, in the order of the table."""

from __future__ import annotations

from tests.faults.catalogue import data, dataset_info, deepspeed, launch, model, packages, recipe
from tests.faults.fault import Fault

FAULTS: list[Fault] = [
    *recipe.FAULTS, *dataset_info.FAULTS, *data.FAULTS, *model.FAULTS, *deepspeed.FAULTS, *launch.FAULTS,
    *packages.FAULTS,
]  # fmt: skip
