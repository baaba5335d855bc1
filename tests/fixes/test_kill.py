"""kill -9 at any moment leaves the target before or after, never between, and undo brings back every byte."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fixes import history, lock
from fixes.crashpoint import VARIABLE
from tests.fixes.killing import DIED, DONE, applying, check_after, chosen, faults, in_child, points_of
from tests.fixes.worlds import World, freeze

RANDOM_MOMENTS = 60


@pytest.fixture
def faulty(with_packages: World) -> World:
    (with_packages.workdir / "old").mkdir()
    (with_packages.workdir / "old" / "x").write_text("x")
    faults(with_packages)
    return with_packages


def test_killed_at_every_journal_step(faulty: World) -> None:
    before, frozen, plan = faulty.snapshot(), freeze(faulty.python), faulty.plan()
    points = points_of(applying(faulty, plan))
    after = faulty.snapshot()
    history.undo(faulty.workdir)
    assert faulty.snapshot() == before
    assert points.count("journal") > 40
    assert points.count("move") > 20
    ends = {"before": 0, "after": 0}
    for point in chosen(points, every_move=4):
        assert in_child(applying(faulty, plan), at_point=point) == DIED
        ends[check_after(faulty, before, after)] += 1
    assert ends["before"] > 40
    assert ends["after"] >= 1
    assert freeze(faulty.python) == frozen


def test_killed_at_random_moments(faulty: World) -> None:
    before, plan = faulty.snapshot(), faulty.plan()
    start = time.perf_counter()
    assert in_child(applying(faulty, plan)) == DONE
    whole, after = time.perf_counter() - start, faulty.snapshot()
    history.undo(faulty.workdir)
    dice, killed = random.Random(20260), 0
    for _ in range(RANDOM_MOMENTS * 4):  # a moment after the end of the run kills nothing: another one is drawn
        moment = dice.uniform(0, whole)
        if in_child(applying(faulty, plan), after_seconds=moment) == DIED:
            killed += 1
        else:
            whole = min(whole, max(moment, 0.1))
        check_after(faulty, before, after)
        if killed == RANDOM_MOMENTS:
            break
    assert killed == RANDOM_MOMENTS


def test_an_undo_that_is_killed_is_finished(faulty: World) -> None:
    before, plan = faulty.snapshot(), faulty.plan()
    assert in_child(applying(faulty, plan)) == DONE
    points = points_of(lambda: history.undo(faulty.workdir))
    assert faulty.snapshot() == before
    for point in chosen(points, every_move=8, every_other=2):
        assert in_child(applying(faulty, plan)) == DONE
        assert in_child(lambda: history.undo(faulty.workdir), at_point=point) == DIED
        history.recover(faulty.workdir)
        if faulty.snapshot() != before:  # killed before the undo had begun
            assert history.undo(faulty.workdir).status == "undone"
        assert faulty.snapshot() == before


def test_a_recovery_that_is_killed_is_finished(faulty: World) -> None:
    before, plan = faulty.snapshot(), faulty.plan()
    middle = len(points_of(applying(faulty, plan))) * 2 // 3
    after = faulty.snapshot()
    history.undo(faulty.workdir)
    assert in_child(applying(faulty, plan), at_point=middle) == DIED
    points = points_of(lambda: history.recover(faulty.workdir))
    assert faulty.snapshot() == before
    for point in chosen(points, every_move=12, every_other=3):
        assert in_child(applying(faulty, plan), at_point=middle) == DIED
        assert in_child(lambda: history.recover(faulty.workdir), at_point=point) == DIED
        assert check_after(faulty, before, after) == "before"


def test_another_working_directory_of_the_environment_sees_it(faulty: World, tmp_path: Path) -> None:
    """Packages belong to the environment: whoever trains with it next is told, and takes back what was left."""
    before, plan = faulty.snapshot(), faulty.plan()
    points = points_of(applying(faulty, plan))
    history.undo(faulty.workdir)
    elsewhere, prefix = tmp_path / "elsewhere", faulty.prefix
    elsewhere.mkdir()
    assert history.pending(elsewhere, prefix) == []
    middle = next(n for n, kind in enumerate(points, 1) if kind == "move") + 3
    assert in_child(applying(faulty, plan), at_point=middle) == DIED
    assert faulty.snapshot() != before
    (cut,) = history.pending(elsewhere, prefix)
    assert cut.directory.is_relative_to(faulty.workdir)
    with lock.hold([faulty.workdir / ".skyt1-doctor"], "fix --apply"):
        assert history.pending(elsewhere, prefix) == []  # it is at work, not cut off
    (note,) = history.recover(elsewhere, prefix)
    assert cut.id in note
    assert faulty.snapshot() == before
    assert history.pending(elsewhere, prefix) == []
    assert list((prefix / ".skyt1-doctor").glob("*/journal")) == []


CHILD = """
import sys
from doctor.facts import Facts
from doctor.target import find
from fixes.apply import apply_plan
from fixes.steps import load_plan
from fixes.verify import VerifyResult
from pathlib import Path
target = find(recipe="recipe.yaml", workdir=sys.argv[1], python=sys.argv[2])
apply_plan(load_plan(Path(sys.argv[3])), target, Facts(), lambda cause: VerifyResult(True))
"""


def test_the_next_command_recovers_and_goes_on(faulty: World, tmp_path: object) -> None:
    """A killed process of its own, and a next run that says what it found and then does its work."""
    plan, path = faulty.plan(), faulty.workdir.parent / "plan.json"
    plan.save(path)
    command = [sys.executable, "-c", CHILD, str(faulty.workdir), str(faulty.python), str(path)]
    killed = subprocess.run(command, env={**os.environ, VARIABLE: "40"}, capture_output=True)
    assert killed.returncode == -9
    assert [e.status for e in history.pending(faulty.workdir)] == ["interrupted"]
    applied = faulty.apply(plan)
    assert any("had been cut off; its changes were taken back" in note for note in applied.notes)
    assert {o.outcome for o in applied.outcomes} == {"verified"}
