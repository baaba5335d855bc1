"""What `check` says of the recipe as it is, beside what its rehearsal showed.

A rehearsal takes ports, process counts, trackers, the output directory and what only a GPU does into its own hands;
of those it shows nothing, and what blocks the real run there is known before anything is started.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from doctor.findings import Finding
from doctor.rehearse.record import FAILED, Rehearsal, Stage

CHECK = "check"


def judged(result: Rehearsal, blocking: Sequence[Finding], seconds: float) -> Rehearsal:
    """The rehearsal with `check` as its first stage, which took `seconds`.

    `blocking` are the findings that the run cannot survive: with one of them the verdict is failed, whatever the toy
    run did. A cause that both name is told once, with the evidence of both.
    """
    stage = Stage(CHECK, passed=not blocking, seconds=round(seconds, 1))
    shown = {finding.cause: finding for finding in result.findings}
    merged = [_with(finding, shown.pop(finding.cause, None)) for finding in blocking]
    return msgspec.structs.replace(
        result,
        verdict=FAILED if blocking else result.verdict,
        stages=[stage, *result.stages],
        findings=[*merged, *shown.values()],
    )


def _with(finding: Finding, other: Finding | None) -> Finding:
    if other is None:
        return finding
    details = {**other.details, **finding.details}
    return msgspec.structs.replace(finding, evidence=(*finding.evidence, *other.evidence), details=details)
