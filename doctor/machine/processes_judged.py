"""What the processors of this machine mean for the processes that a launch starts. Pure functions of facts.

A container and a Slurm job may use fewer processors than the machine has: by a quota of the cgroup, or by the set of
processors that they are bound to (one, where a job does not ask for more).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from doctor.estimate.from_facts import records
from doctor.facts import Facts
from doctor.findings import Finding, Severity, found, in_recipe

_found = partial(found, "machine")

CALM = 32  # processes that are nowhere too many: example recipes ask for 16
TO_TOKENISE, TO_LOAD = 2, 4  # workers to a processor; those that load wait most of the time


def usable(facts: Facts) -> float:
    """Processors that this process and its children may use."""
    quota = facts.get("machine.cgroup_cpus")
    return min(facts["machine.cpus"], quota) if quota else facts["machine.cpus"]


def _told(facts: Facts) -> str:
    cpus, quota = facts["machine.cpus"], facts.get("machine.cgroup_cpus")
    few = usable(facts)
    return f"{few:g} processor{'' if few == 1 else 's'}" + (
        " (the limit of the cgroup)" if quota and quota < cpus else ""
    )


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def tokenising(facts: Facts) -> Iterator[Finding]:
    """`datasets` starts no more workers than there are rows."""
    key = "preprocessing_num_workers"
    asked, rows = _whole(facts["recipe.values"].get(key)), records(facts)
    workers = asked if rows is None else min(asked, int(rows))
    if workers > max(CALM, TO_TOKENISE * usable(facts)):
        what = f"{key} starts {workers} processes on {_told(facts)}"
        yield _found("data-workers-crash", what, in_recipe(facts, key), Severity.WARNING)


def loading(facts: Facts) -> Iterator[Finding]:
    """Every rank of the node has loaders of its own."""
    key = "dataloader_num_workers"
    each, ranks = _whole(facts["recipe.values"].get(key)), facts["launch.nproc"]
    if each * ranks > max(CALM, TO_LOAD * usable(facts)):
        what = f"{key} starts {each} processes for each of {ranks} ranks on {_told(facts)}"
        yield _found("data-loader-worker-died", what, in_recipe(facts, key), Severity.WARNING)


def ranks_to_processors(facts: Facts) -> Iterator[Finding]:
    """A rank keeps one processor busy with starting kernels; with fewer than ranks they wait for each other."""
    ranks = facts["launch.nproc"]
    if facts["gpu.count"] > 0 and usable(facts) < ranks:
        what = f"{ranks} rank{'' if ranks == 1 else 's'} on {_told(facts)}"
        yield _found("train-slow", what, "processors", Severity.WARNING, few_cpus=True)


ALL = (tokenising, loading, ranks_to_processors)
