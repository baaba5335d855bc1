"""`fix` in a terminal, with a saved plan, and with a stack: what the user chooses is what is done."""

import json
import os
import pty
import select
import subprocess
import sys
import time

import pytest

from demo import workspace
from doctor.commands.fix import Fixing
from doctor.target import find
from fixes.choose import Choice
from tests.doctor.test_cli import DOCTOR, doctor, tree

CAUSE = "log-wandb-not-logged-in"


@pytest.fixture
def place(tmp_path):
    workspace.write_workspace(tmp_path)
    return tmp_path


def with_wandb(prefix):
    """An environment whose records say that wandb is installed."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(prefix)], check=True)
    info = next(prefix.glob("lib/python3*/site-packages")) / "wandb-0.19.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: wandb\nVersion: 0.19.0\n")
    return prefix


def files_of(place):
    """What belongs to the user: all but the doctor's own state."""
    return {name: data for name, data in tree(place).items() if not name.startswith(".skyt1-doctor")}


def environment_of(place):
    prefix = place.parent / f"{place.name}-env"
    return prefix if prefix.exists() else with_wandb(prefix)


def in_terminal(place, answers, *arguments, what=("--apply", "--offline")):
    """Run `fix` on a pseudo-terminal and answer each question as it comes; exit code and everything shown."""
    master, slave = pty.openpty()
    environ = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "CONDA_PREFIX", "LANG", "LC_ALL")}
    environ |= {"TERM": "dumb", "COLUMNS": "200", "VIRTUAL_ENV": str(environment_of(place))}
    argv = [DOCTOR, "fix", *what, *arguments]
    process = subprocess.Popen(argv, cwd=place, stdin=slave, stdout=slave, stderr=slave, env=environ, close_fds=True)
    os.close(slave)
    shown, asked, end = "", 0, time.monotonic() + 60
    while time.monotonic() < end:
        if not select.select([master], [], [], 0.5)[0]:
            if process.poll() is not None:
                break
            continue
        try:
            piece = os.read(master, 65536)
        except OSError:  # the other end is closed
            break
        shown += piece.decode(errors="replace")
        while asked < min(shown.count("?: ") + shown.count("]: "), len(answers)) and shown.count("]: ") > asked:
            os.write(master, (answers[asked] + "\n").encode())
            asked += 1
    os.close(master)
    return process.wait(timeout=30), shown, asked


def test_a_no_brings_the_next_fix_of_the_cause(place):
    code, shown, asked = in_terminal(place, ["n", "y"], "--only", CAUSE)
    assert asked == 2, shown
    assert code in (0, 1), shown  # 1: the workspace has other faults
    assert "report_to: wandb" in (place / "examples/train_full/qwen2_full_sft.yaml").read_text()
    assert "WANDB_MODE=offline" in (place / ".skyt1-doctor/launch.env").read_text()


def test_only_noes_change_nothing(place):
    before = tree(place)
    code, shown, _ = in_terminal(place, ["n"] * 9, "--only", CAUSE)
    assert code == 4, shown
    assert tree(place) == before


def test_without_a_terminal_what_is_safe_is_applied_and_the_rest_waits(place):
    only = ("--offline", "--only", "data-info-invalid-json")
    done = doctor("fix", "--apply", *only, cwd=place)
    assert "verified" in done.stdout, done.stderr
    json.loads((place / "data/dataset_info.json").read_text())
    assert doctor("fix", "--undo", "last", cwd=place).returncode == 0
    before = tree(place)
    asked = doctor("fix", "--apply", *only, "--format", "json", cwd=place)
    assert asked.returncode == 4
    assert "say --yes" in json.loads(asked.stdout)["error"]
    assert tree(place) == before


def test_undo_shows_an_edit_made_since_and_asks(place):
    recipe = place / "examples/train_full/qwen2_full_sft.yaml"
    text = recipe.read_text()
    in_terminal(place, ["y"], "--only", f"{CAUSE}")
    assert "report_to: none" in recipe.read_text()
    recipe.write_text(recipe.read_text() + "# mine\n")
    said = doctor("fix", "--undo", "last", cwd=place)
    assert said.returncode == 4
    assert "-# mine" in said.stderr
    assert "--force" in said.stderr
    told = json.loads(doctor("fix", "--undo", "last", "--format", "json", cwd=place).stdout)["undo"]
    assert told["status"] == "refused"
    assert "-# mine" in told["changed_since"]
    code, shown, asked = in_terminal(place, ["n"], what=("--undo", "last"))
    assert (code, asked) == (4, 1), shown
    assert recipe.read_text().endswith("# mine\n")
    code, shown, _ = in_terminal(place, ["y"], what=("--undo", "last"))
    assert code == 0, shown
    assert recipe.read_text() == text
    kept = (place / ".skyt1-doctor" / "journal").glob("*/quarantine/*")
    assert any(path.read_text().endswith("# mine\n") for path in kept)


