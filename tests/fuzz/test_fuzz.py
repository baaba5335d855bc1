"""A small sample of the fuzzing, fresh inputs of every subject; `python -m tests.fuzz.run` is the long one."""

import json

import pytest

from tests.fuzz import run
from tests.fuzz.subjects import World

SAMPLE = 60  # inputs of each subject
FIRST = 10_000_000  # far behind the inputs of the long run


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    run.Watch.install()
    return World(tmp_path_factory.mktemp("fuzz"))


def test_every_input_ends_in_findings_or_a_clean_error(world):
    wanted = {subject.name: SAMPLE for subject in world.subjects}
    number = FIRST
    while any(wanted.values()):
        subject, raw = run.pick(world, 1, number)
        if wanted[subject.name]:
            wanted[subject.name] -= 1
            ended, why = run.one(world, subject, raw)
            assert ended != "failed", f"input {number} ({subject.name}): {why}"
        number += 1


def test_the_seeds_that_would_run_code_run_none(world):
    for subject in world.subjects:
        for raw in subject.seeds:
            ended, why = run.one(world, subject, raw)
            assert ended != "failed", f"{subject.name}: {why}"


def test_the_watch_sees_code_that_runs(world, monkeypatch):
    """The canary is alive: a reader that unpickled would be caught."""
    import pickle

    subject = next(s for s in world.subjects if s.name == "bin")
    monkeypatch.setattr(World, "examine", lambda self, subject, raw: pickle.loads(raw))
    ended, why = run.one(world, subject, subject.seeds[0])
    (world.folder / "canary").rmdir()
    assert (ended, "code ran" in why) == ("failed", True)


def test_the_long_run_found_nothing():
    record = json.loads(run.RECORD.read_text(encoding="utf-8"))
    assert record["inputs"] == sum(sum(counts.values()) for counts in record["outcomes"].values())
    assert record["failures"] == []
