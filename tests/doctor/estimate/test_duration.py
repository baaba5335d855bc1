"""Time and cost from a measured step: the published run, and which recorded run counts as a measurement of a recipe."""

import json

import pytest

from doctor.commands.step_time import measured
from doctor.estimate.duration import Duration, Step, duration
from doctor.facts import Facts
from doctor.train.run_directory import RUNS
from tests.doctor.estimate.test_command import run, workdir  # noqa: F401 - a fixture

SKY_T1 = {
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 12,
    "num_train_epochs": 3,
    "cutoff_len": 16384,
}


def test_the_published_run():
    """Sky-T1-32B-Preview: 17k samples, 3 epochs, a batch of 96 on 8 H100, 19 hours, about 450 dollars."""
    found = duration(SKY_T1, Step(19 * 3600 / 531, "--step-seconds"), 17_000, 8, 450 / (19 * 8))
    assert found.steps == 531
    assert found.samples == 531 * 96
    assert found.tokens_at_most == 531 * 96 * 16384
    assert (found.seconds, found.gpu_hours, found.cost) == pytest.approx((19 * 3600, 152, 450))


@pytest.mark.parametrize(
    ("more", "records", "steps"),
    [
        ({"max_steps": 100}, None, 100),
        ({}, None, None),
        ({"packing": True}, 17_000, None),
        ({"neat_packing": True, "max_steps": 7}, 17_000, 7),
        ({"max_samples": 960}, 17_000, 30),
        ({"val_size": 0.5}, 1920, 30),
        ({"val_size": 960}, 1920, 30),
    ],
)
def test_steps(more, records, steps):
    found = duration({**SKY_T1, **more}, Step(2.0, "x"), records, 8)
    assert found.steps == steps
    assert found.seconds == (None if steps is None else steps * 2.0)
    assert found.cost is None


def record(workdir, name, values, steps=10, seconds=3.0, world=8, card="H100", total=531):  # noqa: F811
    folder = workdir / RUNS / name
    folder.mkdir(parents=True)
    facts = {"recipe.values": values, "launch.world_size": world, "gpu.devices": [{"name": card}]}
    (folder / "facts.json").write_text(json.dumps(facts))
    rows = [{"time": 1.0, "kind": "step", "step": n, "total": total, "step_seconds": seconds} for n in range(steps)]
    rows.insert(0, {"time": 1.0, "kind": "step", "step": 0, "step_seconds": 900.0})  # the first one warms up
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"time": 1.0, "ki')


NOW = Facts({"recipe.values": SKY_T1, "launch.world_size": 8, "gpu.devices": [{"name": "H100"}]})


def test_the_latest_run_of_the_same_step_counts(tmp_path):
    record(tmp_path, "20260101-000000", SKY_T1, seconds=9.0)
    record(tmp_path, "20260102-000000", {**SKY_T1, "output_dir": "elsewhere", "save_steps": 5}, seconds=4.0)
    assert measured(tmp_path, NOW) == Step(4.0, "20260102-000000", 531)


def test_a_run_of_other_length_gives_its_step_and_not_its_steps(tmp_path):
    record(tmp_path, "20260102-000000", {**SKY_T1, "max_steps": 40}, total=40)
    assert measured(tmp_path, NOW) == Step(3.0, "20260102-000000", None)


@pytest.mark.parametrize(
    "other",
    [
        {"values": {**SKY_T1, "cutoff_len": 8192}},
        {"values": {**SKY_T1, "enable_liger_kernel": True}},
        {"values": SKY_T1, "world": 4},
        {"values": SKY_T1, "card": "A100"},
        {"values": SKY_T1, "steps": 3},
        {"values": SKY_T1, "seconds": None},
        {"values": "text"},
    ],
)
def test_another_step_is_no_measurement(tmp_path, other):
    record(tmp_path, "20260102-000000", **other)
    (tmp_path / RUNS / "20260103-000000").mkdir()
    (tmp_path / RUNS / "20260104-000000").mkdir()
    (tmp_path / RUNS / "20260104-000000" / "facts.json").write_text('{"cut')
    assert measured(tmp_path, NOW) is None


def test_the_command_tells_time_and_cost(workdir):  # noqa: F811
    (workdir / "recipe.yaml").open("a").write("max_steps: 531\ngradient_accumulation_steps: 12\n")
    options = ("--gpus", "8x80GB", "--step-seconds", "128.8", "--gpu-hour", "2.96")
    shown = json.loads(run(workdir, *options, "--format", "json").stdout)["estimate"]["run"]
    assert shown.keys() == set(Duration.__struct_fields__)
    assert (shown["steps"], shown["measured_by"]) == (531, "--step-seconds")
    assert shown["cost"] == pytest.approx(450, rel=0.01)
    text = run(workdir, *options, "--lang", "en").stdout
    assert "time: 18 h 59 min  (531 steps; 2 min 9 s each, as you say)" in text
    assert "cost: 152.0 GPU hours, 449.8" in text
    plain = json.loads(run(workdir, "--gpus", "8x80GB", "--format", "json").stdout)["estimate"]
    assert plain["run"] is None


def test_steps_that_are_not_known_are_said(workdir):  # noqa: F811
    done = run(workdir, "--gpus", "8x80GB", "--step-seconds", "60", "--lang", "zh")
    assert "时间: 步数未知 (每步 1 分, 由您给出)" in done.stdout
    refused = run(workdir, "--step-seconds", "0")
    assert refused.returncode == 2
    assert len(refused.stderr.strip().splitlines()) == 1
