"""Every reproduction: the cause shows, the doctor names it, its fix is applied, the run trains. `make reproduce`."""

import pytest

from tests.stack.reproductions import record
from tests.stack.reproductions.catalogue import CASES
from tests.stack.reproductions.run import faults, reproduce
from tests.stack.reproductions.stacks import Stacks

SAMPLE = "tmpl-unknown"  # what `make test` runs beside the story


@pytest.fixture(scope="session")
def stacks(tmp_path_factory):
    return Stacks(tmp_path_factory.mktemp("environments"))


@pytest.mark.stack
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "case", [pytest.param(c, id=c.id, marks=[pytest.mark.story] * (c.id == SAMPLE)) for c in CASES]
)
def test_the_fault_shows_is_named_and_healed(case, stacks, tmp_path):
    with stacks.lent(case) as environment:
        seen = reproduce(case, environment, tmp_path)
    said = faults(case, seen)
    record.result(case, seen, said)
    assert not said, f"{said}\n{seen.notes}\n{seen.log[-3000:]}"
