"""How the diagnosis behaves on what it has not seen.

    python benchmarks/generalise.py [CASES.jsonl] [--record]

(a) Leave one cause out: each cause in turn is taken out of the knowledge base; then its logs should be answered "not
    known". Counted: how many are given another cause instead, roots and symptoms; among them those that mislead nobody,
    a wrapper ("a process died, the log does not say why") and a more general cause, true of the log as well (a package
    is missing, the memory is full). What is left is misled; goal: at most 4 %, symptoms included.
(b) Paraphrase: paths, numbers, versions, times and the order of ranks are changed; the answer must stay the same.

CASES.jsonl holds one `{"cause": id, "log": text}` a line; without it, tests/logs/<cause id>/positive*.log are used.
`accept` may list further right answers of a case.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from doctor.diagnose import Diagnosis, diagnose
from knowledge_base import load
from knowledge_base.index import Index, build
from knowledge_base.schema import Role

LOGS = Path(__file__).parent.parent / "tests" / "logs"
RESULT = Path(__file__).parent / "results" / "generalise.json"
# Causes between which a log alone cannot decide; either is a right answer for the other.
ALIKE = (
    {"launch-sigkill-oom", "mem-host-oom"},
    {"mem-shm", "nccl-shm-too-small"},
    {"nccl-socket-ifname", "nccl-wrong-interface"},
    {"cuda-oom", "eval-oom"},
    {"data-multimodal-placeholder", "data-multimodal-token-mismatch"},
    {"env-compiler-missing", "ds-cpu-adam-build", "ds-op-build-failed"},
    {"ckpt-resume-mismatch", "ckpt-world-size-changed"},
)
# General cause -> special cases of it, besides its kinds and those that it yields to: what it says of their logs is true,
# only less exact.
GENERAL = {
    "cfg-bad-value-type": {"cfg-lr-string"},
    "cuda-oom": {"ds-zero3-save-oom", "gpu-busy", "train-oom-fragmentation"},
    "data-column-missing": {"data-format-undeclared"},
    "data-empty-after-filter": {"data-stage-mismatch", "data-streaming-multimodal"},
    "model-processor-missing": {"tmpl-wrong-for-model"},
    "model-shards-missing": {"ckpt-zero-not-consolidated"},
    "nccl-timeout": {"train-hang-mixed-modality"},
    "pkg-conflict": {"pkg-gradio-pydantic-mismatch", "pkg-version-out-of-range"},
    "pkg-transformers-too-old-for-model": {"env-python-mismatch", "tok-saved-by-newer-transformers"},
    "tok-load-failed": {"tok-file-missing"},
    "tok-pad-token": {"tok-special-tokens-empty"},
}


def cases(path: Path | None) -> list[dict[str, Any]]:
    if path is not None:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [
        {"cause": log.parent.name, "log": log.read_text(encoding="utf-8", errors="replace"), "case": log.name}
        for log in sorted(LOGS.glob("*/positive*.log"))
    ]


def answer(log: str, index: Index, folder: Path) -> Diagnosis:
    place = folder / "case.log"
    place.write_text(log, encoding="utf-8", errors="replace")
    return diagnose([place], index=index)


def first(result: Diagnosis) -> str | None:
    return result.findings[0].cause if result.findings else None


def alike(cause: str) -> set[str]:
    """What may be told for the cause: itself, what no log can tell from it, and the kinds of these."""
    group = {cause}.union(*(group for group in ALIKE if cause in group))
    return group | {each.id for each in load.all_causes() if each.kind_of in group}


def general(told: str, cause: str) -> bool:
    """Whether what was told is a more general name of the cause."""
    return load.cause(cause).kind_of == told or cause in load.cause(told).yields_to or cause in GENERAL.get(told, ())


def left_out(all_cases: list[dict[str, Any]], folder: Path, show: bool) -> dict[str, int]:
    """How many cases get another cause, and of which kinds, when their own is taken out."""
    causes = [(load.area(cause.id), cause) for cause in load.all_causes()]
    by_cause = defaultdict(list)
    for case in all_cases:
        by_cause[case["cause"]].append(case)
    misled: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    for cause_id, its_cases in by_cause.items():
        if cause_id not in load.paths():
            continue
        index = build((area, cause) for area, cause in causes if cause.id != cause_id)
        for case in its_cases:
            kinds["cases"] += 1
            got = first(answer(case["log"], index, folder))
            right = set(case.get("accept", ())).union(*map(alike, [cause_id, *case.get("accept", ())]))
            if got is None or got in right:
                continue
            role = index.summaries[got].role
            kind = "wrapper" if role is Role.WRAPPER else "more general" if general(got, cause_id) else "misled"
            kinds.update(("another cause", kind))
            kinds["another root cause"] += role is Role.ROOT
            misled[got] += kind == "misled"
            if show:
                print(f"  without {cause_id}: {got}, {kind}  ({case.get('case', '')})", file=sys.stderr)
    names = ("cases", "another cause", "another root cause", "wrapper", "more general", "misled")
    counts = {name: kinds[name] for name in names}
    shares = (f"{name} {count} ({100 * count / max(counts['cases'], 1):.1f} %)" for name, count in counts.items())
    print("leave one cause out: " + ", ".join(list(shares)[1:]) + f", of {counts['cases']} cases")
    for cause_id, count in misled.most_common(12):
        if count:
            print(f"  {count:3}  {cause_id}")
    return counts


def paths(log: str, dice: random.Random) -> str:
    """Other directories: /opt/env/lib → /mnt/x7/venv/lib; what software prints after them stays."""
    return re.sub(
        r"/(?:opt|home|workspace|root|usr/local|data\d*)/",
        f"/mnt/disk{dice.randint(1, 9)}/u{dice.randint(10, 99)}/",
        log,
    )


def numbers(log: str, dice: random.Random) -> str:
    """Other line numbers, process ids, addresses and sizes of files; not exit codes, signals or errno."""
    log = re.sub(r"(?<=, line )\d+", lambda _: str(dice.randint(10, 4000)), log)
    log = re.sub(r"(?<=\(pid: )\d+|(?<=pid=)\d+|(?<=process )\d{3,}", lambda _: str(dice.randint(1000, 99999)), log)
    return re.sub(r"0x[0-9a-f]{8,}", lambda _: f"0x{dice.getrandbits(44):x}", log)


def versions(log: str, dice: random.Random) -> str:
    """Another Python in the paths, another patch release in what is stated about other packages."""
    minor = dice.choice(["3.9", "3.10", "3.11", "3.12"])
    return re.sub(r"python3\.(?:8|9|10|11|12)(?=/)", f"python{minor}", log)


def times(log: str, dice: random.Random) -> str:
    log = re.sub(r"\b\d\d:\d\d:\d\d\b", lambda _: f"{dice.randint(0, 23):02}:{dice.randint(0, 59):02}:11", log)
    return re.sub(r"\b20\d\d-\d\d-\d\d\b", "2025-01-07", log)


def ranks(log: str, dice: random.Random) -> str:
    """The ranks change their names."""
    other = dice.randint(1, 7)
    return re.sub(r"\[rank(\d+)\]:", lambda match: f"[rank{(int(match[1]) + other) % 8}]:", log)


def noise(log: str, dice: random.Random) -> str:
    """Harmless lines before, as real logs have them."""
    before = [
        "[INFO|tokenization_utils_base.py:2209] 2025-01-07 10:00:11,105 >> loading file tokenizer.json",
        "01/07/2025 10:00:12 - INFO - llamafactory.hparams.parser - Process rank: 0, device: cuda:0, n_gpu: 1",
    ]
    return "\n".join([*before, log])


def in_a_real_log(log: str, dice: random.Random) -> str:
    """Behind all that a real run prints before it trains: no condition of a signature may hang on such words."""
    real = (LOGS / "healthy" / "h100-zero3.log").read_text(encoding="utf-8")
    return real[: real.index("***** Running training")].rpartition("\n")[0] + "\n" + log


CHANGES: tuple[Callable[[str, random.Random], str], ...] = (
    paths,
    numbers,
    versions,
    times,
    ranks,
    noise,
    in_a_real_log,
)


def changed(log: str, seed: int) -> Iterator[tuple[str, str]]:
    for change in CHANGES:
        yield change.__name__, change(log, random.Random(seed))


def paraphrased(all_cases: list[dict[str, Any]], folder: Path, show: bool) -> dict[str, Any]:
    """How many changed logs are answered otherwise than the log as it was, and by which changes."""
    index = build((load.area(cause.id), cause) for cause in load.all_causes())
    asked = 0
    other: defaultdict[str, int] = defaultdict(int)
    for seed, case in enumerate(all_cases):
        before = first(answer(case["log"], index, folder))
        for name, log in changed(case["log"], seed):
            if log == case["log"]:
                continue
            asked += 1
            after = first(answer(log, index, folder))
            if after != before:
                other[name] += 1
                if show:
                    print(f"  {name}: {before} became {after}  ({case.get('case', '')})", file=sys.stderr)
    share = 100 * sum(other.values()) / max(asked, 1)
    print(f"paraphrase: {asked} changed logs, other answer {sum(other.values())} ({share:.1f} %) {dict(other)}")
    return {"changed logs": asked, "other answer": sum(other.values()), "by": dict(other)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="?", type=Path)
    parser.add_argument("--only-paraphrase", action="store_true")
    parser.add_argument("--show", action="store_true", help="list the cases on standard error")
    parser.add_argument("--record", action="store_true", help="write benchmarks/results/generalise.json")
    arguments = parser.parse_args()
    all_cases = cases(arguments.cases)
    with tempfile.TemporaryDirectory() as folder:
        out = {} if arguments.only_paraphrase else left_out(all_cases, Path(folder), arguments.show)
        same = paraphrased(all_cases, Path(folder), arguments.show)
    if arguments.record:
        RESULT.write_text(json.dumps({"leave one cause out": out, "paraphrase": same}, indent=1) + "\n")
    misled = out.get("misled", 0)
    return 0 if misled <= 0.04 * out.get("cases", 0) and same["other answer"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
