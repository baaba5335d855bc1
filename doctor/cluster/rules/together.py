"""`--deep`: whether all nodes reduced one tensor together, which one was missing, and which link is slow."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from doctor.cluster import hostlist
from doctor.cluster.capture import Capture
from doctor.cluster.rules.contrast import Across, across

RULE = "nodes.together"

SLOW = 0.4  # of the median of all links
LEAST_LINKS = 3  # fewer have no middle to be compared with
_BEFORE_JOIN = ("none", "imported")


def missing(capture: Capture) -> Iterator[Across]:
    """Who did not come to the all-reduce: a node that gave no facts, or one that stopped before it joined. The others
    waited for it and are not blamed."""
    stages = capture.of("together.stage")
    if not stages or all(stage == "done" for stage in stages.values()):
        return
    failed = capture.of("together.failed")
    silent = [node for node in capture.nodes if node not in stages]
    absent = [node for node, stage in stages.items() if stage in _BEFORE_JOIN]
    evidence = [(f"{node}: no answer ({capture.reasons[node] or 'it did not say'})", "all-reduce") for node in silent]
    evidence += [(f"{node}: {failed.get(node) or stages[node]}, before it joined", "all-reduce") for node in absent]
    nodes = silent + absent
    if not nodes:
        nodes = [node for node, stage in stages.items() if stage != "done"]
        words = dict.fromkeys(f"{failed.get(node)} (during {stages[node]})" for node in nodes)
        evidence = [(f"{hostlist.fold(nodes)}: {'; '.join(list(words)[:3])}", "all-reduce")]
    yield across(RULE, "cluster-all-reduce-failed", evidence, nodes)


def slow_link(capture: Capture) -> Iterator[Across]:
    """Links far below the middle of all. A node that is slow to every peer is named once, for itself."""
    ranks = {rank: node for node, rank in capture.of("launch.node_rank").items()}
    rates: dict[tuple[str, str], int] = {}
    for node, pairs in capture.of("together.pairs").items():
        for peer, rate in pairs.items():
            if int(peer) in ranks:
                pair = (min(node, ranks[int(peer)]), max(node, ranks[int(peer)]))
                rates[pair] = min(rate, rates.get(pair, rate))
    if len(rates) < LEAST_LINKS:
        return
    middle = median(rates.values())
    slow = {pair: rate for pair, rate in rates.items() if rate < SLOW * middle}
    if not slow:
        return
    ends = [node for pair in slow for node in pair]
    everywhere = [
        n for n in dict.fromkeys(ends) if all(pair in slow for pair in rates if n in pair) and ends.count(n) > 1
    ]
    evidence = [(f"{node}: slow to every other node", "links") for node in everywhere]
    evidence += [
        (f"{a} to {b}: {rate / 1e9:.2f} GB/s, the middle of all links is {middle / 1e9:.2f}", "links")
        for (a, b), rate in sorted(slow.items(), key=lambda item: item[1])
        if not {a, b} & set(everywhere) or len(slow) <= LEAST_LINKS
    ]
    yield across(RULE, "cluster-slow-link", evidence, everywhere or ends)


RULES = (missing, slow_link)
