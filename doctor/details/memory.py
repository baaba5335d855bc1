"""What the memory planner tells fixes after a run went out of memory."""

from __future__ import annotations

from doctor.estimate import from_facts
from doctor.estimate.verdict import FITS
from doctor.facts import Facts
from doctor.findings import Finding

LEAST = 512  # tokens; below it samples lose too much for a fix


def shorter_cutoff_len(facts: Facts, finding: Finding) -> int | None:
    """The longest halved cutoff with which the run fits by the planner; the present one was seen to fail. What the
    planner itself found (probe:memory) brings its own."""
    if finding.source.startswith("probe:") or not facts["gpu.count"]:
        return None
    values = facts["recipe.values"]
    cutoff = values.get("cutoff_len", 2048)
    while isinstance(cutoff, int) and (cutoff := cutoff // 2) >= LEAST:
        shorter = facts.merged({"recipe.values": {**values, "cutoff_len": cutoff}})
        if from_facts.of(shorter, with_changes=False).verdict == FITS:
            return cutoff
    return None
