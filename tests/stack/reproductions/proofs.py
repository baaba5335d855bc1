"""`python -m tests.stack.reproductions.proofs`: write `verified_on` into the causes from results.json."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from knowledge_base import load
from tests.stack.reproductions import record


def write(cause: str, fix: str, proofs: list[dict[str, Any]]) -> None:
    """Replace the proofs of one fix; every other line of the file stays as it is."""
    path = Path(str(load.paths()[cause]))
    lines = path.read_text(encoding="utf-8").splitlines()
    start, end = _block(lines, fix)
    block = [line for line in _without_proofs(lines[start:end]) if not re.match(r"    evidence:", line)]
    told = ["    verified_on:", *(f"      - {_flow(proof)}" for proof in proofs), "    evidence: run"]
    path.write_text("\n".join([*lines[:start], *block, *told, *lines[end:]]) + "\n", encoding="utf-8")


def _block(lines: list[str], fix: str) -> tuple[int, int]:
    """First and past-the-last line of a fix in block style. Raises ValueError when it is not there."""
    first = next((n for n, line in enumerate(lines) if line.rstrip() == f"  - id: {fix}"), None)
    if first is None:
        raise ValueError(f"no fix {fix} in block style")
    after = first + 1
    while after < len(lines) and lines[after].startswith("    "):
        after += 1
    return first, after


def _without_proofs(block: list[str]) -> list[str]:
    kept, inside = [], False
    for line in block:
        if re.match(r"    \S", line):
            inside = line.startswith("    verified_on:")
        if not inside:
            kept.append(line)
    return kept


def _flow(proof: dict[str, Any]) -> str:
    return yaml.safe_dump(proof, default_flow_style=True, sort_keys=False, width=1000).strip()


def main() -> None:
    healed: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for name, seen in record.results().items():
        if seen["failed_before"] and seen["trained_after"] and "faults" not in seen:
            proof = {"stack": seen["stack"], "reproduction": name, "versions": seen["versions"]}
            healed.setdefault((seen["cause"], seen["fix"]), []).append(proof)
    for (cause, fix), proofs in healed.items():
        write(cause, fix, proofs)
        print(cause, fix, *(proof["stack"] for proof in proofs))


if __name__ == "__main__":
    main()
