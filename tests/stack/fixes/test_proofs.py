"""The record of proofs: every run in it trained, and is of a stack as it stands."""

from __future__ import annotations

import math

import pytest

from knowledge_base import package_sets
from tests.stack.fixes.proof import RUN, record

pytestmark = pytest.mark.stack


@pytest.mark.parametrize("name", package_sets.names())
def test_a_stack_is_proven_as_it_stands(name: str) -> None:
    """Packages that were changed since want a new proof: python -m tests.stack.fixes.proof NAME."""
    seen = record().get(name)
    assert seen, f"{name} has no proof on record"
    assert seen["packages"] == package_sets.digest(package_sets.stack(name))
    assert (seen["exit_code"], seen["steps"]) == (0, int(RUN["max_steps"]))
    assert all(math.isfinite(loss) and loss > 0 for loss in seen["losses"])
