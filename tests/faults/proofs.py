"""`python -m tests.faults.proofs`: write `verified_on` into the causes from what the fault campaign showed.

A proof is a fault whose real run failed, that one fix alone healed, and whose run then trained. Faults that change
packages are left out: the versions of such a run are not those of a stack.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from knowledge_base import load, package_sets
from tests.faults import record
from tests.faults.catalogue import FAULTS
from tests.faults.fault import Fault
from tests.faults.workspace import BASES
from tests.stack.reproductions.proofs import write

NAMED = ("llamafactory", "transformers", "torch", "deepspeed")
Healed = dict[tuple[str, str], list[dict[str, Any]]]


def healing_fix(fault: Fault, shown: Mapping[str, Any]) -> str | None:
    """The one fix after which the run that had failed trained, or None."""
    train, heal, again = (shown.get(step) or {} for step in ("train", "heal", "again"))
    if fault.packages is not None or not train.get("code") or not again.get("trained"):
        return None
    applied = [(cause, fix) for cause, fix, outcome, _ in heal.get("outcomes", []) if outcome == "verified"]
    return applied[0][1] if len(applied) == 1 and applied[0][0] == fault.cause else None


def healed() -> Healed:
    """(cause, fix) → proofs, one for each stack: the first fault of the catalogue that shows it."""
    found: Healed = defaultdict(list)
    results = record.read()
    for fault in FAULTS:
        stack = BASES[fault.base].stack
        fix = healing_fix(fault, results.get(fault.id, {}))
        proofs = found[fault.cause, fix] if fix else []
        if fix and stack not in [proof["stack"] for proof in proofs]:
            packages = package_sets.stack(stack).packages
            proofs.append({
                "stack": stack,
                "reproduction": f"faults/{fault.id}",
                "versions": {name: packages[name].version for name in NAMED if name in packages},
            })  # fmt: skip
    return found


def main() -> None:
    causes = {cause.id: cause for cause in load.all_causes()}
    for (cause, fix), proofs in healed().items():
        known = next((one for one in causes[cause].fixes if one.id == fix), None)
        if known is None:
            print(f"{cause}: the fix {fix} is no longer there")
            continue
        kept = [
            {"stack": proof.stack, "reproduction": proof.reproduction, "versions": proof.versions}
            for proof in known.verified_on
            if not proof.reproduction.startswith("faults/")
        ]
        told = [*kept, *(proof for proof in proofs if proof["stack"] not in [one["stack"] for one in kept])]
        try:
            write(cause, fix, told)
        except ValueError as error:
            print(f"{cause}: {error}")
            continue
        print(cause, fix, json.dumps([proof["reproduction"] for proof in told]))


if __name__ == "__main__":
    main()
