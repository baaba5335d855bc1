"""Every recorded log: its own cause first, near misses and healthy runs without it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from doctor.diagnose import diagnose, events
from knowledge_base.index import index
from knowledge_base.schema import Role, Severity

LOGS = Path(__file__).parents[2] / "logs"
HEALTHY = sorted((LOGS / "healthy").glob("*.log"))


def name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


@pytest.mark.parametrize("log", sorted(LOGS.glob("*/positive*.log")), ids=name)
def test_the_cause_comes_first(log: Path) -> None:
    known = index().summaries[log.parent.name]
    if known.severity is Severity.INFO:
        pytest.skip("what is no error is never told alone")
    found = [finding.cause for finding in diagnose([log]).findings]
    beside = known.role is not Role.ROOT or known.id == "train-oom-fragmentation"  # explains a part of cuda-oom
    assert known.id in found if beside else found[:1] == [known.id]


@pytest.mark.parametrize("log", sorted(LOGS.glob("*/near-miss*.log")), ids=name)
def test_a_near_miss_is_not_taken_for_the_cause(log: Path) -> None:
    assert log.parent.name not in [finding.cause for finding in diagnose([log]).findings]


@pytest.mark.parametrize("log", HEALTHY, ids=name)
def test_a_healthy_run_gives_nothing(log: Path) -> None:
    result = diagnose([log])
    assert (result.findings, result.unrecognised) == ((), None)


def test_there_are_enough_healthy_runs() -> None:
    assert len(HEALTHY) >= 25


@pytest.mark.parametrize("log", [log for log in HEALTHY if "failed-first" not in log.name], ids=name)
def test_a_healthy_run_gives_nothing_while_it_trains(log: Path, tmp_path: Path) -> None:
    """Cut after the training has begun, the log of a good run still shows no failure."""
    lines = log.read_text().split("\n")
    steps = [number for number, line in enumerate(lines) if re.search(events.STEP, line.split("\r")[-1])]
    if len(steps) < 5:
        pytest.skip("no training in it")
    for number in range(steps[4], len(lines), max(1, len(lines) // 12)):
        cut = tmp_path / "cut.log"
        cut.write_text("\n".join(lines[:number]))
        result = diagnose([cut])
        assert (result.findings, result.unrecognised) == ((), None), f"cut at line {number}"


@pytest.mark.parametrize("message", ["ValueError: the frobnicator is not wound up", "KeyError: 'zork'"])
@pytest.mark.parametrize("log", HEALTHY, ids=name)
def test_what_a_good_run_says_does_not_explain_a_failure_that_nobody_knows(
    log: Path, message: str, tmp_path: Path
) -> None:
    failed = tmp_path / "run.log"
    end = (
        f'Traceback (most recent call last):\n  File "/home/user/mine.py", line 3, in <module>\n    main()\n{message}\n'
    )
    failed.write_text(log.read_text(errors="replace") + "\n" + end)
    result = diagnose([failed])
    assert (result.findings, result.unrecognised is not None) == ((), True)


def test_a_failure_after_a_good_end_counts(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    log.write_text(
        (LOGS / "healthy" / "h100-zero3.log").read_text()
        + "\nTraceback (most recent call last):\n"
        + '  File "/home/user/LLaMA-Factory/src/llamafactory/train/tuner.py", line 50, in run_exp\n'
        + "    trainer.save_model()\n"
        + "OSError: [Errno 122] Disk quota exceeded\n"
    )
    assert [finding.cause for finding in diagnose([log]).findings][:1] == ["disk-quota"]
