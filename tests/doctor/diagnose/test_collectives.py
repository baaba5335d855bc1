"""Which ranks kept the others waiting."""

from pathlib import Path

import pytest

from doctor.diagnose import diagnose

HEAD = "[rank{0}]:[E626 06:24:44.903 ProcessGroupNCCL.cpp:616] "
AT = "last enqueued NCCL work: {2}, last completed NCCL work: {3}."
TIMEOUT = HEAD + (
    "[Rank {0}] Watchdog caught collective operation timeout: WorkNCCL(SeqNum={1}, OpType=ALLREDUCE, NumelIn=9, "
    "NumelOut=9, Timeout(ms)=600000) ran for 600020 milliseconds before timing out."
)
STATE = HEAD + (
    "[PG ID {4} PG GUID {4}(default_pg) Rank {0}] Exception (either an error or timeout) detected by watchdog at "
    "work: {1}, " + AT
)
OLDER = "[rank{0}]:[E ProcessGroupNCCL.cpp:1537] [PG {4} Rank {0}] Timeout at NCCL work: {1}, " + AT
NEWER = HEAD + (
    "[PG ID {4} PG GUID {4} Rank {0}]  failure detected by watchdog at work sequence id: {1} PG status: last enqueued "
    "work: {2}, last completed work: {3}"
)
DUMP = HEAD + (
    "[PG ID {4} PG GUID {4} Rank {0}] Received a dump signal due to a collective timeout from another rank and we will "
    "try our best to dump the debug info. Last enqueued NCCL work: {2}, last completed NCCL work: {3}."
)

TOLD = ("behind_ranks", "silent_ranks", "waited_in", "parted_in", "parted")


def told(tmp_path: Path, *lines: str) -> dict[str, str]:
    log = tmp_path / "train.log"
    log.write_text("\n".join(lines) + "\n")
    finding = diagnose([log]).findings[0]
    assert finding.cause == "nccl-timeout"
    return {key: value for key, value in finding.details.items() if key in TOLD}


@pytest.mark.parametrize("state", [STATE, OLDER, NEWER])
def test_a_rank_that_had_not_begun_what_the_others_waited_in_is_behind(tmp_path: Path, state: str) -> None:
    lines = [TIMEOUT.format(1, 808), state.format(1, 808, 811, 807, 0), TIMEOUT.format(0, 808)]
    lines += [state.format(0, 808, 811, 807, 0), TIMEOUT.format(2, 806), state.format(2, 806, 806, 805, 0)]
    assert told(tmp_path, *lines) == {"behind_ranks": "2", "waited_in": "808"}


def test_the_state_that_a_rank_tells_at_a_dump_counts(tmp_path: Path) -> None:
    lines = [TIMEOUT.format(1, 808), STATE.format(1, 808, 811, 807, 0), DUMP.format(3, 0, 800, 800, 0)]
    assert told(tmp_path, *lines) == {"behind_ranks": "3", "waited_in": "808"}


def test_numbers_of_several_groups_are_not_compared(tmp_path: Path) -> None:
    lines = [TIMEOUT.format(1, 808), STATE.format(1, 808, 811, 807, 0), STATE.format(1, 3, 3, 2, 5)]
    lines += [TIMEOUT.format(0, 808), STATE.format(0, 808, 811, 807, 0)]
    assert told(tmp_path, *lines) == {}


def test_a_rank_that_is_seen_and_says_nothing_is_silent(tmp_path: Path) -> None:
    lines = [f"[rank{rank}]: step 100" for rank in range(4)]
    lines += [TIMEOUT.format(rank, 7) for rank in (0, 1, 3)]
    assert told(tmp_path, *lines) == {"silent_ranks": "2"}


def test_the_world_size_tells_of_a_rank_that_printed_nothing_at_all(tmp_path: Path) -> None:
    lines = [
        "[INFO|2025-01-01 00:00:00] llamafactory.hparams.parser:143 >> Process rank: 0, world size: 4, device: cuda:0"
    ]
    lines += [TIMEOUT.format(rank, 7) for rank in (0, 1, 2)]
    assert told(tmp_path, *lines) == {"silent_ranks": "3"}


def test_of_an_excerpt_nobody_is_called_silent(tmp_path: Path) -> None:
    lines = ["Process rank: 0, world size: 8, device: cuda:0", TIMEOUT.format(5, 7)]
    assert told(tmp_path, *lines) == {}


def test_ranks_that_wait_in_different_operations_have_parted(tmp_path: Path) -> None:
    """Under ZeRO-3 one rank gathers the weights of the vision tower, the other those of the next layer."""
    gather = TIMEOUT.replace("ALLREDUCE, NumelIn=9, NumelOut=9", "_ALLGATHER_BASE, NumelIn={2}, NumelOut=18")
    lines = [gather.format(0, 808, 75264), gather.format(1, 808, 2359296), gather.format(2, 808, 2359296)]
    parted = "rank 0: _ALLGATHER_BASE of 75264, rank 1: _ALLGATHER_BASE of 2359296"
    assert told(tmp_path, *lines) == {"parted_in": "808", "parted": parted}
    lines = [TIMEOUT.format(0, 808), gather.format(1, 808, 9)]
    assert told(tmp_path, *lines)["parted"] == "rank 0: ALLREDUCE of 9, rank 1: _ALLGATHER_BASE of 9"


def test_the_same_operation_under_other_numbers_is_no_parting(tmp_path: Path) -> None:
    uneven = TIMEOUT.replace("ALLREDUCE, NumelIn=9", "ALLTOALL_BASE, NumelIn={2}")  # ranks may bring more or less here
    assert "parted" not in told(tmp_path, uneven.format(0, 808, 5), uneven.format(1, 808, 7))
    assert "parted" not in told(tmp_path, TIMEOUT.format(0, 808), TIMEOUT.format(1, 809))


def test_a_real_run_whose_ranks_parted() -> None:
    """Two H100, torch 2.11: one rank gathers 75,264 elements, the other 2,359,296."""
    log = Path(__file__).parents[2] / "logs/nccl-timeout/positive-parted-h100.log"
    found = diagnose([log]).findings[0]
    parted = "rank 0: _ALLGATHER_BASE of 75264, rank 1: _ALLGATHER_BASE of 2359296"
    assert (found.cause, found.details["parted_in"], found.details["parted"]) == ("nccl-timeout", "2", parted)
