from __future__ import annotations

import subprocess

import pytest

from fixes import history
from fixes.errors import EditedSince, Unknown
from fixes.journal import Journal
from tests.fixes.worlds import World, fix, set_recipe

JSON = {"kind": "set-json", "file": "ds.json", "values": {"zero_optimization.stage": 2}}


def two_runs(world: World) -> tuple[str, str]:
    """One fix of the recipe, one of the DeepSpeed file: two journals that do not overlap."""
    world.cause("c", fix("recipe", set_recipe(a=1)))
    first = world.apply(only=["c"]).journal
    world.cause("d", fix("json", JSON))
    second = world.apply(only=["d"]).journal
    assert first
    assert second
    return first, second


def test_any_order_where_they_do_not_overlap(world: World) -> None:
    before = world.snapshot()
    first, second = two_runs(world)
    assert [e.id for e in history.history(world.workdir)] == [first, second]
    assert history.undo(world.workdir, first).id == first
    assert [e.status for e in history.history(world.workdir)] == ["undone", "applied"]
    assert history.undo(world.workdir, first).status == "nothing to do"
    assert history.undo(world.workdir).id == second
    assert history.undo(world.workdir).status == "nothing to do"
    assert world.snapshot() == before


def test_an_overlapping_later_fix_is_named(world: World) -> None:
    world.cause("c", fix("one", set_recipe(a=1)))
    first = world.apply(only=["c"]).journal or ""
    world.cause("d", fix("two", set_recipe(b=1)))
    second = world.apply(only=["d"]).journal or ""
    with pytest.raises(EditedSince, match=f"changed again by the fix {second}; undo that one first"):
        history.undo(world.workdir, first)
    history.undo(world.workdir)
    history.undo(world.workdir)
    assert "a: 1" not in world.recipe.read_text()


def test_dry_run_shows_and_changes_nothing(world: World) -> None:
    two_runs(world)
    before = world.snapshot()
    planned = history.undo(world.workdir, dry_run=True)
    assert planned.status == "planned"
    assert [c["target"] for c in planned.changes] == ["ds.json"]
    assert world.snapshot() == before
    assert history.undo(world.workdir).status == "undone"


def test_two_edits_of_one_file_in_one_run(world: World) -> None:
    world.cause("c", fix("one", set_recipe(a=1)))
    world.cause("d", fix("two", set_recipe(b=1)))
    before = world.snapshot()
    world.apply()
    assert history.undo(world.workdir, dry_run=True).status == "planned"
    history.undo(world.workdir)
    assert world.snapshot() == before


def test_a_user_edit_is_shown_and_kept(world: World) -> None:
    first, _ = two_runs(world)
    world.recipe.write_text(world.recipe.read_text() + "mine: 1\n")
    edited = world.snapshot()
    with pytest.raises(EditedSince, match="left alone unless you confirm") as caught:
        history.undo(world.workdir, first)
    assert "-mine: 1" in caught.value.shown
    assert world.snapshot() == edited
    assert history.undo(world.workdir, first, force=True).status == "undone"
    assert "mine" not in world.recipe.read_text()
    entry = history.history(world.workdir)[0]
    assert any(b"mine: 1" in p.read_bytes() for p in (entry.directory / "quarantine").iterdir())


def test_the_shell_script_leaves_a_user_edit_alone(world: World) -> None:
    two_runs(world)
    world.recipe.write_text(world.recipe.read_text() + "mine: 1\n")
    edited = world.snapshot()
    entry = history.history(world.workdir)[0]
    done = subprocess.run(["sh", str(entry.directory / "undo.sh")], capture_output=True, text=True)
    assert done.returncode == 1
    assert "changed since, left alone" in done.stderr
    assert world.snapshot() == edited
    assert history.history(world.workdir)[0].status == "applied"


def test_the_last_run_is_the_one_that_was_cut_off_even_before_its_first_change(world: World) -> None:
    """Not the one before it; and what an installer had staged goes."""
    world.cause("c", fix("recipe", set_recipe(a=1)))
    world.apply()
    staged = world.prefix / ".skyt1-doctor" / "x" / "00" / "staged"
    staged.mkdir(parents=True)
    cut = Journal.create(world.workdir / ".skyt1-doctor", {})
    cut.append("staging", directory=str(staged.parent))
    fixed = world.snapshot()
    assert [entry.id for entry in history.pending(world.workdir)] == [cut.id]
    undone = history.undo(world.workdir)
    assert (undone.id, undone.status, undone.changes) == (cut.id, "undone", ())
    assert not staged.exists()
    assert world.snapshot() == fixed
    assert history.pending(world.workdir) == []


def test_unknown_journal(world: World) -> None:
    with pytest.raises(Unknown, match="no journal nowhere"):
        history.undo(world.workdir, "nowhere")
    assert history.undo(world.workdir).status == "nothing to do"
