from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from fixes.errors import Refused, WorldChanged
from fixes.plan import Outcome, load_plan
from tests.fixes.worlds import World, fix, set_recipe


def outcomes(plan_or_applied: object) -> dict[str, str]:
    return {o.cause: o.outcome for o in plan_or_applied.outcomes}  # type: ignore[attr-defined]


def test_planning_writes_nothing_and_shows_diffs(world: World) -> None:
    world.cause("bad-template", fix("set-template", set_recipe(template="{template}")), details={"template": "qwen"})
    before = world.snapshot()
    plan = world.plan()
    assert world.snapshot() == before
    (step,) = plan.contract()
    assert step["actions"][0]["target"] == "recipe.yaml"
    assert "-template: qwen25  # 模板" in step["actions"][0]["diff"]
    assert "+template: qwen  # 模板" in step["actions"][0]["diff"]
    assert outcomes(plan) == {"bad-template": "planned"}
    assert not (world.workdir / ".skyt1-doctor").exists()


def test_the_first_fix_that_applies_is_chosen(world: World) -> None:
    world.cause(
        "c",
        fix("needs-detail", set_recipe(a="{unknown}")),
        fix("only-when", set_recipe(a=1), when=["lora"]),
        fix("not-when", set_recipe(a=2), unless=["full"]),
        fix("by-hand", {"kind": "instruct", "commands": ["sudo x"]}, **{"class": "manual"}),
        fix("same", set_recipe(cutoff_len=16384)),
        fix("good", set_recipe(a=3)),
        fix("also", set_recipe(a=4)),
        details={"full": True},
    )
    (step,) = world.plan().steps
    assert step.fix == "good"
    assert {a.fix: a.reason for a in step.alternatives} == {
        "needs-detail": "unknown is not known here",
        "only-when": "it applies only where lora",
        "not-when": "it does not apply where full",
        "by-hand": "it is to be done by hand",
        "same": "it is so already",
        "also": None,
    }


def test_only_names_a_cause_or_a_fix(world: World) -> None:
    world.cause("c", fix("one", set_recipe(a=1)), fix("two", set_recipe(a=2)))
    world.cause("d", fix("three", set_recipe(b=1)))
    assert [s.fix for s in world.plan(only=["two"]).steps] == ["two"]
    assert [s.fix for s in world.plan(only=["d"]).steps] == ["three"]
    assert outcomes(world.plan(only=["elsewhere"])) == {"elsewhere": "nothing to do"}
    assert [s.fix for s in world.plan(skip=frozenset(["c"])).steps] == ["three"]


def test_the_broader_cause_names_its_kinds_and_agrees_to_them(world: World) -> None:
    world.cause("kind", fix("slower", set_recipe(a=1), **{"class": "review"}), kind_of="broad")
    world.cause("d", fix("three", set_recipe(b=1)))
    plan = world.plan(only=["broad"])
    assert [(s.cause, s.agreed) for s in plan.steps] == [("kind", True)]
    assert plan.refused == ()


def test_documents_name_what_a_cause_is_filed_under_and_its_kind() -> None:
    filed = Outcome("cfg-invalid-choice", "by-hand", "refused").document()
    assert (filed["cause"], filed["kind"]) == ("cfg-bad-value-type", "cfg-invalid-choice")
    plain = Outcome("ds-no-sync-zero", None, "planned").document()
    assert (plain["cause"], plain["kind"]) == ("ds-no-sync-zero", None)
    named = Outcome("no-such-cause", None, "nothing to do").document()
    assert (named["cause"], named["kind"]) == ("no-such-cause", None)


def test_review_waits_for_consent(world: World) -> None:
    world.cause("c", fix("slower", set_recipe(a=1), **{"class": "review"}))
    (waiting,) = world.plan().steps
    assert not waiting.agreed
    assert "--yes or --only slower" in (waiting.consent or "")
    assert world.plan(yes=True).steps[0].agreed
    assert world.plan(only=["slower"]).steps[0].agreed
    before = world.snapshot()
    assert outcomes(world.apply()) == {"c": "refused"}
    assert world.snapshot() == before


def test_an_argument_is_asked_for_and_is_the_consent(world: World) -> None:
    world.cause("c", fix("use-it", set_recipe(model_name_or_path="{model}"), **{"class": "needs-argument"}))
    (refused,) = world.plan().outcomes
    assert (refused.outcome, refused.reason, refused.code) == ("refused", "give --model PATH", "argument")
    (world.workdir / "m").mkdir()
    plan = world.plan(model="m")
    assert plan.steps[0].agreed
    assert str(world.workdir / "m") in plan.steps[0].actions[0].diff
    with pytest.raises(Refused, match=r"--model ./absent does not exist"):
        world.plan(model="./absent")


