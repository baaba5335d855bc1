"""`watch`: joining runs that others started. The runs are real processes of the fake trainer."""

import json
import subprocess
import sys
import threading
import time

import pytest

from doctor.commands import watch
from doctor.errors import BadInput
from doctor.exit_codes import ExitCode
from doctor.report import run_record
from doctor.report.run_findings import of_run
from doctor.report.run_story import verdict
from tests.doctor.train import runs


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(watch, "WRITERS_SECONDS", 0.3)


def start(target, log):
    """The trainer as somebody starts it by hand: `llamafactory-cli train recipe.yaml > log 2>&1 &`."""
    cli = target.scripts / "llamafactory-cli"
    return subprocess.Popen(
        [sys.executable, str(cli), "train", str(target.recipe)], cwd=target.workdir, stdout=log, stderr=log
    )


@pytest.mark.parametrize(
    ("recipe", "code", "shown"),
    [
        ({}, ExitCode.OK, "The run ended well."),
        ({"die_at": 6}, ExitCode.FINDINGS, "launch-sigkill-oom"),
        ({"exit_code": 1, "message": "odd"}, ExitCode.UNKNOWN_FAILURE, "its cause is not known"),
    ],
)
def test_a_run_by_hand_is_followed_to_its_end(tmp_path, capfd, recipe, code, shown):
    target = runs.make(tmp_path, steps=10, step_seconds=0.1, **recipe)
    path = target.workdir / "my.log"
    with path.open("wb") as log:
        process = start(target, log)
    assert watch.run(place=str(path), workdir=str(target.workdir), lang="en") == code
    process.wait()
    captured = capfd.readouterr()
    assert shown in captured.err
    assert path.read_bytes() == captured.out.encode()
    if "exit_code" in recipe:
        return  # it was over before it was joined: nothing is recorded
    record = next((target.workdir / ".skyt1-doctor" / "runs").iterdir())
    assert (record / "train.log").read_bytes() == path.read_bytes()
    assert runs.kinds(record)[-1] == "end"
    assert json.loads((record / "command.json").read_text())["joined"] == str(path)
    told = run_record.read(record)
    assert verdict(told, of_run(told, "en"), "en").state == ("failed" if code else "done")
    saved = [row["text"]["en"] for row in runs.rows(record, "events") if row["kind"] == "checkpoint"]
    assert saved
    assert all(text.startswith(f"checkpoint-{number} is complete") for number, text in zip((4, 8), saved, strict=False))


def test_secrets_of_a_foreign_log_are_masked(tmp_path, capfd):
    log = tmp_path / "my.log"
    log.write_text("token hf_" + "Zz91" * 9 + "\n***** train metrics *****\n")
    assert watch.run(place=str(log), workdir=str(tmp_path), lang="en") == ExitCode.OK
    assert capfd.readouterr().out.startswith("token hf_***\n")
    assert not (tmp_path / ".skyt1-doctor").exists()  # it is over: only looked at


def test_a_log_of_yesterday_ends_at_once(tmp_path, capfd):
    log = tmp_path / "slurm-7.out"
    log.write_text(
        "***** Running training *****\nTemplate qwen25 does not exist.\nValueError: Template qwen25 does not exist.\n"
    )
    started = time.monotonic()
    assert watch.run(place=str(log), workdir=str(tmp_path), lang="zh") == ExitCode.FINDINGS
    assert time.monotonic() - started < 5
    assert "tmpl-unknown" in capfd.readouterr().err


def test_a_directory_is_searched_for_its_log(tmp_path, capfd):
    target = runs.make(tmp_path)
    run = runs.session(target)
    assert run.run().code == 0
    assert watch.run(place=str(run.directory.path), workdir=str(target.workdir), lang="en") == ExitCode.OK
    assert "train.log" in capfd.readouterr().err


def test_an_output_directory_has_the_trainer_s_own_log(tmp_path, capfd):
    log = tmp_path / "trainer_log.jsonl"
    log.write_text("")

    def write():
        for step in range(1, 6):
            time.sleep(0.1)
            with log.open("a") as file:
                file.write(json.dumps({"current_steps": step, "total_steps": 5, "loss": 2.0 / step}) + "\n")

    thread = threading.Thread(target=write)
    thread.start()
    assert watch.run(place=str(tmp_path), workdir=str(tmp_path), lang="en") == ExitCode.OK
    thread.join()


@pytest.mark.parametrize(("name", "said"), [("none", "does not exist"), ("empty", "holds no log")])
def test_nothing_to_follow_is_one_sentence(tmp_path, name, said):
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match=said):
        watch.run(place=str(tmp_path / name), workdir=str(tmp_path), lang="en")
