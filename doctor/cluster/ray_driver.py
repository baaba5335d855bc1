"""Runs in the target, which has Ray: starts the collector on every node of a Ray cluster and prints what comes back.

    python ray_driver.py ADDRESS ZIPAPP REQUEST SECONDS

It stands alone. The worker's own interpreter is the one that is examined: it is what would train there.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any


def collect(zipapp: bytes, request: dict[str, Any], seconds: float) -> str:
    """On a node: the collector's lines, or why there are none."""
    import os
    import tempfile

    handle, name = tempfile.mkstemp(prefix="skyt1-doctor-", suffix=".pyz")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(zipapp)
        wanted = json.dumps({**request, "python": sys.executable})
        answer = subprocess.run(
            [sys.executable, "-I", name, "collect", wanted],
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"@skyt1-reason {request['name']} the collector did not answer within {seconds:g} s\n"
    finally:
        os.unlink(name)
    if answer.returncode:
        why = " ".join(answer.stderr.split())[-200:]
        return f"@skyt1-reason {request['name']} the collector failed: {why}\n"
    return answer.stdout


def names(nodes: list[dict[str, Any]]) -> list[str]:
    """A name for each node: its address, with a part of its id where several raylets share one."""
    addresses = [node["NodeManagerAddress"] for node in nodes]
    return [
        address if addresses.count(address) == 1 else f"{address}-{node['NodeID'][:6]}"
        for node, address in zip(nodes, addresses, strict=True)
    ]


def say(line: str) -> None:
    sys.stdout.write(line)
    sys.stdout.flush()


def main() -> None:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    address, zipapp, text, seconds = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])
    until = time.monotonic() + seconds
    request = json.loads(text)
    ray.init(address=address, log_to_driver=False, logging_level="ERROR", configure_logging=False)
    listed = ray.nodes()
    alive = sorted(
        (node for node in listed if node["Alive"]),
        key=lambda node: (
            "node:__internal_head__" not in node["Resources"],
            node["NodeManagerAddress"],
            node["NodeID"],
        ),
    )
    named = names(alive)
    for name in named:
        say(f"@skyt1-expect {name}\n")
    for node in listed:
        if not node["Alive"] and node["NodeManagerAddress"] not in {other["NodeManagerAddress"] for other in alive}:
            say(f"@skyt1-reason {node['NodeManagerAddress']} Ray says that the node is dead\n")
    with open(zipapp, "rb") as file:
        sent = ray.put(file.read())
    task = ray.remote(num_cpus=0, max_retries=0)(collect)
    asked: dict[Any, str] = {}
    for rank, (name, node) in enumerate(zip(named, alive, strict=True)):
        launch = {"NNODES": str(len(alive)), "NODE_RANK": str(rank), "MASTER_ADDR": alive[0]["NodeManagerAddress"]}
        own = {
            **request,
            "name": name,
            "environ": {**launch, **request.get("environ", {})},
            "facts": {"ray.resources": {k: v for k, v in node["Resources"].items() if ":" not in k}},
        }
        place = NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False)
        asked[task.options(scheduling_strategy=place).remote(sent, own, seconds)] = name
    waiting = list(asked)
    while waiting and (left := until - time.monotonic()) > 0:
        ready, waiting = ray.wait(waiting, num_returns=1, timeout=left)
        for reference in ready:
            try:
                say(ray.get(reference))
            except ray.exceptions.RayError as error:
                first = " ".join(str(error).split("\n")[0].split())[:200]
                say(f"@skyt1-reason {asked[reference]} {type(error).__name__}: {first}\n")


if __name__ == "__main__":
    main()
