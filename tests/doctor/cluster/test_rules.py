"""Judgements across nodes: the odd one out is named, what is equal or unknown is not."""

from __future__ import annotations

from typing import Any

import pytest

from doctor.cluster import hostlist
from doctor.cluster.judge import judge
from doctor.cluster.rules import all_rules
from doctor.cluster.together_child import meetings
from doctor.findings import Severity
from tests.doctor.cluster.nodes import GIB, capture, facts


def found(*args: Any, **kwargs: Any) -> dict[str, Any]:
    """Cause -> the finding with its nodes, of the rules across nodes only."""
    return {across.finding.cause: across for across in judge(capture(*args, **kwargs), probes=()).findings}


def told(across: Any) -> str:
    return " | ".join(item.what for item in across.finding.evidence)


@pytest.mark.parametrize("count", [1, 2, 3, 40])
def test_equal_nodes_have_no_finding(count: int) -> None:
    assert found(count) == {}


def test_one_node_that_knows_nothing_is_not_taken_for_different() -> None:
    silent = {name: {"unknown": "timed out"} for name in facts(0, 3)}
    assert found(3, {1: silent}) == {}


def packages(**versions: str) -> dict[str, Any]:
    return {"packages.versions": {"deepspeed": "0.15.4", "torch": "2.5.1", "rich": "13.0.0", **versions}}


def test_the_odd_packages_are_told_in_one_line_with_their_nodes() -> None:
    odd = {number: packages(deepspeed="0.16.2") for number in range(3, 8)}
    across = found(20, odd)["cluster-packages-differ"]
    assert told(across) == "node[003-007]: deepspeed 0.16.2, the others 0.15.4"
    assert hostlist.fold(across.nodes) == "node[003-007]"
    assert across.finding.details["pins"] == "deepspeed==0.15.4"
    assert across.finding.severity is None  # the cause's own: error


def test_packages_that_differ_in_the_same_way_share_a_line() -> None:
    across = found(5, {4: packages(deepspeed="0.16.2", torch="2.6.0")})["cluster-packages-differ"]
    assert told(across) == "node004: deepspeed 0.16.2, torch 2.6.0, the others deepspeed 0.15.4, torch 2.5.1"


def test_without_a_majority_both_sides_are_named_and_nothing_is_advised() -> None:
    across = found(2, {1: packages(torch="2.6.0")})["cluster-packages-differ"]
    assert told(across) == "node000: torch 2.5.1; node001: torch 2.6.0"
    assert "pins" not in across.finding.details


def test_packages_that_no_rank_computes_with_are_information() -> None:
    assert found(5, {4: packages(rich="14.0.0")})["cluster-packages-differ"].finding.severity is Severity.INFO


def test_another_python() -> None:
    assert "node001: Python 3.10, the others 3.11" in told(
        found(4, {1: {"python.version": "3.10.2"}})["cluster-packages-differ"]
    )
    patch = found(4, {1: {"python.version": "3.11.9"}})["cluster-packages-differ"]
    assert patch.finding.severity is Severity.INFO


def test_another_nccl_is_an_error_as_it_takes_part_in_every_step() -> None:
    nccl = {n: packages(**{"nvidia-nccl-cu12": "2.26.2" if n == 1 else "2.21.5"}) for n in range(3)}
    across = found(3, nccl)["cluster-packages-differ"]
    assert across.nodes == ("node001",)
    assert told(across) == "node001: nvidia-nccl-cu12 2.26.2, the others 2.21.5"
    assert across.finding.severity is None  # the cause's own: error


def test_drivers_and_kernels() -> None:
    across = found(4, {2: {"gpu.driver": "535.1"}, 3: {"node.kernel": "5.15"}})["cluster-driver-differs"]
    assert told(across) == "node002: GPU driver 535.1, the others 550.54 | node003: kernel 5.15, the others 6.1.0"


def test_a_file_with_other_contents_or_missing() -> None:
    other = {"files.seen": {"recipe": {"recipe.yaml": {"size": 11, "digest": "b" * 16}}}}
    gone = {"files.seen": {"recipe": {"recipe.yaml": {"error": "No such file or directory"}}}}
    across = found(5, {1: other, 2: gone})["cluster-files-differ"]
    assert "node001: 11 bytes, digest bbbbbbbb; node002: not there, the others 10 bytes" in told(across)
    assert set(across.nodes) == {"node001", "node002"}


def test_a_node_without_the_working_directory() -> None:
    failed = {"node.failed": "The working directory /work does not exist."}
    across = found(4, {2: failed, 3: failed})["cluster-node-not-prepared"]
    assert told(across) == "node[002-003]: The working directory /work does not exist."


