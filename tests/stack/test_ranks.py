"""Ranks of `check --deep` on the target's real torch with gloo: sound ones meet; one that is stopped or killed is named."""

import os
import signal
import threading
import time

import psutil
import pytest

from doctor.facts import Facts
from doctor.gpu.deep import ranks
from doctor.probes import collective
from tests.stack.environments import Environment, plain_environ

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    return Environment(tmp_path_factory.mktemp("ranks") / "env", "torch==2.5.1", "numpy<2").python


def at_work(python, tmp_path, number=None, count=2, seconds=20.0):
    """What `count` ranks told; the last one was sent `number` as soon as all were there."""
    told = {}
    work = threading.Thread(
        target=lambda: told.update(ranks.run(python, tmp_path, plain_environ(), count, "cpu", 90, seconds)), daemon=True
    )
    work.start()
    sent = number is None
    while work.is_alive():
        for child in [] if sent else psutil.Process().children():
            try:
                forked = sorted(process.pid for process in child.children())
            except psutil.NoSuchProcess:
                continue
            if len(forked) == count:
                os.kill(forked[-1], number)
                sent = True
        time.sleep(0.002)
    facts = {"collective.device": "cpu", "collective.ranks": told["ranks"]}
    facts["collective.diagnosed"] = collective._diagnosed(told["ranks"], Facts())
    return told, list(collective.ranks_meet(Facts(facts)))


def test_sound_ranks_meet_within_half_a_minute(python, tmp_path):
    told, found = at_work(python, tmp_path, count=4, seconds=ranks.WORK_SECONDS)
    assert found == []
    assert [rank["stage"] for rank in told["ranks"]] == ["done"] * 4
    assert all(rank["matmul"] > 1e8 and rank["memory"] > 1e8 and rank["bus"] > 1e6 for rank in told["ranks"])
    assert told["seconds"] < ranks.WORK_SECONDS


def test_a_stopped_rank_is_named_at_the_deadline_and_nothing_is_left(python, tmp_path):
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    told, (finding,) = at_work(python, tmp_path, signal.SIGSTOP, seconds=8.0)
    assert (finding.cause, finding.rank) == ("nccl-timeout", 1)
    assert told["seconds"] < 10
    assert {process.pid for process in psutil.Process().children(recursive=True)} <= before


def test_a_killed_rank_is_named_without_waiting_for_the_deadline(python, tmp_path):
    told, (finding,) = at_work(python, tmp_path, signal.SIGKILL, seconds=60.0)
    assert (finding.cause, finding.rank) == ("nccl-peer-exited", 1)
    assert "signal 9" in finding.evidence[0].what
    assert told["seconds"] < 20
