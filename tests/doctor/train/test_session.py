"""Whole runs of a trainer of real processes: record, healing, diagnosis."""

import json
import os

import pytest

from doctor.train import session as sessions
from tests.doctor.train import runs


def events(folder, kind):
    return [row for row in runs.rows(folder, "events") if row["kind"] == kind]


def test_a_healthy_run_is_recorded(tmp_path):
    run = runs.session(runs.make(tmp_path))
    ended = run.run()
    folder = run.directory.path
    assert (ended.code, ended.interrupted, ended.attempts) == (0, False, 1)
    steps = [row for row in runs.rows(folder, "metrics") if row["kind"] == "step"]
    assert [row["step"] for row in steps] == list(range(1, 13))
    assert (steps[5]["loss"], steps[5]["total"], steps[5]["grad_norm"]) == (2.0, 12, 1.25)
    machine = [row for row in runs.rows(folder, "metrics") if row["kind"] == "machine"]
    assert machine
    assert machine[0]["host_used"] > 0
    assert None not in [value for row in steps + machine for value in row.values()]
    assert runs.kinds(folder)[:2] == ["launch", "first-step"]
    assert runs.kinds(folder).count("checkpoint") == 3
    assert events(folder, "end")[0]["code"] == 0
    launch = events(folder, "launch")[0]["text"]["en"]
    assert launch.startswith("FORCE_TORCHRUN=1 NNODES=1 NODE_RANK=0")
    assert launch.endswith(f"llamafactory-cli train {run.directory.relative}/recipe.yaml")
    assert json.loads((folder / "findings.json").read_text())["findings"] == []


def test_a_killed_rank_is_resumed_from_the_last_complete_checkpoint(tmp_path):
    run = runs.session(runs.make(tmp_path, die_at=10), heal=1)
    ended = run.run()
    folder = run.directory.path
    assert (ended.code, ended.attempts) == (0, 2)
    assert (run.settings.output / "final").read_text() == "12"
    assert [row["finding"]["cause"] for row in events(folder, "diagnosis")] == ["launch-sigkill-oom"]
    assert "killed from outside" in events(folder, "heal")[0]["text"]["en"]
    assert [row["text"]["en"] for row in events(folder, "resume")] == ["resumed from checkpoint-8"]
    assert "resume_from_checkpoint" in (folder / "recipe-2.yaml").read_text()
    steps = [row["step"] for row in runs.rows(folder, "metrics") if row["kind"] == "step"]
    assert steps[-4:] == [9, 10, 11, 12]
    assert steps.count(9) == 2


def test_a_checkpoint_that_is_cut_off_is_set_aside(tmp_path, monkeypatch):
    run = runs.session(runs.make(tmp_path, die_at=10), heal=1)
    monkeypatch.setattr(sessions, "PORT_WAIT", 0)
    diagnosed = run._diagnosed

    def cut(code, offset):
        os.truncate(run.settings.output / "checkpoint-8" / "optimizer.pt", 20)
        return diagnosed(code, offset)

    run._diagnosed = cut
    assert run.run().code == 0
    folder = run.directory.path
    assert "incomplete-checkpoint-8: optimizer.pt is cut off" in events(folder, "heal")[-1]["text"]["en"]
    assert events(folder, "resume")[0]["text"]["en"] == "resumed from checkpoint-4"
    assert (run.settings.output / "checkpoint-8").exists()
    assert (run.settings.output / "incomplete-checkpoint-8" / "optimizer.pt").stat().st_size == 20


def test_the_same_cause_is_not_healed_twice(tmp_path):
    target = runs.make(tmp_path, die_at=3, output_dir=str(tmp_path / "work" / "deep" / "toy"))
    run = runs.session(target, heal=5)
    prepare = sessions.resume.prepare

    def again(settings, started):
        (settings.output.parent / "died").unlink()  # so that the next attempt dies as well
        return prepare(settings, started)

    sessions.resume.prepare, ended = again, None
    try:
        ended = run.run()
    finally:
        sessions.resume.prepare = prepare
    assert (ended.code, ended.attempts) == (1, 2)
    assert events(run.directory.path, "heal")[-1]["text"]["en"] == (
        "not resumed: launch-sigkill-oom came back after it was healed"
    )
    assert events(run.directory.path, "resume")[0]["text"]["en"] == "no complete checkpoint: the run begins anew"


def test_without_heal_a_failure_ends_with_its_diagnosis(tmp_path):
    run = runs.session(runs.make(tmp_path, die_at=10))
    ended = run.run()
    assert (ended.code, ended.attempts) == (1, 1)
    found = json.loads((run.directory.path / "findings.json").read_text())
    assert found["findings"][0]["cause"] == "launch-sigkill-oom"
    assert runs.kinds(run.directory.path)[-3:] == ["failure", "diagnosis", "end"]


@pytest.mark.parametrize("message", ["odd", "Template no_such_template does not exist."])
def test_what_no_safe_fix_heals_is_not_tried_again(tmp_path, message):
    run = runs.session(runs.make(tmp_path, exit_code=3, message=message), heal=3)
    ended = run.run()
    assert (ended.code, ended.attempts) == (3, 1)
    assert events(run.directory.path, "heal")[-1]["text"]["en"].startswith("not resumed: ")


def test_a_fix_is_applied_and_told(tmp_path):
    target = runs.make(tmp_path, exit_code=3, message="Template no_such_template does not exist.")
    seen = []

    def fix(finding):
        seen.append(finding.cause)
        healthy = runs.make(tmp_path)
        return sessions.Mended(healthy, runs.facts(healthy), ({"en": "template set", "zh": "已设置"},))

    run = runs.session(target, heal=1, fix=fix)
    assert run.run().code == 0
    assert seen == ["tmpl-unknown"]
    assert events(run.directory.path, "heal")[0]["text"]["en"] == "template set"


def test_a_fix_that_changes_the_ranks_is_not_used(tmp_path):
    target = runs.make(tmp_path, exit_code=3, message="Template no_such_template does not exist.")
    other = runs.facts(target).merged({"launch.world_size": 1})
    run = runs.session(target, heal=1, fix=lambda finding: sessions.Mended(target, other, ()))
    assert run.run().attempts == 1
    assert "number of ranks" in events(run.directory.path, "heal")[0]["text"]["en"]
