"""A million damaged logs: the reader and the diagnosis neither raise nor hang.

    python benchmarks/fuzz_reader.py [--inputs 1000000] [--seed 1] [--every 200] [--record]

Every input is made from the recorded logs: cut, spliced, with lines swapped, bytes flipped, other encodings, prefixes of
launchers, carriage returns, in a container's JSON or broken at a terminal's width, gzip and zstd cut short, words of the
signatures strewn in. It is read to lines and failures; one in `--every` goes through the whole diagnosis. Counted:
inputs, exceptions other than UnreadableLog, the slowest input. `--record` adds the counts to those of other seeds in
benchmarks/results/fuzz_reader.json, every 10,000 inputs, so that a million may be read in pieces. An exception ends the
run, and nothing more is recorded.
"""

from __future__ import annotations

import argparse
import gzip
import html
import json
import platform
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zstandard

from doctor.diagnose import UnreadableLog, diagnose, events
from doctor.diagnose.failures import failures
from doctor.diagnose.lines import lines
from doctor.diagnose.read import streams
from doctor.diagnose.scan import Words, scan
from knowledge_base.index import index

LOGS = Path(__file__).parent.parent / "tests" / "logs"
RESULT = Path(__file__).parent / "results" / "fuzz_reader.json"
LONGEST = 2000  # bytes of one input; one in ten thousand is repeated to more than the length that is kept whole
LONG = 1 << 21
PIECE = 10_000
PREFIXES = (b"[rank3]: ", b"[default0]:", b"node1: ", b"[1,3]<stderr>:", b"3: ", b"(Worker pid=7) ", b"worker-1  | ")
MARKS = (
    *(b"\r", b"\n", b"\r\n", b"\x00", b"\x1b[31m", b"\xff\xfe", b"\xef\xbb\xbf", b"\xe2\x94\x82 ", b"+-+---- 1 ----\n"),
    *(b"Traceback (most recent call last):\n", b'  File "a.py", line 1, in f\n', b"ValueError: ", b"\n\n", b'"""\n'),
    *(b"The above exception was the direct cause of the following exception:\n", b"Exception ignored in: <f>\n"),
    *(
        b"  3%|\xe2\x96\x8e   | 4/120 [00:01<00:40,  1.2it/s]",
        b"{'loss': nan, 'grad_norm': inf}\n",
        b"exitcode  : -9 (pid: 1)\n",
    ),
)


