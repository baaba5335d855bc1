"""The proven package set that the target is nearest to, and what differs. A note, never a finding: other sets train too."""

from __future__ import annotations

from typing import Any

from doctor.facts import Facts
from doctor.probes import Judgement
from doctor.target import Target
from knowledge_base import package_sets

ID = "stack"
AFTER: tuple[str, ...] = ("packages",)


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    """`stack.nearest`: its id or None; `stack.differs`: core package → [installed or None, the stack's version]."""
    installed = facts["packages.versions"]
    found = package_sets.nearest(installed)
    if found is None:
        return {"stack.nearest": None, "stack.differs": {}}
    differs = found.differs(installed, package_sets.CORE)
    return {
        "stack.nearest": found.id,
        "stack.differs": {name: [have, found.packages[name].version] for name, have in differs.items()},
    }


JUDGEMENTS: tuple[Judgement, ...] = ()