def test_checkpoints_on_disks_of_their_own() -> None:
    local = {"output_dir": {"path": "/local/saves", "type": "ext4", "source": "/dev/sda1"}}
    assert "cluster-output-not-shared" in found(3, files__mounts=local)
    assert found(3, files__mounts=local, recipe__values={"save_strategy": "no"}) == {}


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        ({1: {"launch.node_rank": 0}}, "NODE_RANK=0 on node[000-001]"),
        ({2: {"launch.node_rank": 5}}, "no node has NODE_RANK=2"),
        ({2: {"launch.nnodes": 2}}, "node002: NNODES=2, the others NNODES=3"),
        ({2: {"launch.master_port": 29502}}, "node002: MASTER_PORT=29502, the others MASTER_PORT=29501"),
    ],
)
def test_ranks_and_meeting_places_that_do_not_fit(odd: dict[int, Any], words: str) -> None:
    assert words in told(found(3, odd)["cluster-ranks-inconsistent"])


def test_nnodes_against_the_nodes_there_are() -> None:
    assert told(found(3, launch__nnodes=4)["cluster-ranks-inconsistent"]) == "NNODES=4, and there are 3 nodes"


def test_a_transport_switched_off_on_one_node() -> None:
    environ = {"NNODES": "3", "NODE_RANK": "1", "NCCL_IB_DISABLE": "1"}
    across = found(3, {1: {"launch.environ": environ}})["cluster-environment-differs"]
    assert told(across) == "node001: NCCL_IB_DISABLE 1, the others not set"


def test_interfaces_that_are_called_otherwise_on_another_node_are_no_difference() -> None:
    named = {n: {"launch.environ": {"NCCL_SOCKET_IFNAME": name}} for n, name in enumerate(["ib0", "=ib0", "ib"])}
    assert found(3, named) == {}
    across = found(3, {**named, 2: {"launch.environ": {}}})["cluster-environment-differs"]
    assert "node002: NCCL_SOCKET_IFNAME not set" in told(across)


def master(name: str, *addresses: str, error: str | None = None) -> dict[str, Any]:
    return {"network.master": {"name": name, "addresses": list(addresses), "error": error}}


def test_a_master_that_one_node_cannot_resolve() -> None:
    across = found(3, {2: master("head", error="Name or service not known")})["launch-master-addr"]
    assert told(across) == "node002: MASTER_ADDR=head: Name or service not known"


def test_a_master_that_is_none_of_the_nodes_or_every_one() -> None:
    away = {n: {**master("10.9.9.9", "10.9.9.9"), "network.here": False} for n in range(3)}
    assert "is the address of none of the nodes" in told(found(3, away)["launch-master-addr"])
    self_ = {n: {**master("localhost", "127.0.0.1"), "network.here": True} for n in range(3)}
    assert "wait for themselves" in told(found(3, self_)["launch-master-addr"])


def test_a_master_that_is_not_rank_0() -> None:
    odd = {0: {"network.here": False}, 1: {"network.here": True}}
    assert "leads to node001, NODE_RANK 1" in told(found(3, odd)["launch-master-addr"])


def test_a_port_that_some_nodes_cannot_reach() -> None:
    across = found(4, {2: {"meeting.reached": "timed out"}, 3: {"meeting.reached": "timed out"}})
    words = "node[002-003]: no connection to 10.0.0.1:29501 over ib0: timed out"
    assert told(across["launch-rendezvous-timeout"]) == words


def test_who_came_too_late_proves_nothing_of_the_port() -> None:
    late = {"meeting.reached": "Connection refused", "meeting.span": [107.5, 115.0]}
    assert found(4, {2: late}) == {}
    behind = {**late, "node.clock_ahead": 7.0}  # its clock was ahead: it did try in time
    assert "launch-rendezvous-timeout" in found(4, {2: behind})


def test_an_unreached_port_is_not_blamed_when_nobody_listened() -> None:
    silent = {"meeting.heard": {"unknown": "port 29501 cannot be listened on"}}
    assert found(3, {0: silent, 1: {"meeting.reached": "Connection refused"}}) == {}


def test_an_interface_that_is_not_there() -> None:
    environ = {number: {"launch.environ": {"NCCL_SOCKET_IFNAME": "ib"}} for number in range(3)}
    only_eth = {"network.interfaces": {"eth0": {"up": True, "addresses": ["10.0.0.9/16"]}}}
    across = found(3, {**environ, 2: {**environ[2], **only_eth}})["nccl-socket-ifname"]
    assert told(across) == "node002: NCCL_SOCKET_IFNAME=ib is not there; there are eth0"


