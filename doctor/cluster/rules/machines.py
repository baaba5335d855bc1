"""GPUs, clocks, shared memory and limits that are not the same on every node."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from doctor.cluster import hostlist
from doctor.cluster.capture import Capture
from doctor.cluster.rules.contrast import Across, across, labelled, merged, odd, sentence
from doctor.findings import Severity

RULE = "nodes.machines"

SKEW_SECONDS = (
    5.0  # the way of an answer takes less than a second; Kerberos and TLS give minutes, make and rsync seconds
)
_GIB = 1 << 30


def gpus_differ(capture: Capture) -> Iterator[Across]:
    """Other counts or other models; without any GPU on some nodes the run cannot start."""
    counts = merged(capture.groups("gpu.count"))
    models = merged(capture.groups("gpu.devices"), lambda devices: _models(devices) or None)
    evidence: list[tuple[str, str]] = []
    nodes: list[str] = []
    if len(counts) > 1:
        evidence.append((sentence(counts, lambda count: f"{count} GPUs", str), "gpu"))
        nodes += odd(counts)
    if len(models) > 1:
        evidence.append((sentence(models), "gpu"))
        nodes += odd(models)
    if evidence:
        none = any(group.value == 0 for group in counts)
        given = all(capture.of("launch.nproc_given").values())
        severity = None if len(counts) > 1 and (none or not given) else Severity.WARNING
        yield across(RULE, "cluster-gpus-differ", evidence, nodes, severity)


def _models(devices: list[dict[str, Any]]) -> str:
    names: dict[str, int] = {}
    for device in devices:
        name = f"{device.get('name')} {round((device.get('memory_total') or 0) / _GIB)} GiB"
        names[name] = names.get(name, 0) + 1
    return ", ".join(f"{count} × {name}" for name, count in names.items())


def clocks(capture: Capture) -> Iterator[Across]:
    """Clocks against the middle of all; an answer's own way is in the figure, so a few seconds are no finding."""
    ahead = capture.of("node.clock_ahead")
    if len(ahead) < 2:
        return
    middle = statistics.median_low(ahead.values())
    off = {node: seconds - middle for node, seconds in ahead.items() if abs(seconds - middle) > SKEW_SECONDS}
    if not off:
        return
    far = sorted(off, key=lambda node: -abs(off[node]))
    told = [(f"{node}: {off[node]:+.0f} s", "clock") for node in far[:10]]
    if len(far) > 10:
        told.append((f"{hostlist.fold(far)}: more than {SKEW_SECONDS:.0f} s from the others", "clock"))
    yield across(RULE, "cluster-clock-skew", told, far)


def machines_differ(capture: Capture) -> Iterator[Across]:
    """What a job script takes for granted to be equal: memory, cores, /dev/shm, limits."""
    evidence: list[tuple[str, str]] = []
    nodes: list[str] = []
    for shown, fact, value in (
        ("/dev/shm", "machine.shm", lambda shm: f"{shm['total'] / _GIB:.0f} GiB"),
        ("memory", "machine.memory_total", lambda bytes_: f"{bytes_ / _GIB:.0f} GiB"),
        ("cores", "machine.cpus", str),
        ("architecture", "node.machine", str),
        ("user id", "node.user", str),
    ):
        groups = merged(capture.groups(fact), value)
        if len(groups) > 1:
            evidence.append((sentence(groups, labelled(shown), str), shown))
            nodes += odd(groups)
    for name in ("memlock", "nofile", "nproc"):
        groups = merged(capture.groups("machine.limits"), partial(_limit, name))
        if len(groups) > 1:
            evidence.append((sentence(groups, labelled(name), str), f"ulimit {name}"))
            nodes += odd(groups)
    if evidence:
        grave = {"architecture", "user id"} & {where for _, where in evidence}
        yield across(RULE, "cluster-machines-differ", evidence, nodes, Severity.WARNING if grave else None)


def _limit(name: str, limits: Mapping[str, int]) -> str | None:
    value = limits.get(name)
    return None if value is None else "unlimited" if value == -1 else str(value)


RULES = (gpus_differ, clocks, machines_differ)
