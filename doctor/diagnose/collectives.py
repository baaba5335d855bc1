"""Which ranks kept the others waiting in a collective, as far as the watchdogs' lines tell.

Each watchdog says in which collective its rank waited and which it had begun last. A rank that had begun less than
another waited for is behind; one that is seen in the log and says nothing of the timeout, while most do, is silent.
Ranks that wait in different operations under one number have parted: the network is well, the program took two ways.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from doctor.diagnose.lines import Line

GROUP = re.compile(r"\[PG (?:ID )?(\w+)")
WAITED = re.compile(
    r"\[Rank (?P<rank>\d+)\] Watchdog caught collective operation timeout"
    r"(?:: WorkNCCL\(SeqNum=(?P<work>\d+)(?:, OpType=(?P<what>\w+)(?:, NumelIn=(?P<size>\d+))?)?)?"
)
EQUAL = {"ALLREDUCE", "_ALLGATHER_BASE", "_REDUCE_SCATTER_BASE", "BROADCAST"}  # every rank brings as many elements
STATE = re.compile(
    r"Rank (?P<rank>\d+)\].*?(?:(?:at work|sequence id|at NCCL work): (?P<work>\d+))?[^:]*(?:PG status: )?"
    r"[Ll]ast enqueued (?:NCCL )?work: (?P<begun>-?\d+), last completed"
)
WORLD = re.compile(r"world[ _]size[:=] ?(\d+)")
TOLD = 8  # ranks that are named; more of them are no hint


def missing(lines: Sequence[Line]) -> dict[str, str]:
    """`behind_ranks`, `silent_ranks`, `waited_in` (the number of the collective), `parted_in` and `parted` (its number, and
    what two ranks did in it); what is not known is not there."""
    begun: dict[str, dict[int, int]] = defaultdict(dict)
    done: dict[tuple[str, str], dict[int, str]] = defaultdict(dict)
    waited: dict[str, dict[int, int]] = defaultdict(dict)
    seen: set[int] = set()
    told: set[int] = set()
    world = 0
    for line in lines:
        if line.rank is not None:
            seen.add(line.rank)
        if size := WORLD.search(line.text):
            world = max(world, int(size[1]))
        match = STATE.search(line.text) or WAITED.search(line.text)
        if match is None:
            continue
        rank = line.rank if line.rank is not None else int(match["rank"])
        told.add(rank)
        named = GROUP.search(line.text)
        group = named[1] if named else ""
        if match.re is STATE:
            begun[group][rank] = int(match["begun"])
        if match["work"]:
            waited[group][rank] = int(match["work"])
        if match.re is WAITED and match["what"]:
            elements = f" of {match['size']}" if match["size"] and match["what"] in EQUAL else ""
            done[group, match["work"]][rank] = match["what"] + elements
    found = _behind(begun, waited) | _parted(done)
    silent = (seen | set(range(world))) - told
    if silent and len(silent) < len(told):
        found["silent_ranks"] = _listed(silent)
    return {key: value for key, value in found.items() if value}


def _behind(begun: dict[str, dict[int, int]], waited: dict[str, dict[int, int]]) -> dict[str, str]:
    """The ranks of one group that had not begun the collective in which another rank of it waited."""
    for group in sorted(begun, key=lambda name: -len(begun[name])) or [""]:
        works = waited.get(group, {})
        last = max(works.values(), default=0)
        reached = begun.get(group) or works
        late = {rank for rank, work in reached.items() if work < last}
        if late and len(late) < len(reached):
            return {"behind_ranks": _listed(late), "waited_in": str(last)}
    return {}


def _parted(done: dict[tuple[str, str], dict[int, str]]) -> dict[str, str]:
    """The first collective in which two ranks of a group did different things."""
    for (_, work), by_rank in sorted(done.items(), key=lambda item: int(item[0][1])):
        ranks = {what: rank for rank, what in sorted(by_rank.items(), reverse=True)}
        if len(ranks) > 1:
            first, second, *_ = sorted(ranks, key=lambda what: ranks[what])
            told = f"rank {ranks[first]}: {first}, rank {ranks[second]}: {second}"
            return {"parted_in": work, "parted": told}
    return {}


def _listed(ranks: Iterable[int]) -> str:
    ordered = sorted(ranks)
    return ", ".join(map(str, ordered)) if len(ordered) <= TOLD else ""
