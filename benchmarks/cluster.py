"""Joining and judging the facts of 10, 100 and 1,000 nodes: seconds, memory, and what one node sends. Once more for 1,000
nodes of which no two have the same packages, so that nothing is judged once for many. `again`: the whole program on the
saved facts, `check --from`. Seconds are those of one core (nothing here waits or runs in parallel), so that a busy machine
measures the same as an idle one.

    python benchmarks/cluster.py --env ENV --workspace DIR [--json FILE]

The document of one node is collected from ENV and DIR (`make demo` leaves both in .demo). The others are made from it:
each has its own name, addresses, free memory, free disk and clock, as real nodes do; a few are odd in one thing.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from doctor.cluster.capture import zipped

SIZES = ((10, False), (100, False), (1000, False), (1000, True))  # nodes, and whether each has packages of its own
_MEASURED = """
import gzip, json, resource, sys, time
from pathlib import Path
from doctor.cluster import judge, render
from doctor.cluster.capture import Capture
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
started = time.process_time()
capture = Capture()
for path in sorted(Path(sys.argv[1]).iterdir()):
    capture.add(path.name.removesuffix(".gz"), gzip.decompress(path.read_bytes()))
joined = time.process_time()
judged = judge.judge(capture)
done = time.process_time()
content = render.document("check", capture, judged, "en")
lines = list(render.lines(content, "en"))
import msgspec
Path(sys.argv[2]).write_bytes(msgspec.json.encode({"cluster_facts": content["cluster_facts"]}))
print(json.dumps({"nodes": len(capture.nodes), "join_seconds": round(joined - started, 3),
    "judge_seconds": round(done - joined, 3), "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    "start_mb": round(before / 1024), "findings": len(judged.findings), "text_lines": len(lines),
    "longest_line": max(map(len, lines)), "json_mb": round(len(msgspec.json.encode(content)) / 1e6, 2)}))
"""


def node(base: dict[str, Any], number: int, count: int) -> dict[str, Any]:
    """The document of one of `count` nodes. Odd: 5 % with another deepspeed, one each with a GPU, clock, file or network
    of its own."""
    facts = copy.deepcopy(base)
    address = f"10.0.{number // 250}.{number % 250 + 1}"
    facts |= {
        "node.host": f"node{number:04d}",
        "node.clock_ahead": 0.001 * (number % 97),
        "machine.memory_available": base["machine.memory_available"] - number * 4096,
        "launch.nnodes": count,
        "launch.node_rank": number,
        "launch.master_addr": "10.0.0.1",
        "network.master": {"name": "10.0.0.1", "addresses": ["10.0.0.1"], "error": None},
        "network.here": number == 0,
        "network.interfaces": {"ib0": {"up": True, "addresses": [f"{address}/16"], "mtu": 2044, "mbits": 200000}},
        "network.route": {"address": "10.0.0.1", "source": address, "interface": "ib0", "error": None},
        "meeting.heard": [f"node{other:04d}" for other in range(1, count)] if number == 0 else None,
        "meeting.reached": None if number == 0 else True,
        "meeting.span": [base.get("node.clock", 0.0), base.get("node.clock", 0.0) + 8.0],
    }
    for place, disk in enumerate(facts["machine.disks"].values()):
        if "free" in disk:
            disk["free"] -= (number * 7 + place) << 20
    if number % 20 == 3:
        facts["packages.versions"]["deepspeed"] = "0.16.2"
    if number == count - 1:
        facts["node.clock_ahead"] = 40.0
    if number == count - 2:
        facts["meeting.reached"] = "No route to host"
    if number == count - 3:
        facts["machine.shm"]["total"] = 64 << 20
    if number == count - 4:
        facts["files.seen"]["dataset_info.json"] = {"data/dataset_info.json": {"size": 1, "digest": "0" * 16}}
    return facts


def measured(base: dict[str, Any], count: int, own_packages: bool, folder: Path) -> dict[str, Any]:
    """One row: the documents of `count` nodes joined and judged in a process of its own, then judged again from a file."""
    documents, saved = folder / "documents", folder / "nodes.json"
    documents.mkdir()
    for number in range(count):
        facts = node(base, number, count)
        if own_packages:
            facts["packages.versions"]["rich"] = f"13.0.{number}"
        (documents / f"node{number:04d}.gz").write_bytes(zipped(facts))
    argv = [sys.executable, "-c", _MEASURED, str(documents), str(saved)]
    row = json.loads(subprocess.run(argv, capture_output=True, check=True, text=True).stdout)
    program = [str(Path(sys.executable).parent / "skyt1-doctor"), "check", "--from", str(saved)]
    child = subprocess.Popen(program, stdout=subprocess.DEVNULL)
    _, _, usage = os.wait4(child.pid, 0)
    child.returncode = 0
    again = {"again_seconds": round(usage.ru_utime + usage.ru_stime, 2), "again_mb": round(usage.ru_maxrss / 1024)}
    return {**row, "own_packages": own_packages, **again}


def collected(env: Path, workspace: Path) -> dict[str, Any]:
    """One real document, as a node would send it."""
    from doctor.cluster import collector

    request = {"workdir": str(workspace), "python": str(env / "bin" / "python"), "budget": 10.0}
    return collector.facts(request)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env", type=Path, default=Path(".demo/env"))
    parser.add_argument("--workspace", type=Path, default=Path(".demo/workspace"))
    parser.add_argument("--json", type=Path, help="Write the figures here too.")
    arguments = parser.parse_args()
    base = collected(arguments.env.absolute(), arguments.workspace.absolute())
    rows = []
    print(f"one document: {len(zipped(base)) / 1024:.1f} KB gzipped, {len(json.dumps(base)) / 1024:.0f} KB plain")
    columns = (
        "nodes",
        "join_seconds",
        "judge_seconds",
        "peak_mb",
        "findings",
        "text_lines",
        "json_mb",
        "again_seconds",
        "again_mb",
    )
    print("".join(f"{name:>15}" for name in columns))
    for count, own_packages in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            row = measured(base, count, own_packages, Path(folder))
        rows.append(row)
        print("".join(f"{row[name]:>15}" for name in columns))
    if arguments.json:
        arguments.json.write_text(json.dumps({"document_bytes": len(zipped(base)), "runs": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