def test_manual_is_shown_never_run(world: World) -> None:
    world.cause("c", fix("driver", {"kind": "instruct", "commands": ["touch ran"]}, **{"class": "manual"}))
    applied = world.apply(yes=True)
    assert [(o.outcome, o.code) for o in applied.outcomes] == [("refused", "manual")]
    assert "touch ran" in (applied.outcomes[0].reason or "")
    assert not (world.workdir / "ran").exists()


def test_two_fixes_of_one_key(world: World) -> None:
    world.cause("c", fix("four", set_recipe(a=4)))
    world.cause("d", fix("also-four", set_recipe(a=4, b=1)))
    world.cause("e", fix("five", set_recipe(a=5)))
    plan = world.plan()
    assert outcomes(plan) == {"c": "planned", "d": "planned", "e": "refused"}
    assert "c/four already sets a to 4" in (plan.outcomes[-1].reason or "")
    assert outcomes(world.apply(plan)) == {"c": "verified", "d": "verified", "e": "refused"}
    assert world.recipe.read_text().endswith("a: 4\nb: 1\n")


def test_a_contradicting_fix_gives_way_to_its_alternative(world: World) -> None:
    world.cause("c", fix("four", set_recipe(a=4)))
    world.cause("d", fix("five", set_recipe(a=5)), fix("other", set_recipe(b=5)))
    assert [s.fix for s in world.plan().steps] == ["four", "other"]


def test_a_file_is_repaired_before_it_is_edited(world: World) -> None:
    entry = {
        "kind": "set-dataset",
        "file": "data/dataset_info.json",
        "name": "Sky-T1",
        "values": {"file_name": "/d.json"},
    }
    world.cause("comma", fix("repair", {"kind": "repair-json", "file": "data/dataset_info.json"}))
    world.cause("missing", fix("register", entry))
    assert outcomes(world.apply()) == {"comma": "verified", "missing": "verified"}
    assert json.loads(world.info.read_text())["Sky-T1"] == {"file_name": "/d.json"}


def test_order_of_findings_does_not_matter(world: World) -> None:
    entry = {
        "kind": "set-dataset",
        "file": "data/dataset_info.json",
        "name": "Sky-T1",
        "values": {"file_name": "/d.json"},
    }
    world.cause("missing", fix("register", entry))
    world.cause("comma", fix("repair", {"kind": "repair-json", "file": "data/dataset_info.json"}))
    assert [s.fix for s in world.plan().steps] == ["repair", "register"]
    assert outcomes(world.apply()) == {"comma": "verified", "missing": "verified"}


def test_a_saved_plan_is_applied_or_refused_when_the_world_changed(world: World, tmp_path: Path) -> None:
    world.cause("c", fix("set", set_recipe(a=1)))
    plan = world.plan()
    plan.save(tmp_path / "plan.json")
    assert load_plan(tmp_path / "plan.json") == plan
    text = world.recipe.read_text()
    world.recipe.write_text(text + "# mine\n")
    with pytest.raises(WorldChanged, match=r"recipe.yaml was changed since the plan"):
        world.apply(load_plan(tmp_path / "plan.json"))
    world.recipe.write_text(text)
    assert outcomes(world.apply(load_plan(tmp_path / "plan.json"))) == {"c": "verified"}
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(Refused, match="is not a plan"):
        load_plan(tmp_path / "plan.json")


def test_secrets_are_masked_in_diffs_and_kept_out_of_saved_plans(world: World, tmp_path: Path) -> None:
    secret = "hf_" + "x9Y8" * 8
    world.cause("c", fix("set", set_recipe(hub_token=secret)))
    plan = world.plan()
    assert secret not in json.dumps(plan.contract())
    with pytest.raises(Refused, match="holds a secret"):
        plan.save(tmp_path / "plan.json")
    assert not (tmp_path / "plan.json").exists()


def test_twenty_causes_are_planned_in_two_seconds(world: World) -> None:
    for number in range(20):
        world.cause(f"c{number}", fix("set", set_recipe(**{f"key_{number}": number})))
    target, start = world.target, time.perf_counter()
    from doctor.facts import Facts
    from fixes.plan import make_plan

    plan = make_plan(world.findings, Facts(), target)
    assert len(plan.steps) == 20
    assert time.perf_counter() - start < 2.0


def test_what_a_step_before_does_already_is_not_done_in_another_way(world: World) -> None:
    world.cause("first", fix("off", set_recipe(report_to="none")))
    world.cause(
        "second",
        fix("off-too", set_recipe(report_to="none")),
        fix("another-way", set_recipe(a=1)),
        fix("by-hand", {"kind": "instruct", "commands": ["login"]}, **{"class": "manual"}),
    )
    plan = world.plan()
    assert [step.fix for step in plan.steps] == ["off"]
    assert outcomes(plan) == {"first": "planned", "second": "nothing to do"}
    assert plan.outcomes[-1].reason == "a step before does the same"
    assert outcomes(world.apply(plan)) == {"first": "verified", "second": "nothing to do"}