class Fuzzer:
    """Makes inputs; the same seed makes the same ones."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.seeds = [path.read_bytes()[: 4 * LONGEST] for path in sorted(LOGS.glob("*/*.log"))]
        exact, _ = index().all_words
        self.words = [word.encode() for word in sorted(exact)]
        self.changes: tuple[Callable[[bytes], bytes], ...] = (
            self.cut, self.splice, self.flip, self.insert, self.prefix, self.shuffle, self.strew, self.noise, self.carry,
        )  # fmt: skip

    def make(self) -> bytes:
        text = self.cut(self.dice.choice(self.seeds))
        for _ in range(self.dice.randint(1, 5)):
            text = self.dice.choice(self.changes)(text)
        text = text[:LONGEST]
        if self.dice.random() < 0.0001 and text:
            text *= LONG // len(text) + 1
        return self.wrapped(text)

    def wrapped(self, text: bytes) -> bytes:
        kind = self.dice.random()
        if kind < 0.85:
            return text
        if kind < 0.91:
            return text.decode("utf-8", "replace").encode(
                self.dice.choice(("utf-16", "utf-16-be", "gb18030", "utf-8-sig"))
            )
        packed = gzip.compress(text, 1) if kind < 0.96 else zstandard.compress(text, 1)
        return packed[: self.dice.randint(0, len(packed))] if self.dice.random() < 0.5 else self.flip(packed)

    def cut(self, text: bytes) -> bytes:
        start = self.dice.randrange(len(text) + 1)
        return text[start : start + self.dice.randint(1, LONGEST)]

    def splice(self, text: bytes) -> bytes:
        return self.cut(text) + self.cut(self.dice.choice(self.seeds))

    def flip(self, text: bytes) -> bytes:
        changed = bytearray(text)
        for _ in range(self.dice.randint(1, 12) if changed else 0):
            changed[self.dice.randrange(len(changed))] = self.dice.randrange(256)
        return bytes(changed)

    def insert(self, text: bytes) -> bytes:
        at = self.dice.randrange(len(text) + 1)
        return text[:at] + self.dice.choice(MARKS) * self.dice.choice((1, 1, 1, 40)) + text[at:]

    def prefix(self, text: bytes) -> bytes:
        chosen = self.dice.sample(PREFIXES, self.dice.randint(1, 3))
        return b"\n".join(self.dice.choice(chosen) + line for line in text.split(b"\n"))

    def carry(self, text: bytes) -> bytes:
        """What a container, a report, a page or a terminal makes of a log; other changes may follow."""
        log = text.decode("utf-8", "replace")
        kind = self.dice.randrange(5)
        if kind == 0:
            log = "".join(
                json.dumps({"log": line + self.dice.choice(("\n", "\n", ""))}) + "\n" for line in log.split("\n")
            )
        elif kind == 1:
            log = json.dumps(log, ensure_ascii=self.dice.random() < 0.5)
        elif kind == 2:
            log = html.escape(log)
        elif kind == 3:
            log = log.replace('"', "\u201d").replace("'", "\u2019")
        else:
            width = self.dice.choice((60, 80, 97, 120))
            log = "\n".join(line[at : at + width] for line in log.split("\n") for at in range(0, len(line) or 1, width))
        return log.encode()

    def shuffle(self, text: bytes) -> bytes:
        lines = text.split(b"\n")
        self.dice.shuffle(lines)
        return b"\n".join(lines)

    def strew(self, text: bytes) -> bytes:
        for _ in range(self.dice.randint(1, 8)):
            at = self.dice.randrange(len(text) + 1)
            text = text[:at] + self.dice.choice(self.words) + text[at:]
        return text

    def noise(self, text: bytes) -> bytes:
        return text + self.dice.randbytes(self.dice.randint(1, 400))


def read(log: Path, words: Words) -> None:
    """All that is done with a log before signatures are searched for."""
    words.often.clear()
    for stream in streams(log):
        failures(lines(scan(stream, words), 0))


def run(inputs: int, seed: int, every: int) -> dict[str, float]:
    """Read so many inputs, diagnose one in `every` of them. An exception that is not UnreadableLog passes through, its
    input kept as fuzz-failure.log."""
    fuzzer, words = Fuzzer(seed), Words(events.WORDS)
    slowest, unreadable, begin = 0.0, 0, time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "fuzz.log"
        for number in range(inputs):
            data = fuzzer.make()
            log.write_bytes(data)
            clock = time.process_time()
            try:
                read(log, words)
                if number % every == 0:
                    diagnose([log])
            except UnreadableLog:
                unreadable += 1
            except Exception:
                Path("fuzz-failure.log").write_bytes(data)
                raise
            slowest = max(slowest, time.process_time() - clock)
    return {
        "inputs": inputs,
        "diagnosed": -(-inputs // every),
        "unreadable": unreadable,
        "exceptions": 0,
        "slowest seconds": round(slowest, 3),
        "seconds": round(time.monotonic() - begin),
    }


def record(result: dict[str, float], seed: int) -> dict[str, Any]:
    """Add the counts of one seed to what was recorded of others."""
    known: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {"seeds": []}
    if seed in known["seeds"]:
        raise SystemExit(f"seed {seed} is recorded already")
    known["seeds"].append(seed)
    for key, value in result.items():
        known[key] = max(known.get(key, 0), value) if key.startswith("slowest") else known.get(key, 0) + value
    known["python"] = platform.python_version()
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(known, indent=1) + "\n")
    return known


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1, help="of the first 10,000; the next have the next ones")
    parser.add_argument("--every", type=int, default=200)
    parser.add_argument("--record", action="store_true")
    arguments = parser.parse_args()
    for piece in range(-(-arguments.inputs // PIECE)):
        seed = arguments.seed + piece
        result: dict[str, Any] = run(min(PIECE, arguments.inputs - piece * PIECE), seed, arguments.every)
        print(json.dumps(record(result, seed) if arguments.record else result), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
