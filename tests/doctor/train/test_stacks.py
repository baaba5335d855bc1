"""Which rank differs: on stacks made up, and on real processes."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from doctor.train import stacks
from doctor.train.stacks import Place, RankPlace, different

BACKWARD = (
    "_engine_run_backward (torch/autograd/graph.py:825)",
    "backward (torch/autograd/__init__.py:347)",
    "training_step (transformers/trainer.py:3630)",
)
BARRIER = ("barrier (torch/distributed/distributed_c10d.py:4159)", "wait (accelerate/state.py:90)")
FORWARD = ("forward (torch/nn/modules/linear.py:125)", "training_step (transformers/trainer.py:3612)")
DDP = (
    *FORWARD[:1],
    "_call_impl (m.py:1)",
    "forward (q.py:2)",
    "_call_impl (m.py:1)",
    "_run_ddp_forward (torch/nn/parallel/distributed.py:9)",
)
LOADER = (
    "select (selectors.py:415)",
    "_try_get_data (torch/utils/data/dataloader.py:1243)",
    "__next__ (torch/utils/data/dataloader.py:701)",
)
IDLE = ("get (multiprocessing/queues.py:113)", "_worker_loop (torch/utils/data/_utils/worker.py:275)")
READING = ("read (my_storage.py:7)", "fetch (torch/utils/data/_utils/fetch.py:54)")


def rank(number, stack, state="sleeping", workers=()):
    return RankPlace(number, Place(100 + number, state, stack), tuple(workers))


def worker(pid, stack, state="sleeping"):
    return Place(pid, state, stack)


@pytest.mark.parametrize(
    ("places", "found"),
    [
        ([rank(0, BACKWARD), rank(1, BACKWARD, "stopped")], (1, 101)),
        ([rank(0, BACKWARD), rank(1, LOADER, workers=[worker(7, READING, "stopped")])], (1, 7)),
        ([rank(0, BACKWARD), rank(1, FORWARD, "disk-sleep")], (1, 101)),
        ([rank(0, BACKWARD), rank(1, LOADER, workers=[worker(6, IDLE), worker(7, READING)])], (1, 7)),
        ([rank(0, BACKWARD), rank(1, LOADER)], (1, 101)),
        ([rank(0, BARRIER), rank(1, FORWARD), rank(2, BARRIER), rank(3, BARRIER)], (1, 101)),
        ([rank(0, FORWARD), rank(1, FORWARD), rank(2, FORWARD), rank(3, LOADER[:1])], (3, 103)),
        ([rank(0, LOADER, workers=[worker(7, READING)])], (0, 7)),
        ([rank(0, BACKWARD), rank(1, BACKWARD)], None),
        ([rank(0, BACKWARD), rank(1, DDP)], (1, 101)),
        ([rank(0, FORWARD), rank(1, FORWARD)], None),
        ([rank(0, ()), rank(1, ())], None),
        ([], None),
    ],
)
def test_the_rank_that_the_others_wait_for(places, found):
    odd = different(places)
    assert (odd and (odd.rank, odd.pid)) == found
    if odd is not None:
        assert f"rank {odd.rank}" in odd.en
        assert f"rank {odd.rank}" in odd.zh


def test_the_worker_s_own_place_is_told():
    odd = different([rank(0, BACKWARD), rank(1, LOADER, workers=[worker(7, READING)])])
    assert odd.en == "rank 1 (process 101) waits for its data loader, whose worker 7 stands in read (my_storage.py:7)"


def test_the_slow_rank_is_the_one_that_works_in_most_looks():
    looks = [[rank(0, BACKWARD), rank(1, FORWARD)]] * 4 + [[rank(0, BACKWARD), rank(1, BACKWARD)]]
    assert stacks.busiest(looks) == 1
    assert stacks.busiest([[rank(0, FORWARD), rank(1, FORWARD)]] * 5) is None
    assert stacks.busiest([]) is None


CODE = "import time\ndef waits_here():\n    time.sleep(60)\nwaits_here()"


@pytest.fixture
def processes():
    started = [
        subprocess.Popen([sys.executable, "-c", CODE], env={**os.environ, "RANK": str(number)}) for number in (0, 1)
    ]
    time.sleep(0.5)
    yield [psutil.Process(one.pid) for one in started]
    for one in started:
        one.kill()
        one.wait()


def test_real_processes_their_states_and_stacks(processes):
    os.kill(processes[1].pid, signal.SIGSTOP)
    time.sleep(0.1)
    places = stacks.look(processes)
    assert [(one.rank, one.place.pid, one.place.state) for one in places] == [
        (0, processes[0].pid, "sleeping"),
        (1, processes[1].pid, "stopped"),
    ]
    if stacks.program() is not None and places[0].place.unread is None:
        assert all("waits_here" in " ".join(one.place.stack) for one in places)
    assert different(places).rank == 1


def test_without_py_spy_the_states_are_told(processes, monkeypatch):
    monkeypatch.setattr(stacks, "program", lambda: None)
    places = stacks.look(processes)
    assert [one.place.unread for one in places] == ["py-spy is not installed"] * 2
    assert different(places) is None
