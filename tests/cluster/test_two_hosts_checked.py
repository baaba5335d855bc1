"""Two hosts before the launch: what keeps them apart is found with the node that it is on. No trainer runs here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from doctor.cluster import judge
from tests.cluster import two_hosts
from tests.cluster.two_hosts import TwoHosts

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(os.geteuid() != 0 or bool(two_hosts.missing()), reason="needs root, iproute2 and iptables"),
]
PORT = 29501


@pytest.fixture
def hosts() -> Iterator[TwoHosts]:
    with TwoHosts() as made:
        yield made


def found(hosts: TwoHosts, folder: Path, *environs: dict[str, str], **both: str) -> dict[str, Any]:
    (folder / "recipe.yaml").write_text("stage: sft\nsave_strategy: 'no'\n")
    request = {"workdir": str(folder), "recipe": "recipe.yaml", "python": "python3"}
    given = [{**both, **(environs[host] if environs else {})} for host in range(2)]
    capture = hosts.collect(folder, request, given)
    assert capture.answered == list(two_hosts.NAMES)
    rules = judge.judge(capture, probes=()).findings
    return {
        across.finding.cause: (across.nodes, " | ".join(item.what for item in across.finding.evidence))
        for across in rules
    }


def test_two_hosts_that_reach_each_other_are_healthy(hosts: TwoHosts, tmp_path: Path) -> None:
    assert found(hosts, tmp_path) == {}


def test_a_master_address_of_neither(hosts: TwoHosts, tmp_path: Path) -> None:
    _, told = found(hosts, tmp_path, MASTER_ADDR="10.77.0.9")["launch-master-addr"]
    assert told == "MASTER_ADDR=10.77.0.9 (10.77.0.9) is the address of none of the nodes"


def test_a_master_name_that_nobody_knows(hosts: TwoHosts, tmp_path: Path) -> None:
    _, told = found(hosts, tmp_path, MASTER_ADDR="no-such-host.invalid")["launch-master-addr"]
    assert told.startswith("toya,toyb: MASTER_ADDR=no-such-host.invalid: ")


def test_a_master_address_that_is_every_host_itself(hosts: TwoHosts, tmp_path: Path) -> None:
    _, told = found(hosts, tmp_path, MASTER_ADDR="127.0.0.1")["launch-master-addr"]
    assert "wait for themselves" in told


def test_a_blocked_port(hosts: TwoHosts, tmp_path: Path) -> None:
    hosts.block(0, PORT)
    nodes, told = found(hosts, tmp_path)["launch-rendezvous-timeout"]
    assert nodes == ("toyb",)
    assert told == f"toyb: no connection to 10.77.0.1:{PORT} over veth-toyb: timed out"


def test_an_unplugged_cable(hosts: TwoHosts, tmp_path: Path) -> None:
    hosts.unplug(1)
    nodes, told = found(hosts, tmp_path)["launch-rendezvous-timeout"]
    assert nodes == ("toyb",)
    assert "Network is unreachable" in told


def test_a_wrong_interface_name(hosts: TwoHosts, tmp_path: Path) -> None:
    seen = found(hosts, tmp_path, {"GLOO_SOCKET_IFNAME": "veth-toya"}, {"GLOO_SOCKET_IFNAME": "eth0"})
    nodes, told = seen["nccl-socket-ifname"]
    assert nodes == ("toyb",)
    assert told == "toyb: GLOO_SOCKET_IFNAME=eth0 is not there; there are lo, veth-toyb"
