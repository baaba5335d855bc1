"""`--deep`: whether all nodes reduced one tensor together, which one was missing, and which link is slow."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from doctor.cluster import hostlist
from doctor.cluster.capture import Capture
from doctor.cluster.facts.together import NO_TIME
from doctor.cluster.rules.contrast import Across, across
from doctor.facts import UnknownFact

RULE = "nodes.together"

SLOW = 0.4  # of what is usual among the links
LEAST_LINKS = 3  # fewer have no middle to be compared with
FEW_NODES = 4  # of so many one slow node has half of all links or more
STUCK_SECONDS = 5.0  # a link that is measured for less may have been begun just before the end
_BEFORE_JOIN = ("none", "imported")
_ORDER = ("join", "reduce", "pairs")  # stages that are not the last, each behind the one before


def missing(capture: Capture) -> Iterator[Across]:
    """Who did not come to the all-reduce: a node that gave no facts, or one that stopped before it joined. The others
    waited for it and are not blamed. Where only the time for measuring the links ran out, the all-reduce was well."""
    stages = capture.of("together.stage")
    failed = capture.of("together.failed")
    late = {node for node, words in failed.items() if words and words.startswith(NO_TIME)}
    if all(stage == "done" or (stage == "pairs" and node in late) for node, stage in stages.items()):
        return
    silent = [node for node in capture.nodes if node not in stages]
    absent = [node for node, stage in stages.items() if stage in _BEFORE_JOIN]
    evidence = [(f"{node}: no answer ({capture.reasons[node] or 'it did not say'})", "all-reduce") for node in silent]
    evidence += [(f"{node}: {failed.get(node) or stages[node]}, before it joined", "all-reduce") for node in absent]
    nodes = silent + absent
    if not nodes:
        nodes = _held_up(stages, late)
        words = dict.fromkeys(f"{failed.get(node)} (during {stages[node]})" for node in nodes)
        evidence = [(f"{hostlist.fold(nodes)}: {'; '.join(list(words)[:3])}", "all-reduce")]
    yield across(RULE, "cluster-all-reduce-failed", evidence, nodes)


def _held_up(stages: dict[str, str], late: set[str]) -> list[str]:
    """Of nodes that all came, those that got least far: the others waited for them. After the all-reduce it is those
    that broke off, not those whose time was up."""
    least = min((_ORDER.index(stage) for stage in stages.values() if stage in _ORDER), default=0)
    nodes = [node for node, stage in stages.items() if stage == _ORDER[least]]
    return [node for node in nodes if node not in late] or nodes if _ORDER[least] == "pairs" else nodes


def slow_link(capture: Capture) -> Iterator[Across]:
    """Links far below what is usual. A node that is slow to every peer is named once, for itself."""
    rates = _rates(capture)
    if len(rates) < LEAST_LINKS:
        return
    usual = _usual(rates)
    slow = {pair: rate for pair, rate in rates.items() if rate < SLOW * usual}
    if not slow:
        return
    ends = [node for pair in slow for node in pair]
    everywhere = [
        n for n in dict.fromkeys(ends) if all(pair in slow for pair in rates if n in pair) and ends.count(n) > 1
    ]
    evidence = [(f"{node}: slow to every other node", "links") for node in everywhere]
    evidence += [
        (f"{a} to {b}: {_shown(rate)}, usual among these nodes is {_shown(usual)}", "links")
        for (a, b), rate in sorted(slow.items(), key=lambda item: item[1])
        if not {a, b} & set(everywhere) or len(slow) <= LEAST_LINKS
    ]
    yield across(RULE, "cluster-slow-link", evidence, everywhere or ends)


def stuck_link(capture: Capture) -> Iterator[Across]:
    """The link that was still being measured when the time was up, while the other nodes waited for its two ends."""
    ranks = {rank: node for node, rank in capture.of("launch.node_rank").items()}
    stuck = {
        (min(node, ranks[said["peer"]]), max(node, ranks[said["peer"]])): said["seconds"]
        for node, said in capture.of("together.meeting").items()
        if said and said["seconds"] >= STUCK_SECONDS and said["peer"] in ranks
    }
    if not stuck or (len(stuck) > 1 and 4 * len(stuck) > len(capture.nodes)):
        return  # many at once: the time was too short for all of them
    evidence = [
        (f"{a} to {b}: not there and back within {seconds:g} s, and all others waited for it", "links")
        for (a, b), seconds in stuck.items()
    ]
    yield across(RULE, "cluster-slow-link", evidence, [node for pair in stuck for node in pair])


def unmeasured(capture: Capture) -> Iterator[Across]:
    """Finds nothing. Raises UnknownFact where the time was up before all links were measured, so that silence about
    them is not taken for well."""
    stages, failed = capture.of("together.stage"), capture.of("together.failed")
    late = [node for node, stage in stages.items() if stage == "pairs" and str(failed.get(node)).startswith(NO_TIME)]
    if late and not list(stuck_link(capture)):
        measured = f"{len(_rates(capture))} of {len(stages) * (len(stages) - 1) // 2} links were measured"
        raise UnknownFact(RULE, f"{measured} when the time was up; give it more with --budget")
    yield from ()


def _rates(capture: Capture) -> dict[tuple[str, str], int]:
    """The two ends of a link -> bytes per second, the slower of what they measured."""
    ranks = {rank: node for node, rank in capture.of("launch.node_rank").items()}
    rates: dict[tuple[str, str], int] = {}
    for node, pairs in capture.of("together.pairs").items():
        for peer, rate in pairs.items():
            if int(peer) in ranks:
                pair = (min(node, ranks[int(peer)]), max(node, ranks[int(peer)]))
                rates[pair] = min(rate, rates.get(pair, rate))
    return rates


def _usual(rates: dict[tuple[str, str], int]) -> float:
    """The middle of all links; among few nodes that of each one's best link, which one slow node cannot pull down."""
    best: dict[str, int] = {}
    for pair, rate in rates.items():
        for node in pair:
            best[node] = max(rate, best.get(node, rate))
    return median(best.values() if len(best) <= FEW_NODES else rates.values())


def _shown(rate: float) -> str:
    return f"{rate / 1e9:.2f} GB/s" if rate >= 1e8 else f"{rate / 1e6:.1f} MB/s"


RULES = (missing, slow_link, stuck_link, unmeasured)
