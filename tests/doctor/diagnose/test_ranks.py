"""The logs of all ranks in one folder, two streams each, as torchrun writes them: the first failure, its rank and node."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from doctor.diagnose import Diagnosis, diagnose

BEGIN = "[INFO|trainer.py:2313] 2026-11-26 10:00:00,000 >> ***** Running training *****\n"
STEPS = "".join(f"{{'loss': {2 - step / 10:.4f}, 'grad_norm': 1.0, 'learning_rate': 1e-05}}\n" for step in range(8))
LEFT = (
    "Traceback (most recent call last):\n"
    '  File "/env/lib/python3.11/site-packages/torch/distributed/distributed_c10d.py", line 2501, in all_reduce\n'
    "    work.wait()\n"
    "torch.distributed.DistBackendError: NCCL error in: ../ProcessGroupNCCL.cpp:1970, remote process exited or there was "
    "a network error\n"
)
FULL = (
    "Traceback (most recent call last):\n"
    '  File "/work/LLaMA-Factory/src/train.py", line 3, in <module>\n'
    "    loss.backward()\n"
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.90 GiB. GPU 3 has a total capacity of 79.10 GiB of "
    "which 1.20 GiB is free. Of the allocated memory 70.00 GiB is allocated by PyTorch, and 3.00 GiB is reserved by "
    "PyTorch but unallocated.\n"
)


def run(folder: Path, ranks: int, failing: int | None, end: str = FULL) -> Diagnosis:
    """`failing` fails first with `end`; all others see it go. None: all see somebody go who left no log."""
    for rank in range(ranks):
        mine = folder / f"rank{rank}.node{rank // 8:03d}"
        mine.with_suffix(f"{mine.suffix}.out.log").write_text(STEPS if rank == 0 else "")
        log = mine.with_suffix(f"{mine.suffix}.err.log")
        log.write_text(BEGIN + (end if rank == failing else LEFT))
        if rank == failing:
            os.utime(log, (1, 1))  # it stopped writing before the others
    return diagnose([folder])


@pytest.mark.parametrize("failing", [0, 11])
def test_steps_in_another_stream_do_not_make_a_failure_one_that_was_caught(tmp_path: Path, failing: int) -> None:
    found = run(tmp_path, 16, failing).findings[0]
    assert (found.cause, found.rank) == ("cuda-oom", failing)
    assert found.evidence[0].where.startswith(f"rank{failing}.node{failing // 8:03d}.err.log:")


def test_a_rank_that_only_saw_its_peer_go_after_many_steps_is_told(tmp_path: Path) -> None:
    assert run(tmp_path, 2, None).findings[0].cause == "nccl-peer-exited"
    alone = tmp_path / "alone.txt"
    alone.write_text(BEGIN + STEPS + LEFT)
    assert diagnose([alone]).findings[0].cause == "nccl-peer-exited"


def test_what_was_caught_in_one_log_is_still_no_failure(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    log.write_text(BEGIN + FULL + STEPS)
    assert diagnose([log]).findings == ()


def test_the_rank_that_failed_first_is_read_among_more_logs_than_a_rack_has(tmp_path: Path) -> None:
    found = run(tmp_path, 520, 333).findings[0]
    assert (found.cause, found.rank) == ("cuda-oom", 333)
