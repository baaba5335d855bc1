"""A whole rehearsal on a stand-in environment: every way in which it can end, and what it leaves behind."""

import json
import os
import signal
import threading
import time

import pytest

from doctor.errors import BadInput
from doctor.rehearse import FAILED, NOT_REHEARSED, PASSED, cached, launches, rehearse
from tests.doctor.rehearse.standin import build, facts_of


def rehearsed(target, **options):
    heard = []
    result = rehearse(target, facts_of(target), heard.append, **options)
    return result, [text.en for text in heard]


def outcome(result):
    return {stage.id: "skipped" if stage.skipped else stage.passed for stage in result.stages}


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if ".skyt1-doctor" not in path.parts)


def test_a_healthy_recipe_passes_and_leaves_only_its_record(tmp_path):
    target = build(tmp_path)
    before = everything(target.workdir)
    result, heard = rehearsed(target)
    assert result.verdict == PASSED, result
    assert outcome(result) == {"model": True, "train": True, "evaluate": "skipped", "save": True, "resume": True,
                               "load": True}  # fmt: skip
    assert everything(target.workdir) == before
    record = target.workdir / result.directory
    kept = {path.name for path in record.iterdir()}
    assert {"rehearsal.json", "recipe.yaml", "resume.yaml", "train.log", "resume.log", "load.log"} <= kept
    assert "work" not in kept
    recipe = (record / "recipe.yaml").read_text()
    assert "learning_rate: 1.0e-5" in recipe
    assert "report_to: none" in recipe
    told = json.loads((record / "rehearsal.json").read_text())
    assert told["passed"] is True
    assert all(item["zh"] for item in told["not_rehearsed"])
    assert any(line.startswith("step 2 of 2") for line in heard)


def test_a_rehearsal_that_passed_is_kept_until_something_changes(tmp_path):
    target = build(tmp_path)
    facts = facts_of(target)
    assert cached(target, facts) is None
    assert rehearse(target, facts).passed
    kept = cached(target, facts)
    assert kept is not None
    assert kept.cached
    assert cached(target, facts.merged({"packages.versions": {"torch": "2.6.0"}})) is None
    (target.workdir / "models/big/tokenizer_config.json").write_text('{"eos_token": "x"}')
    assert cached(target, facts) is None


def test_a_failure_of_training_is_named_and_is_not_kept(tmp_path):
    target = build(tmp_path, "train")
    result, _ = rehearsed(target)
    assert result.verdict == FAILED
    assert result.findings[0].cause == "ds-no-sync-zero"
    assert result.findings[0].evidence[0].where.startswith(".skyt1-doctor/rehearsals/")
    assert outcome(result) == {"model": True, "train": False, "evaluate": "skipped", "save": "skipped"}
    assert cached(target, facts_of(target)) is None


@pytest.mark.parametrize(
    ("run_name", "stage", "cause"),
    [("save", "save", "disk-full"), ("nan", "train", "train-loss-zero-or-nan"),
     ("spike", "train", "train-loss-spike"), ("resume", "resume", None),
     ("empty", "save", None)],
)  # fmt: skip
def test_each_stage_can_fail(tmp_path, run_name, stage, cause):
    result, _ = rehearsed(build(tmp_path, run_name))
    assert result.verdict == FAILED
    assert outcome(result)[stage] is False
    assert [finding.cause for finding in result.findings[:1]] == ([cause] if cause else [])
    if cause is None:
        assert result.unrecognised["message"]


def test_a_launch_that_stands_still_is_ended_and_named(tmp_path, monkeypatch):
    monkeypatch.setattr(launches, "IDLE_SECONDS", 2.0)
    started = time.monotonic()
    target = build(tmp_path, "hang")
    result, _ = rehearsed(target)
    assert result.findings[0].cause == "train-hang"
    assert time.monotonic() - started < 60
    built = target.workdir / "ext/py311/cpu_adam"
    assert built.is_dir()
    assert not (built / "lock").exists(), "torch would wait for it for ever"


def test_an_old_lock_is_why_it_stands_still(tmp_path, monkeypatch):
    monkeypatch.setattr(launches, "IDLE_SECONDS", 2.0)
    target = build(tmp_path, "hang")
    lock = target.workdir / "ext/py311/fused_adam/lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    os.utime(lock, (1e9, 1e9))
    result, _ = rehearsed(target)
    assert result.findings[0].cause == "ds-op-build-lock"
    assert result.findings[0].details == {"lock": str(lock)}
    assert lock.exists(), "it is not ours to take away without being asked"


def test_time_that_runs_out_says_nothing_about_the_recipe(tmp_path):
    result, _ = rehearsed(build(tmp_path, "hang"), seconds=2.0)
    assert result.verdict == NOT_REHEARSED
    assert not result.findings


def test_ctrl_c_ends_every_process_and_cleans_up(tmp_path):
    target = build(tmp_path, "hang")
    facts = facts_of(target)
    threading.Timer(2.0, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        rehearse(target, facts)
    assert not (target.workdir / "saves").exists()


def test_a_model_that_is_not_here_cannot_be_rehearsed(tmp_path):
    target = build(tmp_path)
    text = target.recipe.read_text().replace("models/big", "Qwen/Qwen2.5-32B-Instruct")
    target.recipe.write_text(text)
    result, _ = rehearsed(target)
    assert result.verdict == NOT_REHEARSED
    assert "not on this machine" in result.not_rehearsed[0].en


def test_weights_that_are_damaged_fail_before_anything_runs(tmp_path):
    target = build(tmp_path)
    weights = target.workdir / "models/big/model.safetensors"
    os.truncate(weights, weights.stat().st_size - 100)
    result, _ = rehearsed(target)
    assert result.verdict == FAILED
    assert outcome(result) == {"model": False}
    assert result.findings[0].cause == "model-corrupt-safetensors"


def test_an_environment_without_the_command_is_bad_input(tmp_path):
    target = build(tmp_path)
    (tmp_path / "env/bin/llamafactory-cli").unlink()
    with pytest.raises(BadInput, match="llamafactory-cli"):
        rehearse(target, facts_of(target))