@pytest.mark.parametrize("value", ["ib0", "ib", "=ib0", "^docker,lo", "eth9,ib0"])
def test_selections_that_fit(value: str) -> None:
    assert found(3, launch__environ={"NCCL_SOCKET_IFNAME": value}) == {}


def test_a_bridge_with_the_same_address_everywhere() -> None:
    across = found(3, launch__environ={"NCCL_SOCKET_IFNAME": "docker0"})["nccl-wrong-interface"]
    assert told(across) == "node[000-002]: docker0 has 172.17.0.1/16 on each of them"
    assert across.finding.details["interface_found"] == "ib0"


def test_gpus() -> None:
    across = found(4, {3: {"gpu.count": 7, "gpu.devices": [{"name": "NVIDIA H100", "memory_total": 80 * GIB}] * 7}})
    assert "node003: 7 GPUs, the others 8" in told(across["cluster-gpus-differ"])
    given = found(4, {3: {"gpu.count": 7}}, launch__nproc_given=True)["cluster-gpus-differ"]
    assert given.finding.severity is Severity.WARNING


def test_clocks() -> None:
    across = found(9, {4: {"node.clock_ahead": -40.0}})["cluster-clock-skew"]
    assert told(across) == "node004: -40 s"
    assert across.nodes == ("node004",)


def test_shared_memory_and_limits() -> None:
    odd = {
        1: {"machine.shm": {"total": 64 << 20, "free": 0}},
        2: {"machine.limits": {"memlock": 65536, "nofile": 65536}},
    }
    words = told(found(5, odd)["cluster-machines-differ"])
    assert "node001: /dev/shm 0 GiB, the others 500 GiB" in words
    assert "node002: memlock 65536, the others unlimited" in words


def test_a_name_that_leads_nowhere_has_no_route() -> None:
    lost = {n: {**master("x", error="unknown"), "network.here": None, "network.route": None} for n in range(3)}
    assert set(found(3, lost)) == {"launch-master-addr"}


@pytest.mark.parametrize("name", sorted(facts(0, 3)))
def test_a_fact_that_one_node_or_all_lack_breaks_no_rule(name: str) -> None:
    lacking = {name: {"unknown": "timed out"}}
    assert judge(capture(3, {1: lacking}), probes=()).not_judged == {}
    assert judge(capture(3, {n: lacking for n in range(3)}), probes=()).not_judged == {}


def test_every_rule_is_silent_on_an_empty_capture() -> None:
    assert [across for rule in all_rules() for across in rule(capture(0))] == []


def deep(stages: list[str], pairs: dict[int, dict[str, int]] | None = None) -> dict[str, Any]:
    failed = {"none": "No module named 'torch'", "join": "DistStoreError: Timed out"}
    odd = {
        n: {"together.stage": s, "together.failed": failed.get(s), "together.pairs": (pairs or {}).get(n, {})}
        for n, s in enumerate(stages)
    }
    return found(len(stages), odd)


def test_the_node_that_did_not_come_to_the_all_reduce_is_named_and_those_that_waited_are_not() -> None:
    across = deep(["join", "join", "none", "join"])["cluster-all-reduce-failed"]
    assert across.nodes == ("node002",)
    assert told(across) == "node002: No module named 'torch', before it joined"


def test_a_silent_node_is_the_missing_one() -> None:
    made = capture(3, {n: {"together.stage": "join", "together.failed": "Timed out"} for n in range(3)})
    made.missing("node009", "did not answer within 10 s")
    (across,) = [a for a in judge(made, probes=()).findings if a.finding.cause == "cluster-all-reduce-failed"]
    assert across.nodes == ("node009",)


def test_when_all_came_and_it_failed_all_are_named() -> None:
    across = deep(["reduce", "reduce"])["cluster-all-reduce-failed"]
    assert across.nodes == ("node000", "node001")


def test_of_nodes_that_all_came_those_that_got_least_far_are_named() -> None:
    """As seen: a firewall on node 1 lets nobody in, node 2 cannot come to it, and node 0 only sees them go."""
    late, gone = "no answer within 59 s", "RuntimeError: Connection closed by peer"
    odd = {
        n: {"together.stage": stage, "together.failed": words}
        for n, (stage, words) in enumerate([("reduce", gone), ("join", late), ("join", late)])
    }
    across = found(3, odd)["cluster-all-reduce-failed"]
    assert across.nodes == ("node001", "node002")
    assert told(across) == "node[001-002]: no answer within 59 s (during join)"


