from __future__ import annotations

import os
from pathlib import Path

import pytest

from doctor.facts import Facts
from fixes import history
from fixes.apply import apply_plan
from fixes.errors import LockHeld
from fixes.lock import hold
from fixes.verify import VerifyResult
from tests.fixes.worlds import World, fix, healed, set_recipe


def test_what_does_not_heal_is_taken_back_and_the_rest_stays(world: World) -> None:
    world.cause("good", fix("one", set_recipe(a=1)))
    world.cause("bad", fix("two", set_recipe(b=2), {"kind": "set-launch", "values": {"X": 1}}))
    world.cause("after", fix("three", set_recipe(c=3)))
    before = world.recipe.read_text()
    applied = world.apply(verify=lambda cause: VerifyResult(cause != "bad", "it fires again"))
    assert [(o.cause, o.outcome) for o in applied.outcomes] == [
        ("good", "verified"),
        ("bad", "rolled back"),
        ("after", "verified"),
    ]
    assert "still there" in (applied.outcomes[1].reason or "")
    assert world.recipe.read_text() == before + "a: 1\nc: 3\n"
    assert not (world.workdir / ".skyt1-doctor" / "launch.env").exists()
    assert applied.rolled_back
    assert history.undo(world.workdir).status == "undone"
    assert world.recipe.read_text() == before


def test_what_breaks_something_else_is_taken_back(world: World) -> None:
    world.cause("c", fix("one", set_recipe(a=1)))
    before = world.snapshot()
    applied = world.apply(verify=lambda cause: VerifyResult(True, newly_broken=("pkg-conflict",)))
    assert applied.outcomes[0].outcome == "rolled back"
    assert "pkg-conflict" in (applied.outcomes[0].reason or "")
    assert world.snapshot() == before
    assert history.undo(world.workdir).status == "nothing to do"


def test_what_could_not_be_looked_at_stays_and_says_so(world: World) -> None:
    world.cause("c", fix("one", set_recipe(a=1)))
    applied = world.apply(verify=lambda cause: VerifyResult(None, "the probe timed out"))
    assert [(o.outcome, o.reason) for o in applied.outcomes] == [("unverified", "the probe timed out")]
    assert "a: 1" in world.recipe.read_text()


def test_applying_twice_changes_nothing_the_second_time(world: World) -> None:
    world.cause("c", fix("one", set_recipe(a=1)))
    assert world.apply().outcomes[0].outcome == "verified"
    after = world.snapshot()
    again = world.apply()
    assert [o.outcome for o in again.outcomes] == ["nothing to do"]
    assert again.journal is None
    assert world.snapshot() == after
    assert len(history.history(world.workdir)) == 1


def test_an_interrupted_verification_takes_all_back(world: World) -> None:
    world.cause("c", fix("one", set_recipe(a=1)))
    world.cause("d", fix("two", set_recipe(b=1)))
    before = world.snapshot()

    def interrupted(cause: str) -> VerifyResult:
        if cause == "d":
            raise KeyboardInterrupt
        return healed(cause)

    with pytest.raises(KeyboardInterrupt):
        world.apply(verify=interrupted)
    assert world.snapshot() == before
    assert history.pending(world.workdir) == []


def test_two_runs_at_once(world: World) -> None:
    world.cause("c", fix("one", set_recipe(a=1)))
    plan, before = world.plan(), world.snapshot()
    with hold([world.workdir / ".skyt1-doctor"], "fix --apply"), pytest.raises(LockHeld, match=str(os.getpid())):
        world.apply(plan)
    assert world.snapshot() == before


def test_every_kind_of_file_fix_and_back(world: World) -> None:
    (world.workdir / "old").mkdir()
    (world.workdir / "old" / "x").write_text("x")
    (world.workdir / "gbk.json").write_bytes('{"文": "中"}'.encode("gbk"))
    world.cause("a", fix("f", {"kind": "set-json", "file": "ds.json", "values": {"zero_optimization.stage": 2}}))
    world.cause("b", fix("f", {"kind": "move-aside", "path": "old"}))
    world.cause("c", fix("f", {"kind": "convert-encoding", "file": "gbk.json", "encoding": "gbk"}))
    world.cause("d", fix("f", {"kind": "rename-recipe-key", "old": "cutoff_len", "new": "max_len"}))
    world.cause("e", fix("f", {"kind": "unset-recipe", "keys": ["deepspeed"]}))
    world.cause("f", fix("f", {"kind": "set-launch", "values": {"MASTER_PORT": 29502}}))
    before = world.snapshot()
    applied = world.apply()
    assert {o.outcome for o in applied.outcomes} == {"verified"}
    assert '"stage": 2' in (world.workdir / "ds.json").read_text()
    assert not (world.workdir / "old").exists()
    assert (world.workdir / "gbk.json").read_text(encoding="utf-8") == '{"文": "中"}'
    assert (world.workdir / ".skyt1-doctor" / "launch.env").read_text().endswith("MASTER_PORT=29502\n")
    assert world.target.environ["MASTER_PORT"] == "29502"
    world.cause("g", fix("f", {"kind": "unset-launch", "names": ["MASTER_PORT"]}))
    assert world.apply(only=["g"]).outcomes[0].outcome == "verified"
    assert "MASTER_PORT" not in (world.workdir / ".skyt1-doctor" / "launch.env").read_text()
    assert history.undo(world.workdir).status == "undone"
    assert history.undo(world.workdir).status == "undone"
    assert world.snapshot() == before
    assert not (world.workdir / ".skyt1-doctor" / "launch.env").exists()


def test_an_unreadable_file_is_one_sentence(world: World) -> None:
    world.cause("c", fix("one", {"kind": "set-json", "file": "absent.json", "values": {"a": 1}}))
    (outcome,) = world.plan().outcomes
    assert (outcome.outcome, outcome.reason) == ("refused", "absent.json does not exist.")


def test_no_journal_in_a_read_only_directory(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal goes to the user's state directory, and the run says so."""
    (world.workdir / ".skyt1-doctor").write_text("a file where the directory would be")
    world.cause("c", fix("one", set_recipe(a=1)))
    before = world.snapshot()
    applied = world.apply()
    assert str(tmp_path / "state") in applied.notes[0]
    assert history.history(world.workdir)[0].directory.is_relative_to(tmp_path / "state")
    history.undo(world.workdir)
    assert world.snapshot() == before


def test_what_an_earlier_fix_healed_gets_no_fix_of_its_own(world: World) -> None:
    """Another model makes its own demands: a fix for the old one's would only cost."""
    world.cause("model", fix("one", set_recipe(a=1)))
    world.cause("memory", fix("two", set_recipe(b=2)))
    world.cause("other", fix("three", set_recipe(c=3)))
    before = world.recipe.read_text()
    applied = apply_plan(world.plan(), world.target, Facts(), healed, still_there=lambda cause: cause != "memory")
    assert [o.outcome for o in applied.outcomes] == ["verified", "nothing to do", "verified"]
    assert world.recipe.read_text() == before + "a: 1\nc: 3\n"


def test_the_first_cause_is_mended_without_asking_again(world: World) -> None:
    world.cause("c", fix("one", set_recipe(a=1)))
    applied = apply_plan(world.plan(), world.target, Facts(), healed, still_there=lambda cause: False)
    assert [o.outcome for o in applied.outcomes] == ["verified"]
