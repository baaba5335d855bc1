"""Two hosts, one process on each, over gloo: trained to the end; and a host that dies half way, named from the logs."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from doctor.diagnose import diagnose
from tests.cluster import toy, two_hosts
from tests.cluster.two_hosts import ADDRESSES, LINKS, TwoHosts

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(os.geteuid() != 0 or bool(two_hosts.missing()), reason="needs root, iproute2 and iptables"),
]
LIMIT = 400.0  # seconds for one run


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return toy.environment(tmp_path_factory.mktemp("env"))


@pytest.fixture
def hosts() -> Iterator[TwoHosts]:
    with TwoHosts() as made:
        yield made


class Run:
    """`llamafactory-cli train` on both hosts, each with a log of its own."""

    def __init__(self, hosts: TwoHosts, place: Any, environment: Any, folder: Path, **environ: str) -> None:
        self.logs = [folder / f"rank{host}.{name}.log" for host, name in enumerate(two_hosts.NAMES)]
        self.processes: list[subprocess.Popen[str]] = []
        for host, log in enumerate(self.logs):
            launch = {
                "FORCE_TORCHRUN": "1", "NNODES": "2", "NODE_RANK": str(host), "NPROC_PER_NODE": "1",
                "MASTER_ADDR": ADDRESSES[0], "MASTER_PORT": "29501", "GLOO_SOCKET_IFNAME": LINKS[host],
            }  # fmt: skip
            argv = [str(environment.python.parent / "llamafactory-cli"), "train", str(place.recipe)]
            with log.open("wb") as file:
                streams = {"stdout": file, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
                given = {**environment.environ, **launch, **environ}
                started = hosts.start(host, argv, cwd=place.root, env=given, start_new_session=True, **streams)
                self.processes.append(started)

    def wait(self, seconds: float = LIMIT) -> list[int]:
        end = time.monotonic() + seconds
        return [process.wait(max(1.0, end - time.monotonic())) for process in self.processes]

    def until(self, words: str, host: int = 0, seconds: float = LIMIT) -> None:
        end = time.monotonic() + seconds
        while words not in self.logs[host].read_text(errors="replace"):
            assert time.monotonic() < end, self.logs[host].read_text(errors="replace")[-2000:]
            time.sleep(0.3)

    def kill(self, host: int) -> None:
        """Every process of a host at once. torchrun gives each rank a session of its own: the namespace tells them."""
        listed = subprocess.run(
            ["ip", "netns", "pids", two_hosts.NAMES[host]], capture_output=True, text=True, check=True
        )
        for pid in listed.stdout.split():
            os.kill(int(pid), signal.SIGKILL)


def test_trained_to_the_end(hosts: TwoHosts, environment: Any, tmp_path: Path) -> None:
    place = toy.place(tmp_path, environment)
    run = Run(hosts, place, environment, tmp_path)
    assert run.wait() == [0, 0]
    assert place.trained()
    assert "world size: 2" in run.logs[0].read_text() or "distributed training: True" in run.logs[0].read_text()


def test_a_host_that_dies_half_way_is_named_from_the_logs(hosts: TwoHosts, environment: Any, tmp_path: Path) -> None:
    place = toy.place(tmp_path, environment, max_steps=100000, save_strategy="no")
    run = Run(hosts, place, environment, tmp_path)
    run.until("'loss'")
    run.kill(1)
    assert run.processes[0].wait(LIMIT) != 0
    found = diagnose([str(log) for log in run.logs])
    assert found.findings, found.unrecognised
    assert found.findings[0].cause == "nccl-peer-exited"


def test_gloo_on_an_interface_of_its_own_is_named_from_the_logs(
    hosts: TwoHosts, environment: Any, tmp_path: Path
) -> None:
    """Without GLOO_SOCKET_IFNAME Gloo takes the address of the host's name, here none but the loopback's."""
    place = toy.place(tmp_path, environment, ddp_timeout=60)
    run = Run(hosts, place, environment, tmp_path, GLOO_SOCKET_IFNAME="lo")
    assert run.processes[0].wait(LIMIT) != 0
    run.kill(1)  # it would wait for the other's address until its own time limit
    run.wait()
    found = diagnose([str(log) for log in run.logs])
    assert found.findings
    assert found.findings[0].cause == "nccl-wrong-interface"
