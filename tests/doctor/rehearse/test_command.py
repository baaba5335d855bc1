"""`skyt1-doctor rehearse`: its text, its document, its exit codes."""

import json

import pytest

from doctor import examine, target
from doctor.cli import run
from doctor.exit_codes import ExitCode
from tests.doctor.rehearse.standin import PROBES, build

MISSING = "eval_dataset: other\n"  # whose file is not there, at which the stand-in does not look


@pytest.fixture
def command(tmp_path, monkeypatch, capfd):
    """Runs `rehearse` on the stand-in environment of that name; exit code, stdout, stderr."""

    def call(*options, run_name="", extra=""):
        if not (tmp_path / "env").exists():
            made = build(tmp_path, run_name, extra)
            monkeypatch.setattr(target, "find", lambda *_, **__: made)
            monkeypatch.setattr(examine, "all_probes", lambda: PROBES)
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


def stages(document):
    return {stage["id"]: stage["passed"] for stage in document["rehearsal"]["stages"]}


def test_what_check_finds_fails_a_rehearsal_that_passes(command):
    code, out, err = command("--format", "json", extra=MISSING)
    document = json.loads(out)
    assert code == ExitCode.FINDINGS
    assert "check: 1 problems" in err
    assert [finding["cause"] for finding in document["findings"]] == ["data-file-missing"]
    assert document["rehearsal"]["verdict"] == "failed"
    assert stages(document) == {"check": False, "model": True, "train": True, "evaluate": False, "save": True,
                                "resume": True, "load": True}  # fmt: skip
    code, out, err = command("--lang", "en")  # the toy run itself passed and is not repeated
    assert code == ExitCode.FINDINGS
    assert err == ""
    assert "skyt1-doctor fix" in out
    assert "--from-log" not in out


def test_a_cause_that_check_and_the_run_name_is_told_once(command):
    code, out, _ = command("--format", "json", run_name="train", extra=MISSING)
    document = json.loads(out)
    assert code == ExitCode.FINDINGS
    assert [finding["cause"] for finding in document["findings"]] == ["data-file-missing", "ds-no-sync-zero"]
    assert stages(document)["train"] is False


def test_check_is_the_first_stage_of_a_healthy_rehearsal(command):
    code, out, _ = command("--format", "json")
    assert code == ExitCode.OK
    assert next(iter(stages(json.loads(out)).items())) == ("check", True)
