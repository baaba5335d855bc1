"""The keeper: nothing outlives the doctor, the log is whole, a full disk stops nobody."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from doctor.train import keeper
from tests.doctor.train import runs

CODE = """
import sys
from pathlib import Path
from tests.doctor.train import runs
run = runs.session(runs.make(Path(sys.argv[1]), steps=2000, step_seconds=0.05, save_steps=10**6))
sys.exit(run.run().code)
"""


@pytest.fixture
def doctor(tmp_path):
    """A session in a process of its own, some steps into its run."""
    process = subprocess.Popen([sys.executable, "-c", CODE, str(tmp_path)], cwd=Path(__file__).parents[3])
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and not steps(tmp_path):
        time.sleep(0.05)
    yield process
    process.kill()
    process.wait()


def folder(tmp_path):
    return next((tmp_path / "work" / ".skyt1-doctor" / "runs").iterdir(), tmp_path)


def steps(tmp_path):
    try:
        return [row for row in runs.rows(folder(tmp_path), "metrics") if row.get("step", 0) > 5]
    except (OSError, ValueError):
        return []


def living(tmp_path):
    """Processes of the run by their mark and place: the trainer, its ranks."""
    found = []
    for process in psutil.process_iter():
        try:
            environ = process.environ() if process.status() != psutil.STATUS_ZOMBIE else {}
            if keeper.MARK in environ and Path(process.cwd()).is_relative_to(tmp_path):
                found.append(process)
        except psutil.Error:
            continue
    return found


def gone(tmp_path, seconds=10.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and living(tmp_path):
        time.sleep(0.1)
    return not living(tmp_path)


def test_kill_9_of_the_doctor_leaves_no_orphan_and_a_whole_record(tmp_path, doctor):
    assert len(living(tmp_path)) >= 3
    doctor.kill()
    doctor.wait()
    assert gone(tmp_path)
    deadline = time.monotonic() + 20  # the keeper writes its last line after the last rank has gone
    while (events := runs.rows(folder(tmp_path), "events"))[-1]["kind"] != "end" and time.monotonic() < deadline:
        time.sleep(0.1)
    assert events[-1]["kind"] == "end"
    assert events[-1]["text"]["en"].startswith("skyt1-doctor itself was ended; the run was stopped")
    assert (folder(tmp_path) / "train.log").read_bytes().endswith(b"\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_run_and_is_recorded(tmp_path, doctor, number):
    doctor.send_signal(number)
    assert doctor.wait(20) == 130
    assert gone(tmp_path)
    events = runs.rows(folder(tmp_path), "events")
    assert [event["kind"] for event in events][-2:] == ["signal", "end"]
    assert events[-1]["code"] == 130
    assert signal.Signals(number).name in events[-2]["text"]["en"]


def test_kill_9_of_the_keeper_leaves_no_orphan(tmp_path, doctor):
    guard = next(p for p in psutil.Process(doctor.pid).children() if "doctor.train.keeper" in p.cmdline())
    guard.kill()
    assert doctor.wait(20) == 137
    assert gone(tmp_path)


def test_a_log_that_cannot_be_written_loses_lines_and_says_so(tmp_path):
    log = keeper.Log(tmp_path / "train.log")
    whole = log.file
    with Path("/dev/full").open("wb", buffering=0) as full:
        log.file = full
        log.feed(b"lost line\n")
    log.file = whole
    log.feed(b"kept line\n")
    log.close()
    assert (tmp_path / "train.log").read_text() == (
        "\n[skyt1-doctor: 10 bytes of output could not be written here]\nkept line\n"
    )


def test_a_bar_is_passed_on_when_it_is_whole(tmp_path):
    log = keeper.Log(tmp_path / "train.log")
    log.feed(b"\r 10%|#  | 1/10 [00:01<00:09")
    assert (tmp_path / "train.log").read_bytes() == b"\r"
    log.feed(b",  1.00s/it]")
    assert (tmp_path / "train.log").read_bytes() == b"\r 10%|#  | 1/10 [00:01<00:09,  1.00s/it]"


def test_a_command_that_does_not_exist_is_one_line_in_the_log(tmp_path):
    spec = {"argv": ["/nowhere/cli"], "environ": {}, "workdir": str(tmp_path), "log": str(tmp_path / "l"), "mark": "m"}
    done = subprocess.run(
        [sys.executable, "-m", "doctor.train.keeper"],
        input=json.dumps(spec).encode() + b"\n",
        cwd=Path(__file__).parents[3],
        check=False,
    )
    assert done.returncode == keeper.CANNOT_START
    assert (tmp_path / "l").read_text() == "/nowhere/cli: No such file or directory\n"
