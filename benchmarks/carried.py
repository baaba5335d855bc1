"""How often the answer changes when a log went through something else on its way.

    python benchmarks/carried.py [--json FILE]

Every positive log of the project is put into what people really paste or collect: a container's JSON, a cluster's
prefixes, a report with the log as one string, a page's entities and quotation marks, a terminal of 80 or 120 columns. Its
answer must be that of the log itself. Goal: at most 5 % of the answers change in any of them. Of some logs people hand on
one line alone, that with the message, or not even the exception's type before it; much is unknown then, and the goal is at
most 5 % of answers to another cause.
"""

from __future__ import annotations

import argparse
import html
import json
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from doctor.diagnose import diagnose  # noqa: E402
from doctor.findings import Finding  # noqa: E402


def before_each(prefix: str) -> Callable[[str], str]:
    return lambda log: "\n".join(prefix + line for line in log.split("\n"))


def docker(log: str) -> str:
    told = {"stream": "stderr", "time": "2026-01-02T03:04:05.678901234Z"}
    return "\n".join(json.dumps({"log": line + "\n", **told}) for line in log.split("\n"))


def broken_at(width: int) -> Callable[[str], str]:
    def broken(log: str) -> str:
        lines = log.split("\n")
        return "\n".join(line[at : at + width] for line in lines for at in range(0, max(1, len(line)), width))

    return broken


def curly(log: str) -> str:
    return log.replace("'", "\u2019").replace('"', "\u201d")


FORMS: dict[str, Callable[[str], str]] = {
    "docker": docker,
    "kubelet": before_each("2026-01-02T03:04:05.678901234Z stderr F "),
    "journal": before_each("Jan 02 03:04:05 node7 python[4242]: "),
    "ray": before_each("\x1b[36m(RayTrainWorker pid=4242, ip=10.0.0.7)\x1b[0m "),
    "pdsh": before_each("worker-0: "),
    "compose": before_each("trainer-1  | "),
    "quoted": before_each("> "),
    "one string": json.dumps,
    "page": html.escape,
    "curly": curly,
    "80 columns": broken_at(80),
    "120 columns": broken_at(120),
    "one line": lambda log: " ".join(line.strip() for line in log.split("\n")),
    "no indentation": lambda log: "\n".join(line.lstrip() for line in log.split("\n")),
    "empty lines": lambda log: log.replace("\n", "\n\n"),
}
# of the line that the answer rests on
LINES: dict[str, Callable[[str], str]] = {
    "message alone": lambda line: line,
    "without type": lambda line: re.sub(r"^(?:\[rank\d+\]:? ?)?[\w.]+(?:Error|Exception): ", "", line),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="keep the figures here")
    given = parser.parse_args()
    logs = [path.read_text(errors="replace") for path in sorted((ROOT / "tests/logs").glob("*/positive*.log"))]
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "a.log"

        def answer(log: str) -> Finding | None:
            place.write_text(log, encoding="utf-8", errors="replace")
            found = diagnose([place]).findings
            return found[0] if found else None

        findings = [answer(log) for log in logs]
        own = [finding and finding.cause for finding in findings]
        rests_on = [finding.evidence[0].what if finding else log for finding, log in zip(findings, logs, strict=True)]
        forms = {name: [form(log) for log in logs] for name, form in FORMS.items()}
        forms |= {name: [form(line) for line in rests_on] for name, form in LINES.items()}
        for name, carried in forms.items():
            answers = [finding and finding.cause for finding in map(answer, carried)]
            changed = [theirs for theirs, mine in zip(answers, own, strict=True) if theirs != mine]
            rows[name] = {"logs": len(logs), "changed": len(changed), "to another cause": sum(map(bool, changed))}
            print(
                f"{name:15} {len(changed):4} of {len(logs)} changed, {sum(map(bool, changed))} to another cause",
                flush=True,
            )
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
