"""What the limits of this shell mean for a launch: open files, threads, locked memory, the address space. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from doctor.facts import Facts
from doctor.findings import Finding, Severity, found

_found = partial(found, "machine")

OPEN_FILES = 1024  # the default of every distribution; a run with shards, loaders and sockets passes a few hundred
THREADS_A_RANK = (
    256  # of torch, NCCL, the tokenizers and the loader of one rank, with OMP at its default on a large node
)
LOCKED = 64 << 20  # bytes; InfiniBand registers buffers of tens of megabytes


def open_files(facts: Facts) -> Iterator[Finding]:
    limit = facts["machine.limits"]["nofile"]
    if 0 <= limit < OPEN_FILES:
        what = f"ulimit -n is {limit}; the default is {OPEN_FILES} or more"
        yield _found("launch-too-many-open-files", what, "ulimit -n", Severity.WARNING, limit=limit)


def threads(facts: Facts) -> Iterator[Finding]:
    """The limit counts all threads of the user; root is not bound by it."""
    limit, ranks = facts["machine.limits"]["nproc"], facts["launch.nproc"]
    if facts["machine.user"] != 0 and 0 <= limit < THREADS_A_RANK * ranks:
        what = f"ulimit -u is {limit}; {ranks} ranks start up to {THREADS_A_RANK * ranks} threads"
        yield _found("launch-thread-limit", what, "ulimit -u", Severity.WARNING, limit=limit)


def locked_memory(facts: Facts) -> Iterator[Finding]:
    """NCCL over InfiniBand between nodes registers its buffers as locked memory."""
    limit = facts["machine.limits"]["memlock"]
    if facts["launch.nnodes"] > 1 and facts["machine.infiniband"] and 0 <= limit < LOCKED:
        devices = ", ".join(facts["machine.infiniband"][:4])
        what = f"ulimit -l is {limit >> 10} KiB, and NCCL will use {devices} between the nodes"
        yield _found("nccl-memlock", what, "ulimit -l", limit=limit)


ALL = (open_files, threads, locked_memory)
