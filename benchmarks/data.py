"""Speed and memory of reading a sharegpt file, beside `datasets.load_dataset("json")` on the same file.

    python benchmarks/data.py [--gigabytes 1] [--form list|lines] [--record 18000] [--python PYTHON] [--folder DIR]
                              [--json FILE] [--times 3]

PYTHON is an interpreter that has `datasets` (a LLaMA-Factory environment); without it only our own figures are given.
Each reader is a process of its own. Its processor time is that of its children, too; its peak memory is the resident set
that the kernel reports, and for each process that ours may start as much as the largest of them took. Goals: 5 times
faster than load_dataset, under 300 MB, and the Sky-T1 size (17k records of 18 kB, 300 MB) in under 3 s.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

OURS = """
import json, resource, sys, time
from pathlib import Path
from doctor.recipe import data_scan, data_workers, dataset_info, dataset_rules, json_text
tags = {"role_tag": "from", "content_tag": "value", "user_tag": "user", "assistant_tag": "assistant"}
columns = {"messages": "conversations", "system": "system"}
given = {"file_name": "x", "formatting": "sharegpt", "columns": columns, "tags": tags}
info = json_text.parse(json.dumps({"d": given}))
entry = dataset_info.entry("d", info, dataset_rules.FALLBACK)
path = Path(sys.argv[1])
begun, worked = time.perf_counter(), time.process_time()
scan = data_scan.scan(entry, [(path, path.name)], "json", "sft", path.parent, time.monotonic() + 3600)
seconds, worked = time.perf_counter() - begun, time.process_time() - worked
others = resource.getrusage(resource.RUSAGE_CHILDREN)
worked += others.ru_utime + others.ru_stime
assert scan.complete and scan.usable == scan.read, scan
peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + data_workers.MOST * others.ru_maxrss) << 10
print(json.dumps({"seconds": seconds, "processor": worked, "records": scan.read, "peak": peak}))
"""
THEIRS = """
import json, os, resource, sys, tempfile, time
os.environ["HF_HUB_OFFLINE"] = "1"
import datasets
datasets.disable_progress_bars()
with tempfile.TemporaryDirectory(dir=os.path.dirname(sys.argv[1])) as cache:
    begun, worked = time.perf_counter(), time.process_time()
    data = datasets.load_dataset("json", data_files=[sys.argv[1]], split="train", cache_dir=cache)
    seconds, worked = time.perf_counter() - begun, time.process_time() - worked
    records = len(data)
    del data
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
print(json.dumps({"seconds": seconds, "processor": worked, "records": records, "peak": peak}))
"""


def write(path: Path, size: int, form: str, record: int) -> int:
    """About `size` bytes of conversations with answers of about `record` bytes; the number of records."""
    random_ = random.Random(1)
    words = ["".join(random_.choices("abcdefghijklmnopqrstuvwxyz", k=random_.randint(2, 9))) for _ in range(3000)]
    pieces = [" ".join(random_.choices(words, k=12)) + random_.choice(["\n\n", ". ", ' "so" ']) for _ in range(4000)]
    count = 0
    with path.open("w", encoding="utf-8") as file:
        file.write("[\n" if form == "list" else "")
        while file.tell() < size:
            answer = "".join(random_.choices(pieces, k=max(1, record // 75)))
            turns = [
                {"from": "user", "value": f"Question {count}: {random_.choice(pieces)}"},
                {"from": "assistant", "value": answer},
            ]
            text = json.dumps(
                {"system": "Think step by step.", "conversations": turns}, indent=2 if form == "list" else None
            )
            file.write((",\n" if count and form == "list" else "") + text + ("\n" if form == "lines" else ""))
            count += 1
        file.write("\n]\n" if form == "list" else "")
    return count


def run(python: str, code: str, path: Path) -> dict[str, float]:
    """Run one reader. The file was read before, so that both find it in the page cache."""
    done = subprocess.run(
        [python, "-c", code, str(path)], capture_output=True, text=True, cwd=Path(__file__).parents[1]
    )
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--form", choices=("list", "lines"), default="list")
    parser.add_argument("--record", type=int, default=18_000, help="bytes of an answer")
    parser.add_argument("--python", help="an interpreter that has datasets")
    parser.add_argument("--times", type=int, default=3, help="runs of each reader; the quickest of each counts")
    parser.add_argument("--json", type=Path, help="keep the figures here, beside those of other sizes and forms")
    parser.add_argument("--folder", help="where the file is written (default: a temporary folder)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        path = Path(folder) / ("data.json" if given.form == "list" else "data.jsonl")
        count = write(path, int(given.gigabytes * 1e9), given.form, given.record)
        size = path.stat().st_size
        print(f"{size / 1e6:.0f} MB, {count} records, {given.form}")
        others = os.getloadavg()[0]  # what else wants the cores: with more than they are, two processes gain little
        runs: dict[str, list[dict[str, float]]] = {OURS: [], THEIRS: []}
        for _ in range(given.times):  # in turns, so that what else the machine does falls on both
            runs[OURS].append(run(sys.executable, OURS, path))
            if given.python:
                runs[THEIRS].append(run(given.python, THEIRS, path))
        ours = _quickest(runs[OURS])
        rate = size / 1e6 / ours["seconds"]
        print(f"skyt1-doctor   {ours['seconds']:7.2f} s  {rate:6.0f} MB/s  peak {ours['peak'] / 1e6:.0f} MB")
        row: dict[str, Any] = {"mb": round(size / 1e6), "records": count, "skyt1-doctor": _rounded(ours)}
        row["other_work"] = round(others, 1)
        if given.python:
            theirs = _quickest(runs[THEIRS])
            rate = size / 1e6 / theirs["seconds"]
            print(f"load_dataset   {theirs['seconds']:7.2f} s  {rate:6.0f} MB/s  peak {theirs['peak'] / 1e6:.0f} MB")
            print(f"{theirs['seconds'] / ours['seconds']:.1f} times faster")
            row |= {"load_dataset": _rounded(theirs), "times_faster": round(theirs["seconds"] / ours["seconds"], 1)}
            row["times_less_processor_time"] = round(theirs["processor"] / ours["processor"], 1)
        if given.json:
            kept = json.loads(given.json.read_text()) if given.json.exists() else {"rows": {}}
            kept |= {"date": time.strftime("%Y-%m-%d"), "cores": len(os.sched_getaffinity(0))}
            kept["rows"][f"{given.form}, {size / 1e9:.1f} GB, answers of {given.record} bytes"] = row
            given.json.write_text(json.dumps(kept, indent=1) + "\n")


def _quickest(runs: list[dict[str, float]]) -> dict[str, float]:
    return min(runs, key=lambda answer: answer["seconds"])


def _rounded(answer: dict[str, float]) -> dict[str, float]:
    """Seconds by the clock and of the processor: other work on the machine counts in the first only."""
    figures = {name: round(answer[name], 2) for name in ("seconds", "processor")}
    return {**figures, "peak_mb": round(answer["peak"] / 1e6)}


if __name__ == "__main__":
    main()
