"""`train` from its command line to its exit code, with the fake trainer behind a real interpreter."""

import json
import sys
from pathlib import Path

import pytest

from doctor import cli, rehearse
from doctor.commands import rehearse as _first  # noqa: F401 - before a test replaces what it binds
from doctor.exit_codes import ExitCode
from doctor.findings import Evidence, Finding
from doctor.rehearse import FAILED, PASSED, Rehearsal
from knowledge_base.schema import Text
from tests.doctor.train import runs


@pytest.fixture
def train(tmp_path, monkeypatch):
    """`train(recipe values, *arguments)` → exit code; the environment is one whose llamafactory-cli is the fake."""

    def run(recipe, *arguments):
        target = runs.make(tmp_path, **recipe)
        scripts = tmp_path / "env" / "bin"
        (tmp_path / "env" / "pyvenv.cfg").write_text(f"home = {sys.base_prefix}/bin\n")
        if not (scripts / "python").exists():
            (scripts / "python").symlink_to(sys.executable)
        monkeypatch.setenv("NPROC_PER_NODE", "2")
        options = ("--workdir", str(target.workdir), "--python", str(scripts / "python"), "--offline", "--lang", "en")
        return cli.run(["train", *options, "recipe.yaml", *arguments])

    return run


def record(tmp_path):
    return max((tmp_path / "work" / ".skyt1-doctor" / "runs").iterdir())


def test_the_gate_comes_first(train, capfd):
    assert train({}) == ExitCode.REFUSED
    assert "Training is not started" in capfd.readouterr().err


def test_a_run_under_force(train, tmp_path, capfd):
    assert train({}, "--force", "--no-rehearse", "steps=5") == ExitCode.OK
    captured = capfd.readouterr()
    assert "launching: FORCE_TORCHRUN=1 NNODES=1 NODE_RANK=0" in captured.err
    assert "Training ended well" in captured.err
    assert "***** train metrics *****" in captured.out
    assert (tmp_path / "work" / "saves" / "toy" / "final").read_text() == "5"
    command = json.loads((record(tmp_path) / "command.json").read_text())
    assert command["launch"]["NPROC_PER_NODE"] == "2"
    assert command["command"][1:] == ["train", f".skyt1-doctor/runs/{record(tmp_path).name}/recipe.yaml"]


def test_the_trainer_s_own_code_and_the_command_that_mends(train, tmp_path, capfd):
    recipe = {"exit_code": 3, "message": "ValueError: Template no_such does not exist."}
    assert train(recipe, "--force", "--no-rehearse") == 3
    told = capfd.readouterr().err
    assert "Training failed with exit code 3." in told
    (line,) = (line for line in told.splitlines() if line.startswith("Mend it with: skyt1-doctor fix "))
    words = line.split()
    assert "recipe.yaml" in words
    assert words[words.index("--workdir") + 1] == str(tmp_path / "work")
    log = Path(words[words.index("--from-log") + 1])  # this command stands elsewhere
    assert log == record(tmp_path) / "train.log"
    assert log.is_file()


def test_heal_from_the_command_line(train, tmp_path, capfd):
    assert train({"die_at": 10}, "--force", "--no-rehearse", "--heal", "1") == ExitCode.OK
    assert "[skyt1-doctor] resumed from checkpoint-8" in capfd.readouterr().err
    attempts = json.loads((record(tmp_path) / "command.json").read_text())["attempts"]
    assert [one["command"][2].rpartition("/")[2] for one in attempts] == ["recipe.yaml", "recipe-2.yaml"]


def rehearsal(verdict):
    found = [Finding("tmpl-unknown", (Evidence("no such template", "line 1"),))] if verdict == FAILED else []
    why = [Text("no model", "没有模型")] if verdict == rehearse.NOT_REHEARSED else []
    return Rehearsal(verdict, 12.0, "abc", ".skyt1-doctor/rehearsals/abc", findings=found, not_rehearsed=why)


@pytest.mark.parametrize(
    ("verdict", "arguments", "code"),
    [
        (PASSED, (), ExitCode.OK),
        (FAILED, (), ExitCode.REFUSED),
        (FAILED, ("--force",), ExitCode.OK),
        (rehearse.NOT_REHEARSED, (), ExitCode.OK),
    ],
)
def test_a_rehearsal_that_fails_is_a_gate(train, tmp_path, monkeypatch, capfd, verdict, arguments, code):
    from doctor.commands import train as command

    monkeypatch.setattr(rehearse, "rehearse", lambda *what: rehearsal(verdict))  # its own tests run it for real
    monkeypatch.setattr(rehearse, "cached", lambda *what: None)
    monkeypatch.setattr(command, "_passes", lambda *what: True)
    assert train({"steps": 3}, *arguments) == code
    kept = json.loads((record(tmp_path) / "rehearsal.json").read_text())
    assert (kept["verdict"], kept["cached"]) == (verdict, False)
    told = capfd.readouterr().err
    assert ("the rehearsal failed" in told) == (verdict == FAILED)
    assert ("tmpl-unknown" in told) == (verdict == FAILED)
    assert ("The rehearsal passed in 12 s." in told) == (verdict == PASSED)
    assert ("Nothing could be rehearsed.\n  no model" in told) == (verdict == rehearse.NOT_REHEARSED)


def test_one_that_passed_is_not_repeated(train, tmp_path, monkeypatch):
    from doctor.commands import train as command

    def again(*what):
        raise AssertionError("a rehearsal that passed was repeated")

    monkeypatch.setattr(rehearse, "rehearse", again)
    monkeypatch.setattr(rehearse, "cached", lambda *what: rehearsal(PASSED))
    monkeypatch.setattr(command, "_passes", lambda *what: True)
    assert train({"steps": 3}) == ExitCode.OK
    assert json.loads((record(tmp_path) / "rehearsal.json").read_text())["cached"] is True
