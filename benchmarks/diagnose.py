"""Speed and memory of reading a long log.

    python benchmarks/diagnose.py [--gigabytes 1] [--folder DIR] [--record]

Writes logs that look like a real run (progress bars, loss lines, checkpoints; one failure at the end, at the start, or
in one rank of eight), reads each twice and reports the second time: GB/s of one core's time and of the clock, peak
memory of a process of its own, and the same with ten times as many causes. Beside it ripgrep with the same signatures
and with the words that they are searched by, and the whole command on a short log. Goals: 1 GB/s, 200 MB, twice ripgrep,
ten times the causes in at most 1.3 times the time, a short log in 0.4 s. `--record` writes benchmarks/results/diagnose.json.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FAILURE = """\
[rank3]: Traceback (most recent call last):
[rank3]:   File "/opt/env/lib/python3.11/site-packages/llamafactory/launcher.py", line 23, in <module>
[rank3]:     launch()
[rank3]:   File "/opt/env/lib/python3.11/site-packages/accelerate/accelerator.py", line 973, in no_sync
[rank3]:     with context():
[rank3]: AssertionError: no_sync context manager is incompatible with gradient partitioning logic of ZeRO stage 3
W1123 19:03:09.000 4032 torch/distributed/elastic/multiprocessing/api.py:897] Sending process 4033 closing signal SIGTERM
E1123 19:03:09.000 4032 torch/distributed/elastic/multiprocessing/api.py:869] failed (exitcode: 1) local_rank: 3 (pid: 4036)
"""
RESULT = Path(__file__).parent / "results" / "diagnose.json"
SAMPLE = 1 << 15  # bytes; ripgrep takes seconds for them with thousands of expressions
EXPECTED = "ds-no-sync-zero"


def progress(size: int, ranks: int) -> Iterator[bytes]:
    """About `size` bytes of a run that goes well, in pieces of about 1 MB."""
    dice = random.Random(1)
    piece: list[str] = []
    written = length = step = 0
    while written < size:
        step += 1
        bar = "█" * (step % 10)
        text = (
            f"\r {step % 100}%|{bar:<10}| {step}/99999 [{step % 60:02}:{step % 60:02}<{step % 60:02}:11, "
            f"{dice.random() * 9:5.2f}s/it]"
            f"\r                    {{'loss': {dice.random():.4f}, 'grad_norm': {dice.random():.6f}, 'learning_rate': "
            f"{dice.random() * 1e-5:.6e}, 'epoch': {step / 1000:.2f}}}\n"
        )
        if ranks > 1:
            text += f"[rank{step % ranks}]: [2026-11-23 19:01:41,903] [INFO] [stage3.py:1234:step] step {step} done\n"
        if step % 50 == 0:
            text += (
                f"[INFO|trainer.py:3801] 2026-11-23 19:01:41,966 >> Saving model checkpoint to /out/checkpoint-{step}\n"
            )
        piece.append(text)
        length += len(text)
        if length > 1 << 20:
            block = "".join(piece).encode()
            yield block
            written += len(block)
            piece, length = [], 0


def write(folder: Path, kind: str, size: int) -> Path:
    place = folder / f"{kind}.log"
    with place.open("wb") as file:
        if kind == "start":
            file.write(FAILURE.encode())
        for number, block in enumerate(progress(size, 8 if kind == "one-of-eight" else 1)):
            file.write(block)
            if kind == "one-of-eight" and number == (size >> 21):
                file.write(FAILURE.encode())
        if kind == "end":
            file.write(FAILURE.encode())
    return place


def child(place: Path, times_causes: int) -> None:
    """Read the log twice in this process; print the second time and the peak memory as JSON."""
    from doctor.diagnose import diagnose
    from knowledge_base import load
    from knowledge_base.index import build, index
    from knowledge_base.schema import Signature

    known = index()
    if times_causes > 1:
        import msgspec

        causes = [(load.area(cause.id), cause) for cause in load.all_causes()]
        for copy in range(1, times_causes):
            for area, cause in causes[: len(known.summaries)]:
                signs = tuple(
                    Signature(f"{s.pattern}{copy}", s.strength) for s in cause.signatures if s.pattern[-1] not in "$\\"
                )
                causes.append((area, msgspec.structs.replace(cause, id=f"{cause.id}-{copy}", signatures=signs)))
            causes = causes[: len(known.summaries) * times_causes]
        known = build(causes)
    found = []
    for _ in range(2):
        clock, cpu = time.perf_counter(), time.process_time()
        found = [finding.cause for finding in diagnose([place], index=known).findings]
        clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"clock": clock, "cpu": cpu, "peak": peak, "found": found, "causes": len(known.summaries)}))


def measure(place: Path, times_causes: int = 1) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", str(place), "--times-causes", str(times_causes)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def speed(size: float, taken: dict[str, Any]) -> str:
    per_core, by_clock = size / taken["cpu"] / 1e9, size / taken["clock"] / 1e9
    peak = f"  peak {taken['peak'] / 1e6:4.0f} MB" if "peak" in taken else ""
    return f"{per_core:5.2f} GB/s of one core  {by_clock:5.2f} GB/s by the clock{peak}"


def searchers(place: Path, folder: Path) -> dict[str, dict[str, float]]:
    """The same search with ripgrep, on one core: the signatures as they are (without the names of their groups) in the
    first SAMPLE bytes, and only the words they demand in all of it. grep -F stands in where ripgrep
    is not installed."""
    from knowledge_base.index import index

    signatures, words = folder / "signatures.txt", folder / "words.txt"
    patterns = [
        re.sub(r"\(\?P<\w+>", "(?:", sign.pattern.regex).replace('\\"', '"').replace("\\'", "'")
        for sign in index().signs
    ]
    signatures.write_text("\n".join(patterns) + "\n", encoding="utf-8")
    words.write_text("\n".join(sorted(index().all_words[0])) + "\n", encoding="utf-8")
    sample = folder / "sample.log"
    with place.open("rb") as file:
        sample.write_bytes(file.read(SAMPLE))
    limits = ("-j1", "--regex-size-limit=2G", "--dfa-size-limit=2G")
    searches: dict[str, tuple[list[str | Path], Path]] = (
        {
            "rg -c -f": (["rg", *limits, "-c", "-f", signatures], sample),
            "rg -c -F -f": (["rg", "-c", "-F", "-f", words], place),
        }
        if shutil.which("rg")
        else {"grep -c -F -f": (["grep", "-c", "-F", "-f", words], place)}
    )
    return {name: _search(name, [*command, log], log.stat().st_size) for name, (command, log) in searches.items()}


def _search(name: str, command: list[str | Path], size: int) -> dict[str, float]:
    """The second of two runs."""
    for _ in range(2):
        before, clock = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
        clock, after = time.perf_counter() - clock, resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode > 1:
            raise SystemExit(f"{name}: {done.stderr[-400:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "cpu": cpu,
        "clock": clock,
        "size": size,
        "lines": int(done.stdout or 0),
        "GB/s of one core": size / cpu / 1e9,
    }


def start_up() -> dict[str, float]:
    """Seconds of the whole command on a short log: the best and the median of nine."""
    log = next((Path(__file__).parent.parent / "tests" / "logs" / EXPECTED).glob("positive*.log"))
    command = [str(Path(sys.executable).with_name("skyt1-doctor")), "diagnose", str(log)]
    taken = []
    for _ in range(10):
        clock = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        taken.append(time.perf_counter() - clock)
        assert EXPECTED in done.stdout, done.stderr
    taken = sorted(taken[1:])
    return {"best": taken[0], "median": taken[len(taken) // 2]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--record", action="store_true", help="write benchmarks/results/diagnose.json")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--times-causes", type=int, default=1, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments.times_causes)
        return 0
    results: dict[str, Any] = {"gigabytes": arguments.gigabytes, "small log": start_up(), "logs": {}}
    print(f"small log, with start-up: {results['small log']['median']:.2f} s")
    good = True
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        for kind in ("end", "start", "one-of-eight"):
            place = write(folder, kind, int(arguments.gigabytes * 1e9))
            size = place.stat().st_size
            once = results["logs"][kind] = measure(place)
            once["GB/s of one core"] = size / once["cpu"] / 1e9
            good &= once["found"][:1] == [EXPECTED]
            print(f"failure at {kind:13} {speed(size, once)}  found {once['found']}")
            if kind == "end":
                tenfold = results["ten times the causes"] = measure(place, 10)
                tenfold["times as long"] = tenfold["cpu"] / once["cpu"]
                print(
                    f"  with {tenfold['causes']} causes instead of {once['causes']}: {tenfold['times as long']:.2f} × the"
                    f" time, found {tenfold['found']}\n  {speed(size, tenfold)}"
                )
                for program, taken in searchers(place, folder).items():
                    results[program] = taken
                    print(f"  {program:22} {speed(taken['size'], taken)}  {taken['lines']} lines")
            place.unlink()
    if arguments.record:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(json.dumps(results, indent=1) + "\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
