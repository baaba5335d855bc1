"""How often an answer given with a confidence is right.

    python benchmarks/calibration.py [CASES.jsonl] [--record]

Cases as in generalise.py; without a file the recorded logs, by which the signatures were written, so a file of logs that
nobody wrote signatures by says more. Goal: of the answers given with 0.9 or more, nine in ten are right.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from generalise import alike, answer, cases

from knowledge_base.index import index

RESULT = Path(__file__).parent / "results" / "calibration.json"
STEPS = (0.9, 0.8, 0.7, 0.55)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="?", type=Path)
    parser.add_argument("--record", action="store_true", help="write benchmarks/results/calibration.json")
    arguments = parser.parse_args()
    given: dict[float, list[bool]] = {step: [] for step in STEPS}
    unknown = 0
    with tempfile.TemporaryDirectory() as folder:
        for case in cases(arguments.cases):
            found = answer(case["log"], index(), Path(folder)).findings
            if not found:
                unknown += 1
                continue
            accepted = set().union(*map(alike, case.get("accept") or [case["cause"]]))
            step = next((step for step in STEPS if found[0].confidence >= step), STEPS[-1])
            given[step].append(found[0].cause in accepted)
    for step, answers in given.items():
        if answers:
            print(
                f"{step:4} or more: {sum(answers)} of {len(answers)} right ({100 * sum(answers) / len(answers):.1f} %)"
            )
    print(f"unknown: {unknown}")
    if arguments.record:
        counts = {str(step): {"given": len(answers), "right": sum(answers)} for step, answers in given.items()}
        RESULT.write_text(json.dumps({"unknown": unknown, "confidence": counts}, indent=1) + "\n")
    sure = given[STEPS[0]]
    return 0 if sure and sum(sure) >= 0.9 * len(sure) else 1


if __name__ == "__main__":
    sys.exit(main())
