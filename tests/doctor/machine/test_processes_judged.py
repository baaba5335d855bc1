"""Processes against the processors that may be used: of the machine, of a cgroup's quota, of a job's binding."""

from __future__ import annotations

from typing import Any

import pytest

from doctor.details import recipe
from doctor.facts import Facts
from doctor.findings import Finding, Severity
from doctor.machine import processes_judged


def facts(
    cpus: int = 64, quota: float | None = None, ranks: int = 8, gpus: int = 8, rows: int = 17_000, **values: Any
) -> Facts:
    return Facts(
        {
            "machine.cpus": cpus,
            "machine.cgroup_cpus": quota,
            "launch.nproc": ranks,
            "gpu.count": gpus,
            "recipe.path": "r.yaml",
            "recipe.values": values,
            "recipe.lines": dict.fromkeys(values, 3),
            "records.scans": {"d": {"rows": rows}},
        }
    )


def judged(**given: Any) -> list[Finding]:
    known = facts(**given)
    return [found for rule in processes_judged.ALL for found in rule(known)]


@pytest.mark.parametrize(
    ("given", "cause", "what"),
    [
        ({"preprocessing_num_workers": 400}, "data-workers-crash", "starts 400 processes on 64 processors"),
        ({"cpus": 16, "preprocessing_num_workers": 64}, "data-workers-crash", "64 processes on 16 processors"),
        ({"quota": 2.0, "ranks": 1, "dataloader_num_workers": 64}, "data-loader-worker-died",
         "64 processes for each of 1 ranks on 2 processors (the limit of the cgroup)"),
        ({"dataloader_num_workers": 64}, "data-loader-worker-died", "64 processes for each of 8 ranks on 64 processors"),
        ({"cpus": 1}, "train-slow", "8 ranks on 1 processor"),
        ({"quota": 4.0}, "train-slow", "8 ranks on 4 processors (the limit of the cgroup)"),
    ],
)  # fmt: skip
def test_more_than_the_processors_carry(given: dict[str, Any], cause: str, what: str) -> None:
    (found,) = judged(**given)
    assert (found.cause, found.severity) == (cause, Severity.WARNING)
    assert what in found.evidence[0].what


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"preprocessing_num_workers": 16, "cpus": 2, "gpus": 0, "ranks": 2},  # the published recipe on a laptop
        {"preprocessing_num_workers": 128, "cpus": 96},
        {"dataloader_num_workers": 16, "cpus": 104},
        {"preprocessing_num_workers": 400, "rows": 20},  # no more workers than rows
        {"preprocessing_num_workers": True},
        {"preprocessing_num_workers": "400"},
        {"cpus": 1, "gpus": 0},
        {"quota": 8.0},
    ],
)
def test_what_machines_carry_is_not_spoken_of(given: dict[str, Any]) -> None:
    assert judged(**given) == []


def test_what_is_suggested_instead_is_not_spoken_of_again() -> None:
    """A quota counts: a quarter of the workers may still be too many for it."""
    known = facts(quota=2.0, ranks=1, preprocessing_num_workers=400)
    (found,) = processes_judged.tokenising(known)
    suggested = recipe.workers_suggestion(known, found)
    assert suggested == 2
    assert judged(quota=2.0, ranks=1, preprocessing_num_workers=suggested) == []
