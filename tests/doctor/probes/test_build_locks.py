import os
import time

import pytest

from doctor.facts import Facts
from doctor.probes import build_locks, surroundings
from tests.support.worlds import world

OFFLOAD = {"zero_optimization": {"stage": 3, "offload_optimizer": {"device": "cpu"}}}


def found(tmp_path, config, locks, age=7200.0, gpus=8, **environ):
    (tmp_path / "home").mkdir(exist_ok=True)
    for lock in locks:
        path = tmp_path / lock
        path.parent.mkdir(parents=True)
        path.write_bytes(b"")
        os.utime(path, (time.time() - age, time.time() - age))
    target = world(tmp_path, environ=environ)
    known = Facts({"deepspeed.config": config, "gpu.count": gpus, "recipe.values": {}})
    known = known.merged(surroundings.collect(target, known))
    return target, list(build_locks.waits(known.merged(build_locks.collect(target, known))))


def lock_of(operator, python="py311_cu124"):
    return f"home/.cache/torch_extensions/{python}/{operator}/lock"


def own(tmp_path):
    return "py" + "".join(world(tmp_path).version.split(".")[:2]) + "_cu124"


def test_the_lock_of_a_killed_build_is_named_with_its_path(tmp_path):
    lock = lock_of("cpu_adam", own(tmp_path))
    _, (finding,) = found(tmp_path, OFFLOAD, [lock])
    assert (finding.cause, finding.details["lock"]) == ("ds-op-build-lock", str(tmp_path / lock))
    assert "2.0 h" in finding.evidence[0].what


@pytest.mark.parametrize(
    ("config", "more"),
    [
        (OFFLOAD, {"age": 60.0}),  # a build that may still run
        ({"zero_optimization": {"stage": 3}}, {}),  # an operator that this run does not load
        (None, {}),
        ({"zero_optimization": "auto"}, {}),
    ],
)
def test_near_misses(tmp_path, config, more):
    _, findings = found(tmp_path, config, [lock_of("cpu_adam", own(tmp_path))], **more)
    assert findings == []


def test_another_pythons_build_is_no_matter(tmp_path):
    _, findings = found(tmp_path, OFFLOAD, [lock_of("cpu_adam", "py36_cu102")])
    assert findings == []


def test_without_a_gpu_ranks_meet_through_a_built_operator(tmp_path):
    config = {"zero_optimization": {"stage": 2}}
    _, findings = found(tmp_path, config, [lock_of("deepspeed_shm_comm", own(tmp_path))], gpus=0)
    assert [finding.cause for finding in findings] == ["ds-op-build-lock"]


def test_a_folder_that_was_given_has_no_level_of_its_own(tmp_path):
    folder = tmp_path / "builds"
    _, findings = found(tmp_path, OFFLOAD, ["builds/cpu_adam/lock"], TORCH_EXTENSIONS_DIR=str(folder))
    assert len(findings) == 1
