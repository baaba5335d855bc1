"""The planner against what several GPUs showed: `python benchmarks/several_gpus/compare.py ROWS`.

For each run of the part `memory` in rows.jsonl: the measured peak of the fullest card by NVML and of the node's memory,
what the planner says for that many ranks, and its verdict on cards of that size. Exit 1 when its median error is above
4 %, its 90th percentile above 10 %, or a run that went out of memory is called fitting.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "memory"), str(HERE.parents[1])]

from judge import MEDIAN, TAIL, spread, use_of  # noqa: E402  (the memory benchmark's)
from models import SHAPES  # noqa: E402

from doctor.estimate import World, shape, verdict  # noqa: E402

_MIB = 1 << 20


def judged(row: dict[str, Any], machine: dict[str, Any]) -> verdict.Judged:
    config = shape.from_config(SHAPES[row["shape"]])
    assert config is not None
    usable = machine["total"] - machine["reserved_by_driver"]
    return verdict.judge(config, use_of(row), World(row["ranks"], 1, usable))


def main(path: Path) -> int:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows = [row for row in rows if row["part"] == "memory"]
    machine = next(row["machine"] for row in rows if row["what"] == "machine")
    runs = [row for row in rows if row.get("outcome") in ("trained", "out of memory") and row["nvml"]]
    print(f"{machine['card']}, {machine['versions']}")
    print(f"{'run':32} {'ranks':>5} {'NVML':>7} {'planner':>8} {'':>7} {'host':>8} {'planner':>8}  verdict")
    errors: list[float] = []
    tensors: list[float] = []  # of what tensors hold, without what the allocator keeps beside
    said_fits = 0
    for row in runs:
        found, fullest = judged(row, machine), max(row["nvml"])
        trained = row["outcome"] == "trained"
        if trained:
            errors.append(abs(found.gpu - fullest) / fullest)
            held = max(one["allocated"] for one in row["each"])
            tensors.append(abs(found.sure - found.context - held) / held)
        else:
            said_fits += found.verdict == verdict.FITS
        error = f"{(found.gpu - fullest) / fullest:+.1%}" if trained else "OOM"
        print(f"{row['what']:32} {row['ranks']:5} {fullest / _MIB:7.0f} {found.gpu / _MIB:8.0f} {error:>7} "
              f"{row['host'] / _MIB:8.0f} {found.host.expected / _MIB:8.0f}  {found.verdict}")  # fmt: skip
    for row in rows:
        if row.get("outcome") in ("failed", "ended"):
            print(f"{row['what']}: {row['outcome']}: {[one.get('message') for one in row['each']]}")
    if len(errors) < 2:
        print(f"{len(errors)} runs that trained are too few for a judgement")
        return 1
    median, tail = spread(errors) if len(errors) > 2 else (statistics.median(errors), max(errors))
    print(f"{len(errors)} runs that trained: median error {median:.1%}, 90th percentile {tail:.1%}")
    print(f"of what tensors hold alone: median error {statistics.median(tensors):.2%}, at most {max(tensors):.1%}")
    print(f"out of memory: {len(runs) - len(errors)} runs, {said_fits} of them called fitting")
    return int(median > MEDIAN or tail > TAIL or said_fits > 0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
