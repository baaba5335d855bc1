"""`check --deep`: each GPU at work, against the other ones and against what the card should do; all ranks together.

On a machine without a GPU the same is done on the CPU with gloo: what is tested there is that the ranks find each other.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from statistics import median
from typing import Any

import msgspec

from doctor.facts import Facts, Unknown
from doctor.findings import Evidence, Finding
from doctor.gpu.deep import ranks
from doctor.gpu.deep.cards import known
from doctor.target import Target
from knowledge_base.schema import Severity

ID = "collective"
AFTER: tuple[str, ...] = ("recipe", "launch", "gpu", "packages")
DEEP = True

# A process sees one part of a MIG card at most, and NCCL joins none: then one rank works alone.
CPU_RANKS = 4  # at most; that they meet is shown by a few
OF_OTHERS = 0.80  # of the median of the other GPUs of the same kind; below it a GPU is slow
OF_CARD = {"matmul": 0.45, "memory": 0.60}  # of the maker's figure; healthy H100s reach 0.7 and 0.85
FIGURES = {
    "matmul": ("matrix products", 1e12, "Top/s"),
    "memory": ("memory", 1e9, "GB/s"),
    "to_device": ("host to device", 1e9, "GB/s"),
    "to_host": ("device to host", 1e9, "GB/s"),
    "to_peer": ("to the next GPU", 1e9, "GB/s"),
}
_MEANING = {
    "started": "it was forked and said nothing more",
    "device": "it did not come back from starting its device",
    "work": "it did not come back from computing and copying on its device",
    "join": "it did not come back from joining the process group",
    "reduce": "it did not come back from the all-reduce",
}


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    """`collective.device`, `.torch`, `.ranks`, `.transports` (see gpu.deep.ranks.run), `.seconds`, `.diagnosed` (rank ->
    findings)."""
    names = ("device", "torch", "ranks", "seconds", "transports", "diagnosed")
    if "torch" not in facts["packages.versions"]:
        return {f"{ID}.{name}": Unknown("torch is not installed in the target") for name in names}
    count = facts["gpu.count"]
    device = "cuda" if count else "cpu"
    parts = any(str(name).startswith("MIG-") for name in facts["gpu.visible"])
    size = 1 if parts else count or min(facts["launch.nproc"], CPU_RANKS, os.cpu_count() or 1)
    import_seconds = min(ranks.IMPORT_SECONDS, target.budget * 0.5)
    work_seconds = min(ranks.WORK_SECONDS, target.budget * 0.4)
    told = ranks.run(target.python, target.workdir, target.environ, size, device, import_seconds, work_seconds)
    unknown = isinstance(told["ranks"], Unknown)
    return {
        f"{ID}.device": device,
        f"{ID}.torch": told["imported"],
        f"{ID}.ranks": told["ranks"],
        f"{ID}.seconds": told["seconds"],
        f"{ID}.transports": told["transports"] if count else [],
        f"{ID}.diagnosed": told["ranks"] if unknown else _diagnosed(told["ranks"], facts),
    }


def _diagnosed(found: list[dict[str, Any]], facts: Facts) -> dict[str, Any]:
    """What the words of a failed rank are known for: `{rank: finding}`."""
    from doctor.diagnose import diagnose

    named = {}
    for rank in found:
        if failure := rank.get("failure"):
            with tempfile.NamedTemporaryFile("w", suffix=".log", encoding="utf-8") as log:
                log.write(f"Traceback (most recent call last):\n{failure['exception']}: {failure['message']}\n")
                log.flush()
                findings = diagnose([log.name], facts).findings
            if findings and findings[0].confidence >= 0.5:
                named[str(rank["rank"])] = msgspec.to_builtins(findings[0])
    return named


# -- judgements ---------------------------------------------------------------------------------------------------------
def ranks_meet(facts: Facts) -> Iterator[Finding]:
    """A rank that failed is named with its words; else the rank that came least far is the one the others wait for."""
    found, diagnosed = facts["collective.ranks"], facts["collective.diagnosed"]
    failed = [rank for rank in found if "failure" in rank or rank.get("code", 0) < 0]
    # A rank that fails while they work together may be the echo of the one that is missing.
    alone = [rank for rank in failed if rank.get("failure", {}).get("during") != "together"]
    silent = [rank for rank in found if "code" not in rank and "failure" not in rank]
    least = min((ranks.STAGES.index(r["stage"]) if r["stage"] in ranks.STAGES else -1 for r in silent), default=0)
    missing = [r for r in silent if r["stage"] == ([*ranks.STAGES, "started"][least])]
    for rank in alone:
        yield from _failed(rank, diagnosed)
    if alone or (not silent and not failed):
        return
    if silent and (len(missing) < len(found) or len(found) == 1):
        for rank in missing:
            yield _named(
                "nccl-timeout", rank, f"rank {rank['rank']} of {len(found)} did not come: {_MEANING[rank['stage']]}"
            )
    elif failed:
        yield from _failed(failed[0], diagnosed)
    else:
        what = f"none of {len(found)} ranks came back: {_MEANING[missing[0]['stage']]}"
        yield Finding("nccl-timeout", (Evidence(what, "check --deep"),), source=f"probe:{ID}")


def _failed(rank: dict[str, Any], diagnosed: dict[str, Any]) -> Iterator[Finding]:
    failure = rank.get("failure")
    if failure is None:
        yield _named("nccl-peer-exited", rank, f"rank {rank['rank']} was ended by signal {-rank['code']}")
        return
    what = f"rank {rank['rank']}: {failure['exception']}: {failure['message'][:400]}"
    known_as = diagnosed.get(str(rank["rank"]))
    if known_as:
        finding = msgspec.convert(known_as, Finding)
        yield msgspec.structs.replace(
            finding, evidence=(Evidence(what, "check --deep"),), source=f"probe:{ID}", rank=rank["rank"]
        )
    else:
        yield _named("cuda-unavailable" if failure["during"] == "device" else "nccl-peer-exited", rank, what)


def _named(cause: str, rank: dict[str, Any], what: str) -> Finding:
    return Finding(cause, (Evidence(what, "check --deep"),), source=f"probe:{ID}", rank=rank["rank"])


def slow_gpu(facts: Facts) -> Iterator[Finding]:
    """A GPU slower than the others of its kind, or than its maker says; one that others use is not judged."""
    if facts["collective.device"] != "cuda":
        return
    measured = [rank for rank in facts["collective.ranks"] if "matmul" in rank and _is_idle(rank)]
    for rank in measured:
        said = [*_beside_the_others(rank, measured), *_beside_the_maker(rank)]
        if said:
            where = f"GPU {rank['rank']} ({rank.get('name')})"
            evidence = tuple(Evidence(what, where) for what in said)
            yield Finding("gpu-slow", evidence, Severity.WARNING, source=f"probe:{ID}", rank=rank["rank"])


def _is_idle(rank: dict[str, Any]) -> bool:
    return bool(rank.get("total")) and rank.get("free", 0) > 0.9 * rank["total"]


def _beside_the_others(rank: dict[str, Any], measured: list[dict[str, Any]]) -> Iterator[str]:
    for name in FIGURES:
        others = [r[name] for r in measured if r is not rank and name in r and r.get("name") == rank.get("name")]
        if name in rank and others and rank[name] < OF_OTHERS * median(others):
            yield f"{_figure(name, rank[name])}, the others {_figure(name, median(others), short=True)}"


def _beside_the_maker(rank: dict[str, Any]) -> Iterator[str]:
    rates = known(str(rank.get("name")))
    for name, should in zip(OF_CARD, rates or (), strict=False):
        if rank[name] < OF_CARD[name] * should:
            yield f"{_figure(name, rank[name])}, the card's maker says {_figure(name, should, short=True)}"


def _figure(name: str, value: float, short: bool = False) -> str:
    words, unit, sign = FIGURES[name]
    return f"{value / unit:,.0f} {sign}" if short else f"{words}: {value / unit:,.0f} {sign}"


JUDGEMENTS = (ranks_meet, slow_gpu)
