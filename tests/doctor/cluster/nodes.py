"""Captures for tests: nodes that are equal except for what a test says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from doctor.cluster.capture import Capture

GIB = 1 << 30


def facts(number: int, count: int) -> dict[str, Any]:
    """What one of `count` healthy nodes says; only the facts that the rules compare."""
    address = f"10.0.{number // 250}.{number % 250 + 1}"
    return {
        "node.host": f"node{number:03d}",
        "node.kernel": "6.1.0",
        "node.machine": "x86_64",
        "node.user": 1000,
        "node.failed": None,
        "node.clock_ahead": 0.01 * (number % 7),
        "python.version": "3.11.7",
        "packages.versions": {"deepspeed": "0.15.4", "torch": "2.5.1", "rich": "13.0.0"},
        "gpu.driver": "550.54",
        "gpu.count": 8,
        "gpu.devices": [{"name": "NVIDIA H100", "memory_total": 80 * GIB}] * 8,
        "launch.nnodes": count,
        "launch.node_rank": number,
        "launch.nproc_given": False,
        "launch.master_addr": "10.0.0.1",
        "launch.master_port": 29501,
        "launch.environ": {"NNODES": str(count), "NODE_RANK": str(number)},
        "network.master": {"name": "10.0.0.1", "addresses": ["10.0.0.1"], "error": None},
        "network.here": number == 0,
        "network.interfaces": {
            "lo": {"up": True, "addresses": ["127.0.0.1/8"]},
            "ib0": {"up": True, "addresses": [f"{address}/16"]},
            "docker0": {"up": True, "addresses": ["172.17.0.1/16"]},
        },
        "network.route": {"address": "10.0.0.1", "source": address, "interface": "ib0", "error": None},
        "meeting.heard": [] if number == 0 else None,
        "meeting.reached": None if number == 0 else True,
        "meeting.span": [100.0, 108.0],
        "files.seen": {"recipe": {"recipe.yaml": {"size": 10, "digest": "a" * 16}}},
        "files.mounts": {"output_dir": {"path": "/shared/saves", "type": "nfs4", "source": "nas:/shared"}},
        "recipe.values": {"save_strategy": "steps"},
        "machine.shm": {"total": 500 * GIB, "free": 400 * GIB},
        "machine.memory_total": 1000 * GIB,
        "machine.cpus": 128,
        "machine.limits": {"memlock": -1, "nofile": 65536, "nproc": 1000},
    }


def capture(count: int, odd: Mapping[int, Mapping[str, Any]] | None = None, **everywhere: Any) -> Capture:
    """`odd`: node number -> facts of its own; `everywhere`: facts of all, written `launch__nnodes`."""
    made = Capture()
    common = {name.replace("__", "."): value for name, value in everywhere.items()}
    for number in range(count):
        made.add(f"node{number:03d}", {**facts(number, count), **common, **(odd or {}).get(number, {})})
    return made
