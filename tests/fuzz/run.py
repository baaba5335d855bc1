"""Fuzzing of what `check` reads: every input ends in findings or a clean error, and runs no code.

    python -m tests.fuzz.run [--inputs 500000] [--record tests/fuzz/record.json] [--seed 1]

In one process, in memory. Input n is made from (seed, n) alone, so that a failure can be repeated with `--from n --inputs 1`
and a run that was cut off goes on where the record says. What failed is in the record with its number.
"""

from __future__ import annotations

import argparse
import collections
import json
import random
import re
import resource
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from doctor.errors import BadInput
from tests.fuzz import mutate
from tests.fuzz.subjects import CANARY, Subject, World

SLOW = 2.0  # seconds of processor time that one input may take
PEAK = 1 << 30  # bytes of memory that the process may reach
# Events of Python's own audit that a reader of files has no reason to cause.
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "pickle.find_class", "socket.connect",
             "os.mkdir", "shutil.rmtree", "ctypes.dlopen")  # fmt: skip
RECORD = Path(__file__).parent / "record.json"


class Watch:
    """Notes forbidden events while it is on. A hook cannot be taken off, so there is one for the process."""

    on = False
    seen: list[str] = []  # noqa: RUF012 - one for the process

    @classmethod
    def install(cls) -> None:
        if not hasattr(cls, "installed"):
            sys.addaudithook(cls.hook)
            cls.installed = True

    @classmethod
    def hook(cls, event: str, arguments: tuple[Any, ...]) -> None:
        if cls.on and event in FORBIDDEN:
            cls.seen.append(f"{event}{arguments!r}"[:200])


def one(world: World, subject: Subject, raw: bytes) -> tuple[str, str]:
    """(`findings` | `nothing` | `clean error` | `failed`, what failed)."""
    begun = time.process_time()  # a machine with other work does not count
    Watch.seen.clear()
    Watch.on = True
    try:
        _, count = world.examine(subject, raw)
        ended, why = "findings" if count else "nothing", ""
    except BadInput as error:
        clean = re.fullmatch(r"[^\n]{10,600}\.", str(error))
        ended, why = ("clean error", "") if clean else ("failed", f"not one sentence: {error!r}")
    except Exception:  # noqa: BLE001 - what this looks for
        ended, why = "failed", traceback.format_exc(limit=-4)[-2000:]
    finally:
        Watch.on = False
    if Watch.seen or (world.folder / CANARY).exists():
        ended, why = "failed", f"code ran: {Watch.seen}"
    elif time.process_time() - begun > SLOW:
        ended, why = "failed", f"took {time.process_time() - begun:.1f} s"
    return ended, why


def pick(world: World, seed: int, number: int) -> tuple[Subject, bytes]:
    """Subject and bytes of an input."""
    draw = random.Random(f"{seed}/{number}")
    subject = draw.choices(world.subjects, [s.share for s in world.subjects])[0]
    return subject, mutate.choose(subject.seeds, draw)


def _retry(record: dict[str, Any], world: World, outcomes: dict[str, collections.Counter[str]]) -> None:
    """Inputs that failed before: those that the doctor has learnt to survive move to `mended`."""
    for failure in list(record["failures"]):
        subject, raw = pick(world, record["seed"], failure["input"])
        ended, _ = one(world, subject, raw)
        if ended != "failed":
            record["failures"].remove(failure)
            record.setdefault("mended", []).append({"input": failure["input"], "subject": subject.name})
            outcomes[subject.name]["failed"] -= 1
            outcomes[subject.name][ended] += 1
            outcomes[subject.name] += collections.Counter()  # drops what has become zero


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=500_000)
    parser.add_argument("--from", dest="first", type=int, help="the first input (default: where the record ends)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--record", type=Path, default=RECORD)
    given = parser.parse_args()
    record: dict[str, Any] = {"seed": given.seed, "inputs": 0, "seconds": 0.0, "outcomes": {}, "failures": []}
    if given.first is None and given.record.exists():
        record = json.loads(given.record.read_text(encoding="utf-8"))
    Watch.install()
    # Named by the seed: inputs hold the path of the canary, and are the same ones again only where it is the same.
    folder = Path("/dev/shm" if Path("/dev/shm").is_dir() else tempfile.gettempdir()) / f"fuzz-{record['seed']}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        world = World(folder)
        first = record["inputs"] if given.first is None else given.first
        last = given.inputs if given.first is None else first + given.inputs
        outcomes: dict[str, collections.Counter[str]] = {
            name: collections.Counter(counts) for name, counts in record["outcomes"].items()
        }
        _retry(record, world, outcomes)
        begun = kept = time.monotonic()
        for number in range(first, last):
            subject, raw = pick(world, record["seed"], number)
            ended, why = one(world, subject, raw)
            outcomes.setdefault(subject.name, collections.Counter())[ended] += 1
            if ended == "failed" and len(record["failures"]) < 200:
                record["failures"].append({"input": number, "subject": subject.name, "why": why})
                print(f"input {number} ({subject.name}): {why}", file=sys.stderr, flush=True)
            if time.monotonic() - kept > 20 or number == last - 1:
                record["seconds"] = round(record["seconds"] + time.monotonic() - kept, 1)
                kept = time.monotonic()
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
                record |= {"inputs": number + 1, "peak_mb": peak >> 20}
                record["outcomes"] = {name: dict(sorted(counts.items())) for name, counts in sorted(outcomes.items())}
                if given.first is None:
                    given.record.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
                if peak > PEAK:
                    raise SystemExit(f"memory grew to {peak >> 20} MiB")
        print(
            f"{last - first} inputs in {time.monotonic() - begun:.0f} s, {len(record['failures'])} failures",
            file=sys.stderr,
        )
        return 1 if record["failures"] else 0
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
