"""Writes down what test_every_fix.py found, from pytest's own report: all fixes, or those that passed and failed.

python -m pytest -m "stack or not stack" tests/fixes/test_every_fix.py --junitxml=REPORT
python -m tests.fixes.record REPORT        into benchmarks/results/every_fix.json
"""

from __future__ import annotations

import json
import re
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from fixes.actions import PACKAGE_KINDS
from tests.fixes.every_fix import PAIRS

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "every_fix.json"


def summary(reports: list[Path]) -> dict[str, Any]:
    read = [case for report in reports for case in ET.parse(report).getroot().iter("testcase")]
    cases = [case for case in read if "[" in str(case.get("name"))]
    found = {re.sub(r".*\[(.*)\]$", r"\1", str(case.get("name"))): case for case in cases}
    failed = sorted(name for name, case in found.items() if len(case) and case[0].tag in ("failure", "error"))
    of_packages = {f"{c.id}/{f.id}" for c, f in PAIRS if any(a.kind in PACKAGE_KINDS for a in f.action_list())}
    return {
        "date": time.strftime("%Y-%m-%d"),
        "in_the_knowledge_base": len(PAIRS),
        "run": len(found),
        "of_these_change_packages": len(of_packages & found.keys()),
        "passed": len(found) - len(failed),
        "failed": failed,
        "not_run": sorted({f"{c.id}/{f.id}" for c, f in PAIRS} - found.keys()),
        "seconds": round(sum(float(case.get("time", 0)) for case in cases), 1),
    }


if __name__ == "__main__":
    text = json.dumps(summary([Path(name) for name in sys.argv[1:]]), indent=1)
    RESULTS.write_text(text + "\n", encoding="utf-8")
    print(text)
