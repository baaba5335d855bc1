"""`skyt1-doctor rehearse`: its text, its document, its exit codes."""

import json

import pytest

from doctor import target
from doctor.cli import run
from doctor.exit_codes import ExitCode
from tests.doctor.rehearse.standin import build


@pytest.fixture
def command(tmp_path, monkeypatch, capfd):
    """Runs `rehearse` on the stand-in environment of that name; exit code, stdout, stderr."""

    def call(*options, run_name=""):
        if not (tmp_path / "env").exists():
            made = build(tmp_path, run_name)
            monkeypatch.setattr(target, "find", lambda *_: made)
        code = run(["rehearse", *options])
        told = capfd.readouterr()
        return code, told.out, told.err

    return call


def test_text_in_both_languages_and_the_kept_rehearsal(command):
    code, out, err = command("--lang", "en")
    assert code == ExitCode.OK
    assert "The rehearsal passed" in out
    assert "Not rehearsed:" in out
    assert "step 1 of 2" in err
    code, out, err = command("--lang", "zh")
    assert code == ExitCode.OK
    assert "预演通过" in out
    assert "自那次预演以来没有任何变化" in out
    assert err == ""


def test_json_is_one_document_with_the_rehearsal(command):
    code, out, _ = command("--format", "json", run_name="train")
    document = json.loads(out)
    assert code == ExitCode.FINDINGS
    assert document["command"] == "rehearse"
    assert document["healthy"] is False
    assert document["findings"][0]["cause"] == "ds-no-sync-zero"
    assert document["rehearsal"]["passed"] is False
    assert document["rehearsal"]["verdict"] == "failed"


def test_a_failure_of_unknown_cause_has_its_own_code(command):
    code, out, _ = command("--lang", "en", run_name="resume")
    assert code == ExitCode.UNKNOWN_FAILURE
    assert "odd failure of a resume" in out
    assert "The rehearsal failed" in out