def test_every_command_tells_of_a_fix_that_was_cut_off(place):
    """Killed between two files: check and fix say so, --apply takes it back first and then does its work."""
    before = files_of(place)
    arguments = ("--apply", "--offline", "--only", f"data-info-invalid-json,{CAUSE}", "--yes")
    environ = {"VIRTUAL_ENV": str(environment_of(place)), "SKYT1_DOCTOR_CRASH_AT": "9"}
    assert doctor("fix", *arguments, cwd=place, environ=environ).returncode == -9
    assert files_of(place) != before
    checked = doctor("check", "--offline", "--format", "json", cwd=place)
    assert "was cut off before its end" in checked.stderr
    (cut,) = json.loads(checked.stdout)["interrupted"]
    planned = doctor("fix", "--offline", "--format", "json", cwd=place)
    assert json.loads(planned.stdout)["interrupted"] == [cut]
    done = doctor("fix", *arguments, "--format", "json", cwd=place, environ={"VIRTUAL_ENV": environ["VIRTUAL_ENV"]})
    assert f"the run {cut} had been cut off; its changes were taken back" in done.stderr
    outcomes = {o["cause"]: o["outcome"] for o in json.loads(done.stdout)["outcomes"]}
    assert outcomes == {"data-info-invalid-json": "verified", CAUSE: "verified"}
    assert "cut off" not in doctor("check", "--offline", cwd=place).stderr
    assert doctor("fix", "--undo", "last", cwd=place).returncode == 0
    assert files_of(place) == before


def test_what_a_fix_of_this_run_healed_is_newly_broken_when_it_comes_back(place, monkeypatch):
    """Each cause is looked at on fresh facts; that a fault was there at the start does not excuse its return."""
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    recipe, info = place / "examples/train_full/qwen2_full_sft.yaml", place / "data/dataset_info.json"
    python = environment_of(place) / "bin" / "python"
    fixing = Fixing(
        find=lambda: find(None, str(place), str(python), None, True),
        budget=20.0, choice=Choice(), from_log=None, form="text", lang="en",
    )  # fmt: skip
    assert {CAUSE, "data-info-invalid-json"} <= {finding.cause for finding in fixing.before.findings}
    assert fixing.verify(CAUSE).healed is False
    text, broken = recipe.read_text(), info.read_text()
    recipe.write_text(text.replace("report_to: wandb", "report_to: none"))
    assert (fixing.verify(CAUSE).healed, fixing.verify(CAUSE).newly_broken) == (True, ())
    recipe.write_text(text)
    info.write_text(broken.replace("  },\n}", "  }\n}"))
    result = fixing.verify("data-info-invalid-json")
    assert (result.healed, result.newly_broken) == (True, (CAUSE,))


def test_what_a_log_shows_is_planned_where_no_recipe_lies(tmp_path):
    """Who trains with a program of their own has a log and an environment, and no recipe of ours."""
    log = tmp_path / "run.log"
    log.write_text("ValueError: Template qwen25 does not exist.\n")
    asked = json.loads(doctor("fix", "--offline", "--from-log", str(log), "--format", "json", cwd=tmp_path).stdout)
    assert "tmpl-unknown" in {finding["cause"] for finding in asked["findings"]}
    assert "tmpl-unknown" in {step["cause"] for step in asked["plan"]}
    named = doctor("fix", "--offline", "mine.yaml", "--from-log", str(log), cwd=tmp_path)
    assert named.returncode == 2
    assert "The recipe mine.yaml does not exist" in named.stderr
    without = doctor("fix", "--offline", cwd=tmp_path)
    assert without.returncode == 2
    assert "stand in the folder that holds it" in without.stderr


def test_a_saved_plan_is_applied_later_and_refused_when_the_world_changed(place, tmp_path_factory):
    plan = tmp_path_factory.mktemp("plan") / "plan.json"
    arguments = ("--offline", "--only", "data-info-invalid-json")
    saved = doctor("fix", *arguments, "--save-plan", str(plan), cwd=place)
    assert plan.exists(), saved.stderr
    info = place / "data/dataset_info.json"
    text = info.read_text()
    info.write_text(text + "\n")
    refused = doctor("fix", "--offline", "--plan", str(plan), "--yes", cwd=place)
    assert refused.returncode == 4
    assert "was changed since the plan was made" in refused.stderr
    assert info.read_text() == text + "\n"
    info.write_text(text)
    done = doctor("fix", "--offline", "--plan", str(plan), "--yes", "--format", "json", cwd=place)
    assert [o["outcome"] for o in json.loads(done.stdout)["outcomes"]] == ["verified"]
    json.loads(info.read_text())


def test_yes_with_a_saved_plan_agrees_to_all_of_it(place, tmp_path_factory):
    """A plan that was saved without --yes holds steps that wait for consent, as one of class review does."""
    plan = tmp_path_factory.mktemp("plan") / "plan.json"
    doctor("fix", "--offline", "--only", "data-info-invalid-json", "--save-plan", str(plan), cwd=place)
    document = json.loads(plan.read_text())
    document["steps"][0] |= {"class_": "review", "agreed": False, "consent": "it waits"}
    plan.write_text(json.dumps(document))
    before = tree(place)
    refused = doctor("fix", "--offline", "--plan", str(plan), cwd=place)
    assert refused.returncode == 4
    assert tree(place) == before
    done = doctor("fix", "--offline", "--plan", str(plan), "--yes", "--format", "json", cwd=place)
    assert [o["outcome"] for o in json.loads(done.stdout)["outcomes"]] == ["verified"]


def test_an_unknown_stack_and_a_place_without_one(place):
    done = doctor("fix", "--stack", "sky-t2", cwd=place)
    assert done.returncode == 2
    assert "There is no stack called sky-t2; there are " in done.stderr
    assert doctor("fix", "--new", "x", cwd=place).returncode == 2
    taken = doctor("fix", "--stack", "sky-t1", "--new", ".", cwd=place)
    assert taken.returncode == 4
    assert "exists already" in taken.stderr
