"""`skyt1-doctor rehearse` as a user types it, on real packages: a healthy recipe, one with a fault, and the kept one."""

import os
from pathlib import Path

import pytest

from tests.stack.environments import Environment
from tests.stack.rehearse.fault import prepare, zero
from tests.stack.rehearse.faults import ZERO3_OFFLOAD
from tests.stack.reproductions.place import Place
from tests.stack.reproductions.run import last_document
from tests.stack.reproductions.stacks import Stacks

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Environment:
    """The stack of the published recipe; SKYT1_DOCTOR_STACK names one that is there already."""
    given = os.environ.get("SKYT1_DOCTOR_STACK")
    return Stacks(tmp_path_factory.mktemp("stacks"), {"sky-t1": Path(given)} if given else None).of("sky-t1")


def rehearsed(place):
    done = place.environment.doctor("rehearse", "--format", "json", cwd=place.root, **place.environ)
    return done.returncode, last_document(done.stdout)


def test_the_published_recipe_passes_and_is_not_repeated(tmp_path, environment):
    place = Place(tmp_path, environment)
    prepare(place, 2, {"FORCE_TORCHRUN": "1"})
    zero(zero_optimization=ZERO3_OFFLOAD)(place)
    code, document = rehearsed(place)
    told = document["rehearsal"]
    assert code == 0, document
    assert told["passed"] is True
    passed = [stage["id"] for stage in told["stages"] if stage["passed"]]
    assert passed == ["check", "model", "train", "save", "resume", "load"], told["stages"]
    code, document = rehearsed(place)
    assert code == 0
    assert document["rehearsal"]["cached"] is True


def test_a_fault_is_named_with_its_stage(tmp_path, environment):
    place = Place(tmp_path, environment)
    prepare(place, 1, {})
    place.set_recipe(finetuning_type="lora", lora_target="query_key_value")
    code, document = rehearsed(place)
    assert code == 1
    assert document["findings"][0]["cause"] == "peft-target-modules-missing"
    failed = [s["id"] for s in document["rehearsal"]["stages"] if not s["passed"] and "skipped" not in s]
    assert failed == ["check", "train"]
