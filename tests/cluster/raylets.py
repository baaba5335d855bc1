"""A Ray cluster of several raylets on this machine, by Ray's own cluster utility; one of them from another environment.

SKYT1_RAY_ENV=/path/to/env          llamafactory 0.9.5, torch 2.11.0, ray[default,train]
SKYT1_RAY_OTHER_ENV=/path/to/env    the same Ray and Python, other packages
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

VARIABLE, OTHER = "SKYT1_RAY_ENV", "SKYT1_RAY_OTHER_ENV"
_CHILD = """
import sys, time
import ray
from ray.cluster_utils import Cluster
def patient(make, attempts=6):  # Ray gives a raylet 30 s, which a busy machine does not keep
    for attempt in range(attempts):
        try:
            return make()
        except Exception as late:
            print(late, file=sys.stderr)
    sys.exit(1)

cluster = patient(lambda: Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False}))
nodes = [patient(lambda: cluster.add_node(num_cpus=2)) for _ in range(int(sys.argv[1]) - 1)]
print(cluster.address, flush=True)
for line in sys.stdin:
    if line.strip() == "kill":
        cluster.remove_node(nodes.pop(), allow_graceful=False)
        print("killed", flush=True)
    if line.strip() == "enlarge":
        ray.init(address=cluster.address, logging_level="ERROR")
        while not any(group["state"] == "PENDING" for group in ray.util.placement_group_table().values()):
            time.sleep(0.5)
        for _ in range(2):
            patient(lambda: cluster.add_node(num_cpus=10))
        print("enlarged", flush=True)
cluster.shutdown()
"""

# What Cluster.add_node does, from the interpreter of another environment: `ray start` wants ports that the head has.
_OTHER = """
import sys
from ray._private.node import Node
from ray._private.parameter import RayParams
asked = RayParams(gcs_address=sys.argv[1], num_cpus=2, num_gpus=0, object_store_memory=150 << 20, min_worker_port=0,
                  max_worker_port=0, node_manager_port=0, include_log_monitor=False)
asked.dashboard_agent_listen_port = None
for attempt in range(6):  # Ray gives a raylet 30 s, which a busy machine does not keep
    try:
        node = Node(asked, head=False, shutdown_at_exit=True, spawn_reaper=True)
        break
    except Exception as late:
        print(late, file=sys.stderr)
else:
    sys.exit(1)
print("joined", flush=True)
sys.stdin.read()
"""


class Raylets:
    """`with Raylets(python, 2) as cluster: cluster.address`."""

    def __init__(self, python: Path, count: int, other: Path | None = None) -> None:
        self.python, self.count, self.other = python, count, other
        self.address = ""
        self._joined: subprocess.Popen[str] | None = None

    def __enter__(self) -> Raylets:
        environ = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
        self._child = subprocess.Popen(
            [str(self.python), "-c", _CHILD, str(self.count)], env=environ, text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert self._child.stdout is not None
        self.address = self._child.stdout.readline().strip()
        if not self.address:
            raise RuntimeError("Ray's cluster utility did not start")
        if self.other is not None:
            self._joined = subprocess.Popen(
                [str(self.other), "-c", _OTHER, self.address], env=environ, text=True, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            assert self._joined.stdout is not None
            if self._joined.stdout.readline().strip() != "joined":
                raise RuntimeError("the raylet of the other environment did not start")
        return self

    def kill_one(self) -> None:
        """A raylet with all its workers, without a word."""
        assert self._child.stdin is not None
        self._child.stdin.write("kill\n")
        self._child.stdin.flush()

    def enlarge(self) -> None:
        """Two raylets of 10 CPUs join as soon as somebody waits for a placement group."""
        assert self._child.stdin is not None
        self._child.stdin.write("enlarge\n")
        self._child.stdin.flush()

    def __exit__(self, *_: object) -> None:
        for process in (self._joined, self._child):
            if process is None:
                continue
            assert process.stdin is not None
            process.stdin.close()  # its raylets shut down at the end of its input
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def installed() -> bool:
    """Whether the environments are given; they hold gigabytes and are not installed by the way."""
    return all(os.environ.get(name) for name in (VARIABLE, OTHER))


def python(variable: str) -> Path:
    return Path(os.environ[variable]) / "bin" / "python"


if __name__ == "__main__":
    with Raylets(Path(sys.executable), int(sys.argv[1])) as started:
        print(started.address, flush=True)
        sys.stdin.readline()
