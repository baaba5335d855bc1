"""The no_sync assertion on real packages: what fails, what heals, and what the web says that does not help.

deepspeed 0.16.2, transformers 4.46.1, two CPU processes, accumulation 4. `make reproduce` runs it.
"""

import pytest

from tests.stack.environments import MENDED, SKY_T1, Environment, Workspace

pytestmark = [pytest.mark.stack, pytest.mark.timeout(1800)]
FAST = {"gradient_accumulation_steps": "4", "max_steps": "2"}
ASSERTION = "no_sync context manager is incompatible with gradient partitioning logic of ZeRO stage"


@pytest.fixture(scope="module")
def affected(tmp_path_factory):
    return Environment(tmp_path_factory.mktemp("affected") / "env", *SKY_T1, *MENDED)


def train(environment, tmp_path, stage=3, **recipe):
    place = Workspace(tmp_path, environment)
    place.mend_recipe(**{**FAST, **recipe})
    place.set_stage(stage)
    done = environment.doctor("train", "--force", "--no-rehearse", cwd=place.root, LOCAL_SIZE="2")
    return done, place


@pytest.mark.parametrize("stage", [3, 2])
def test_partitioned_gradients_assert(affected, tmp_path, stage):
    done, place = train(affected, tmp_path, stage)
    assert done.returncode != 0
    assert f"{ASSERTION} {stage}" in done.stdout
    assert "ds-no-sync-zero" in done.stdout
    assert not place.trained()


def test_zero_1_fails_with_another_assertion(affected, tmp_path):
    done, _ = train(affected, tmp_path, stage=1)
    assert done.returncode != 0
    assert "It is illegal to call Engine.step() inside no_sync context manager" in done.stdout
    assert "ds-no-sync-zero" in done.stdout


def test_one_process_never_enters_no_sync(affected, tmp_path):
    place = Workspace(tmp_path, affected)
    place.mend_recipe(**FAST)
    done = affected.doctor("train", "--no-rehearse", cwd=place.root, NPROC_PER_NODE="1", LOCAL_SIZE="1")
    assert done.returncode == 0, done.stdout[-3000:]


def test_accumulation_1_heals(affected, tmp_path):
    done, place = train(affected, tmp_path, gradient_accumulation_steps="1")
    assert done.returncode == 0, done.stdout[-3000:]
    assert place.trained()


def test_deepspeed_0_15_4_heals(tmp_path):
    healed = Environment(tmp_path / "env", *SKY_T1[:2], "deepspeed==0.15.4", *MENDED)
    done, place = train(healed, tmp_path)
    assert done.returncode == 0, done.stdout[-3000:]
    assert place.trained()


def test_a_newer_llamafactory_heals(tmp_path):
    newer = ("llamafactory==0.9.2", "torch==2.5.1", "transformers==4.49.0", "accelerate==1.2.1", "deepspeed==0.16.2")
    healed = Environment(tmp_path / "env", *newer, *MENDED)
    done, place = train(healed, tmp_path)
    assert done.returncode == 0, done.stdout[-3000:]
    assert place.trained()
