"""Launching, streaming and ending a trainer. The trainer here is a shell script: what is tested is what surrounds it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from doctor.errors import BadInput
from doctor.train import launch
from tests.support.targets import make_target

MADE_UP = "hf_" + "Zz91" * 9


def script(tmp_path, body):
    path = tmp_path / "trainer.sh"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return [str(path)]


def run(tmp_path, body):
    return launch.run(script(tmp_path, body), os.environ, tmp_path, tmp_path / "train.log")


@pytest.mark.parametrize(("body", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137)])
def test_the_trainer_s_own_exit_code(tmp_path, body, code):
    assert run(tmp_path, body) == code


def test_both_streams_reach_the_terminal_and_the_log(tmp_path, capfdbinary):
    assert run(tmp_path, "echo one; echo two >&2; printf 'three without newline'") == 0
    assert (tmp_path / "train.log").read_bytes() == b"one\ntwo\nthree without newline"
    assert capfdbinary.readouterr().out == b"one\ntwo\nthree without newline"


def test_secrets_are_masked_even_when_printed_in_two_pieces(tmp_path, capfdbinary):
    run(tmp_path, f"printf 'token {MADE_UP[:10]}'; sleep 0.2; echo '{MADE_UP[10:]} end'")
    shown = capfdbinary.readouterr().out + (tmp_path / "train.log").read_bytes()
    assert MADE_UP.encode() not in shown
    assert shown.count(b"token hf_*** end") == 2


def test_progress_bars_and_broken_bytes_pass_unchanged(tmp_path, capfdbinary):
    run(tmp_path, r"printf '\r 10%%\r 20%%\r\377\376 \346\226\n'")
    assert capfdbinary.readouterr().out == b"\r 10%\r 20%\r\xff\xfe \xe6\x96\n"


def wait_for(path, seconds=40):
    deadline = time.monotonic() + seconds
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return path.read_text().split()


def start_doctor(tmp_path, body):
    """launch.run in a process of its own, as `train` is, so that it can be signalled."""
    code = "import os, sys, pathlib; from doctor.train import launch; "
    code += "w = pathlib.Path(sys.argv[1]); sys.exit(launch.run([sys.argv[2]], os.environ, w, w / 'train.log'))"
    argv = [sys.executable, "-c", code, str(tmp_path), *script(tmp_path, body)]
    return subprocess.Popen(argv, cwd=Path(__file__).parents[3], stdout=subprocess.DEVNULL)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_one_signal_ends_all_ranks_cleanly(tmp_path, number):
    body = f"trap 'echo saved > {tmp_path}/saved; kill $!; exit 3' INT TERM HUP; "
    body += f"sleep 60 & echo $$ $! > {tmp_path}/pids; wait"
    process = start_doctor(tmp_path, body)
    pids = wait_for(tmp_path / "pids")
    process.send_signal(number)
    assert process.wait(40) == 130
    assert (tmp_path / "saved").exists()
    assert not any(alive(int(pid)) for pid in pids)


def test_under_nohup_a_run_outlives_its_terminal(tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = start_doctor(tmp_path, f"trap 'exit 9' HUP; echo $$ > {tmp_path}/pids; sleep 1; exit 0")
    finally:
        signal.signal(signal.SIGHUP, before)
    wait_for(tmp_path / "pids")
    process.send_signal(signal.SIGHUP)
    assert process.wait(40) == 0


def test_a_second_signal_kills_a_trainer_that_does_not_listen(tmp_path):
    process = start_doctor(
        tmp_path, f"trap '' INT TERM; sleep 60 & echo $$ $! > {tmp_path}/pids; while :; do sleep 1; done"
    )
    pids = wait_for(tmp_path / "pids")
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    assert process.wait(40) == 130
    assert not any(alive(int(pid)) for pid in pids)


@pytest.mark.parametrize("session", ["", "setsid "])
@pytest.mark.parametrize("output", ["> /dev/null 2>&1", ""])
def test_no_rank_outlives_a_launcher_that_dies(tmp_path, session, output):
    """Also one with a session of its own, as torchrun gives its ranks, and one that still holds our pipe."""
    body = f"{session}sh -c 'trap \"\" TERM; echo $$ > {tmp_path}/pids; exec sleep 60' {output} & sleep 0.5; exit 1"
    assert run(tmp_path, body) == 1
    (pid,) = wait_for(tmp_path / "pids")
    time.sleep(0.2)
    assert not alive(int(pid))


def test_environment_has_the_defaults_and_the_target_s_scripts_first(tmp_path):
    target = make_target(tmp_path, environ={"PATH": "/usr/bin", "MASTER_PORT": "40001"})
    environ = launch.environment(target)
    assert environ["PATH"].split(os.pathsep) == [str(target.scripts), "/usr/bin"]
    assert (environ["MASTER_PORT"], environ["NNODES"], environ["FORCE_TORCHRUN"]) == ("40001", "1", "1")


def test_without_a_gpu_one_process_is_asked_for(tmp_path):
    """llamafactory-cli counts GPUs for want of NPROC_PER_NODE; torchrun refuses the 0."""
    target = make_target(tmp_path, environ={})
    assert launch.environment(target, gpus=0)["NPROC_PER_NODE"] == "1"
    assert not {"NPROC_PER_NODE"} & launch.environment(target, gpus=8).keys()
    assert launch.environment(make_target(tmp_path, environ={"NPROC_PER_NODE": "2"}), gpus=0)["NPROC_PER_NODE"] == "2"


def test_a_target_without_the_cli_is_one_sentence(tmp_path):
    with pytest.raises(BadInput, match="llamafactory-cli does not exist; install LLaMA-Factory"):
        launch.command(make_target(tmp_path), Path("recipe.yaml"))
