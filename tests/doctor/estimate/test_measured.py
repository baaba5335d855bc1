"""The planner against the measured runs of benchmarks/memory: bounds on the held-out half, never "fits" for a loss."""

import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[3] / "benchmarks" / "memory"
sys.path.insert(0, str(FOLDER))
import judge  # noqa: E402

from doctor.estimate import verdict  # noqa: E402

MACHINE, ROWS = judge.load(FOLDER / "h100.jsonl")


@pytest.fixture(scope="module")
def judged():
    return [(row, judge.planner(row, MACHINE)) for row in ROWS]


def test_the_campaign_is_as_large_as_it_says():
    assert sum(row["outcome"] == "trained" for row in ROWS) >= 70
    assert sum(row["outcome"] == "out of memory" for row in ROWS) >= 10
    assert sum(row["half"] == "fit" for row in ROWS) <= len(ROWS) / 2


@pytest.mark.parametrize("half", ["fit", "held out"])
def test_errors_are_within_bounds(judged, half):
    errors = [
        abs(found.gpu - row["nvml"]) / row["nvml"]
        for row, found in judged
        if row["half"] == half and row["outcome"] == "trained"
    ]
    median, tail = judge.spread(errors)
    assert median <= judge.MEDIAN
    assert tail <= judge.TAIL


def test_what_tensors_hold_is_nearly_exact(judged):
    errors = [abs(f.sure - f.context - r["allocated"]) / r["allocated"] for r, f in judged if r["outcome"] == "trained"]
    median, tail = judge.spread(errors)
    assert median <= 0.003
    assert tail <= 0.02


def test_host_memory_is_what_was_measured(judged):
    """Of a run that saved nothing: without what saving would take. Runs without DeepSpeed hold next to nothing."""
    trained = [(r, f) for r, f in judged if r["outcome"] == "trained"]
    gib = 1 << 30
    for row, found in trained:
        expected = found.host.expected - found.host.saving * ("saving" in found.host.parts)
        assert abs(expected - row["host"]) < max(1.5 * gib, 0.12 * row["host"]), row


def test_no_run_that_was_lost_is_called_fitting(judged):
    assert [r for r, found in judged if r["outcome"] != "trained" and found.verdict == verdict.FITS] == []


def test_no_run_that_trained_is_called_impossible(judged):
    assert [r for r, found in judged if r["outcome"] == "trained" and found.verdict == verdict.NOT] == []


def test_the_other_estimators_are_judged_in_the_same_run(capsys):
    assert judge.main(FOLDER / "h100.jsonl") == 0
    shown = capsys.readouterr().out
    assert "DeepSpeed: median error" in shown
    assert "accelerate: median error" in shown
