"""`--deep` among three hosts: one all-reduce, then each link measured. The slow link, the slow host and the one that is cut
off are named. torch runs in every host, over gloo."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from doctor.cluster import judge
from doctor.cluster.capture import Capture
from tests.cluster import toy, two_hosts
from tests.cluster.switched_hosts import SwitchedHosts

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(os.geteuid() != 0 or bool(two_hosts.missing()), reason="needs root, iproute2 and iptables"),
]
BUDGET = 180.0  # seconds; three imports of torch at once on a busy machine


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return toy.environment(tmp_path_factory.mktemp("env"))


@pytest.fixture
def hosts() -> Iterator[SwitchedHosts]:
    with SwitchedHosts(3) as made:
        yield made


def measured(hosts: SwitchedHosts, folder: Path, environment: Any) -> Capture:
    (folder / "recipe.yaml").write_text("stage: sft\nsave_strategy: 'no'\n")
    request = {"workdir": str(folder), "recipe": "recipe.yaml", "python": str(environment.python)}
    environs = [{"GLOO_SOCKET_IFNAME": link} for link in hosts.links]
    capture = hosts.collect(folder, {**request, "deep": True, "budget": BUDGET}, environs)
    assert capture.answered == hosts.names, capture.reasons
    return capture


def found(capture: Capture) -> dict[str, Any]:
    return {
        across.finding.cause: (across.nodes, " | ".join(item.what for item in across.finding.evidence))
        for across in judge.judge(capture, probes=()).findings
    }


def test_every_link_is_measured_and_equal_ones_are_no_finding(
    hosts: SwitchedHosts, environment: Any, tmp_path: Path
) -> None:
    capture = measured(hosts, tmp_path, environment)
    assert set(capture.of("together.stage").values()) == {"done"}
    assert {node: sorted(pairs) for node, pairs in capture.of("together.pairs").items()} == {
        "toy1": ["1", "2"], "toy2": ["0", "2"], "toy3": ["0", "1"],
    }  # fmt: skip
    assert found(capture) == {}


def test_the_slow_link_is_named(hosts: SwitchedHosts, environment: Any, tmp_path: Path) -> None:
    hosts.slow(1, 2, "8mb/s")
    nodes, told = found(measured(hosts, tmp_path, environment))["cluster-slow-link"]
    assert nodes == ("toy2", "toy3")
    assert told.startswith("toy2 to toy3: ")


def test_the_slow_host_is_named(hosts: SwitchedHosts, environment: Any, tmp_path: Path) -> None:
    hosts.slow(2, 0, "8mb/s")
    hosts.slow(2, 1, "8mb/s")
    nodes, told = found(measured(hosts, tmp_path, environment))["cluster-slow-link"]
    assert nodes == ("toy3",)
    assert told.startswith("toy3: slow to every other node")


def test_a_link_that_never_ends_is_named_and_holds_up_nobody(
    hosts: SwitchedHosts, environment: Any, tmp_path: Path
) -> None:
    hosts.slow(0, 1, "100kb/s")
    causes = found(measured(hosts, tmp_path, environment))
    nodes, told = causes["cluster-slow-link"]
    assert nodes == ("toy1", "toy2")
    assert "all others waited for it" in told
    assert "cluster-all-reduce-failed" not in causes


def test_a_host_that_lets_nobody_in(hosts: SwitchedHosts, environment: Any, tmp_path: Path) -> None:
    """The master's port is open to it, so that all meet; the connections between the ranks are not."""
    hosts.firewall(1, "-A", "INPUT", "-m", "conntrack", "--ctstate", "ESTABLISHED", "-j", "ACCEPT")
    hosts.firewall(1, "-A", "INPUT", "-p", "tcp", "-j", "DROP")
    capture = measured(hosts, tmp_path, environment)
    causes = found(capture)
    assert "launch-rendezvous-timeout" not in causes
    nodes, told = causes["cluster-all-reduce-failed"]
    assert nodes == ("toy2", "toy3")  # toy1, whom both reached, is not blamed
    assert "during join" in told
