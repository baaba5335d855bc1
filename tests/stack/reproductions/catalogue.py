"""Every reproduction, in the order in which they run."""

from tests.stack.reproductions import data, launch, model, packages, recipe
from tests.stack.reproductions.run import Reproduction

CASES: list[Reproduction] = [*data.CASES, *recipe.CASES, *model.CASES, *launch.CASES, *packages.CASES]
