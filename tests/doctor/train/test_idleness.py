"""Real processes that wait, that compute, and that are gone."""

import subprocess
import sys
import time

import psutil
import pytest

from doctor.train import idleness
from doctor.train.idleness import Idleness

WAITS = "import time\nwhile True: time.sleep(0.1)"
WORKS = "while True: pass"


@pytest.fixture
def started(request):
    process = subprocess.Popen([sys.executable, "-c", request.param])
    yield psutil.Process(process.pid)
    process.kill()
    process.wait()


def watched(processes, seconds=2.5):
    """For how long nothing worked, of the `seconds` watched after the start of an interpreter."""
    time.sleep(0.5)
    idle = Idleness(time.monotonic())
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        idle.look(lambda: processes, time.monotonic())
        time.sleep(0.05)
    return idle.seconds(time.monotonic())


@pytest.fixture(autouse=True)
def often(monkeypatch):
    # not more often: one tick of the clock that counts processor time, 10 ms, is no work
    monkeypatch.setattr(idleness, "LOOK_SECONDS", 0.5)


@pytest.mark.parametrize("started", [WAITS], indirect=True)
def test_a_process_that_only_looks_at_a_lock_is_idle(started):
    assert watched([started]) > 0.8


@pytest.mark.parametrize("started", [WORKS], indirect=True)
def test_a_process_that_computes_is_not(started):
    assert watched([started]) < 0.8


def test_nothing_is_said_of_processes_that_are_not_there():
    assert watched([]) < 0.8