def test_the_slow_link_and_the_slow_node() -> None:
    rates = {n: {str(p): 10**9 for p in range(4) if p != n} for n in range(4)}
    rates[1]["3"] = rates[3]["1"] = 10**8
    assert told(deep(["done"] * 4, rates)["cluster-slow-link"]).startswith("node001 to node003: 0.10 GB/s")
    slow = {n: {str(p): 10**8 if 2 in (n, p) else 10**9 for p in range(4) if p != n} for n in range(4)}
    across = deep(["done"] * 4, slow)["cluster-slow-link"]
    assert across.nodes == ("node002",)
    assert "slow to every other node" in told(across)
    assert deep(["done"] * 4, {n: {str(p): 10**9 for p in range(4) if p != n} for n in range(4)}) == {}


def test_among_three_nodes_a_slow_one_is_told_from_a_slow_link() -> None:
    slow = {n: {str(p): 10**8 if 2 in (n, p) else 10**9 for p in range(3) if p != n} for n in range(3)}
    across = deep(["done"] * 3, slow)["cluster-slow-link"]
    assert across.nodes == ("node002",)
    assert "node000 to node002: 0.10 GB/s, usual among these nodes is 1.00 GB/s" in told(across)
    rates = {n: {str(p): 10**9 for p in range(3) if p != n} for n in range(3)}
    rates[0]["1"] = 2 * 10**7
    across = deep(["done"] * 3, rates)["cluster-slow-link"]
    assert across.nodes == ("node000", "node001")
    assert told(across) == "node000 to node001: 20.0 MB/s, usual among these nodes is 1.00 GB/s"


def stuck(nodes: int, meetings: dict[int, tuple[int, float]]) -> dict[str, Any]:
    """All reduced together; then the time was up while these nodes measured: node -> its peer and seconds."""
    said = {"together.stage": "pairs", "together.failed": "no answer within 70 s", "together.pairs": {}}
    meeting = {n: {"peer": peer, "seconds": seconds} for n, (peer, seconds) in meetings.items()}
    return found(nodes, {n: {**said, "together.meeting": meeting.get(n)} for n in range(nodes)})


def test_a_link_that_is_never_there_and_back_is_named_and_the_all_reduce_is_not_blamed() -> None:
    causes = stuck(3, {1: (2, 61.0), 2: (1, 60.9)})
    assert list(causes) == ["cluster-slow-link"]
    assert causes["cluster-slow-link"].nodes == ("node001", "node002")
    assert told(causes["cluster-slow-link"]).startswith("node001 to node002: not there and back within 6")


def test_when_the_time_was_too_short_for_all_no_link_is_blamed() -> None:
    assert stuck(4, {0: (1, 30.0), 1: (0, 30.0), 2: (3, 30.0), 3: (2, 30.0)}) == {}
    assert stuck(3, {0: (1, 0.4), 1: (0, 0.4)}) == {}
    late = {"together.stage": "pairs", "together.failed": "no answer within 70 s", "together.pairs": {}}
    told = judge(capture(3, {n: late for n in range(3)}), probes=()).not_judged["nodes.together"]
    assert list(told) == ["0 of 3 links were measured when the time was up; give it more with --budget"]


def test_a_rank_that_breaks_off_while_links_are_measured_is_named_not_those_that_waited() -> None:
    waited = {"together.stage": "pairs", "together.failed": "no answer within 70 s"}
    broke = {"together.stage": "pairs", "together.failed": "RuntimeError: Connection closed by peer"}
    across = found(3, {0: waited, 1: broke, 2: waited})["cluster-all-reduce-failed"]
    assert across.nodes == ("node001",)


@pytest.mark.parametrize("nodes", [2, 3, 4, 7, 16])
def test_every_pair_meets_once(nodes: int) -> None:
    rounds = meetings(nodes)
    pairs = [pair for one in rounds for pair in one]
    assert sorted(pairs) == [(a, b) for a in range(nodes) for b in range(a + 1, nodes)]
    assert all(len({n for pair in one for n in pair}) == 2 * len(one) for one in rounds)


def test_ray_can_never_place_more_cpus_than_a_node_registered() -> None:
    eight = {"ray.bundle_cpus": 10, "ray.resources": {"CPU": 128, "GPU": 8}}
    assert found(3, {n: eight for n in range(3)}) == {}
    across = found(3, {0: eight, 1: eight, 2: {**eight, "ray.resources": {"CPU": 64, "GPU": 8}}})["cluster-ray-cpus"]
    assert told(across) == "node002: 64 CPUs registered, 80 wanted (10 for each GPU)"
    none = {n: {"ray.bundle_cpus": 10, "ray.resources": {"CPU": 2}} for n in range(2)}
    assert told(found(2, none)["cluster-ray-cpus"]) == "node[000-001]: 2 CPUs registered, 20 wanted (10 for each CPU)"
    older = {n: {"ray.bundle_cpus": None, "ray.resources": {"CPU": 2}} for n in range(2)}
    assert found(2, older) == {}
