"""Real LLaMA-Factory runs, disturbed: what results.json holds is asserted in every test run, and made anew in `stack`."""

import json
import os

import pytest

from tests.stack.train import campaign

GOAL = 60.0  # seconds in which a hang is to be named at a step time of one second


def judge(results):
    """The goals, over the cases that were run."""
    for name in ("undisturbed", "undisturbed_ddp", "undisturbed_accumulated"):
        if name in results:
            assert (results[name]["code"], results[name]["steps"], results[name]["checkpoints"]) == (0, 30, 3)
    healed = {
        "killed_rank": "undisturbed",
        "truncated_checkpoint": "undisturbed",
        "killed_worker": "undisturbed",
        "disk_full": "undisturbed",
        "hang_healed": "undisturbed",
        "port_taken": "undisturbed_ddp",
        "deepspeed_swapped": "undisturbed_accumulated",
    }
    for name, reference in healed.items():
        if name in results and reference in results:
            found = results[name]
            assert found["code"] == 0, name
            assert (found["steps"], found["loss"]) == (results[reference]["steps"], results[reference]["loss"]), name
            assert found["events"].count("launch") == (3 if name == "deepspeed_swapped" else 2), name
    for name in ("stopped_rank", "stuck_worker"):
        if name in results:
            assert results[name]["named_after_seconds"] < GOAL
            assert results[name]["rank"] == 1
            assert results[name].get("ctrl_c_code", results[name].get("sigterm_code")) == 130
    if "stuck_worker" in results:
        assert "whose worker" in results["stuck_worker"]["said"]
        assert "stuck_on_storage" in results["stuck_worker"]["said"]
    if "slow_rank" in results:
        assert results["slow_rank"]["rank"] == 1
        assert results["slow_rank"]["ctrl_c_code"] == 130
    if "truncated_checkpoint" in results:
        assert results["truncated_checkpoint"]["resumes"] == ["resumed from checkpoint-10"]
    if "doctor_killed" in results:
        assert results["doctor_killed"]["end"]
        assert results["doctor_killed"]["log_has_the_shutdown"]
    if "broken_for_good" in results:
        assert results["broken_for_good"]["launches"] == 1
        assert results["broken_for_good"]["diagnoses"] == ["tmpl-unknown"]


def test_what_was_recorded_meets_the_goals():
    judge(json.loads(campaign.RESULTS.read_text()))


@pytest.mark.stack
@pytest.mark.timeout(3600)
def test_real_runs(tmp_path):
    names = [name for name in campaign.CASES if name != "disk_full" or os.geteuid() == 0]  # it mounts a small disk
    found = campaign.run(tmp_path, names)
    assert not {name: case["error"] for name, case in found.items() if "error" in case}
    judge(found)
