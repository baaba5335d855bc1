"""Ranks, number of nodes, the meeting place and the variables of the launch: one agreement on all nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from doctor.cluster import hostlist
from doctor.cluster.capture import Capture, Group
from doctor.cluster.rules.contrast import Across, across, labelled, merged, odd, sentence

RULE = "nodes.launch"

# Variables that belong to one node or one process, and may differ.
_OWN = ("SLURM_", "RANK", "LOCAL_RANK", "NODE_RANK", "CUDA_VISIBLE_DEVICES", "NCCL_TOPO_FILE")
# Variables that name what a node has, which may be called otherwise on another: set on all, they may differ.
_NAMES_OF_A_NODE = ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME", "TP_SOCKET_IFNAME", "NCCL_IB_HCA")


def ranks(capture: Capture) -> Iterator[Across]:
    """NNODES is the number of nodes, and every NODE_RANK from 0 on is there once."""
    nnodes = merged(capture.groups("launch.nnodes"))
    count = len(capture.nodes)
    if count < 2 or not nnodes:
        return
    evidence: list[tuple[str, str]] = []
    odd_ones: list[str] = []
    if len(nnodes) > 1:
        evidence.append((sentence(nnodes, labelled("NNODES", "=")), "NNODES"))
        odd_ones += odd(nnodes)
    elif nnodes[0].value != count:
        evidence.append((f"NNODES={nnodes[0].value}, and there are {count} nodes", "NNODES"))
        odd_ones += nnodes[0].nodes
    by_rank = merged(capture.groups("launch.node_rank"))
    for group in by_rank:
        if len(group.nodes) > 1:
            evidence.append((f"NODE_RANK={group.value} on {hostlist.fold(group.nodes)}", "NODE_RANK"))
            odd_ones += group.nodes
    if not evidence and len(capture.of("launch.node_rank")) == count:
        lacking = sorted(set(range(count)) - {group.value for group in by_rank})
        if lacking:
            evidence.append((f"no node has NODE_RANK={', '.join(map(str, lacking[:10]))}", "NODE_RANK"))
            odd_ones += [node for group in by_rank if group.value not in range(count) for node in group.nodes]
    if evidence:
        yield across(RULE, "cluster-ranks-inconsistent", evidence, odd_ones, count=count)


def meeting_place(capture: Capture) -> Iterator[Across]:
    """MASTER_ADDR and MASTER_PORT are the same text everywhere."""
    evidence: list[tuple[str, str]] = []
    nodes: list[str] = []
    for fact, name in (("launch.master_addr", "MASTER_ADDR"), ("launch.master_port", "MASTER_PORT")):
        groups = merged(capture.groups(fact))
        if len(groups) > 1:
            evidence.append((sentence(groups, labelled(name, "=")), name))
            nodes += odd(groups)
    if evidence:
        yield across(RULE, "cluster-ranks-inconsistent", evidence, nodes, count=len(capture.nodes))


def variables(capture: Capture) -> Iterator[Across]:
    """NCCL_*, TORCH_*, DS_* and the like that are set on some nodes only, or to other values."""
    sets = capture.groups("launch.environ")
    if len(sets) < 2:
        return
    names = Counter(name for group in sets for name in group.value if not name.startswith(_OWN))
    evidence: list[tuple[str, str]] = []
    nodes: list[str] = []
    for name in sorted(names):
        if name in ("NNODES", "MASTER_ADDR", "MASTER_PORT"):
            continue  # told by their own rules
        if name in _NAMES_OF_A_NODE and all(name in group.value for group in sets):
            continue
        groups = merged(Group(g.value.get(name, "not set"), g.nodes) for g in sets)
        if len(groups) > 1:
            evidence.append((sentence(groups, labelled(name), str), name))
            nodes += odd(groups)
    if evidence:
        yield across(RULE, "cluster-environment-differs", evidence, nodes)


RULES = (ranks, meeting_place, variables)
