"""A log joined with the target it came from: of the causes that a log allows, the one that is seen in the target leads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from doctor.findings import Finding

NEAR = 0.5  # a cause with less than this part of the leader's confidence is not what this log is about


def confirm(seen: Sequence[Finding], judged: Iterable[Finding]) -> list[Finding]:
    """Findings of a log, in the order that the target's own findings suggest.

    One message may have several causes: a safetensors header that cannot be read is a damaged file or a git-lfs pointer.
    A finding that the probes judge as well gets their evidence and their details, which name files and versions better
    than a log does, and comes first among those about as likely as the log's first.
    """
    known: dict[str, Finding] = {}
    for finding in judged:
        known.setdefault(finding.cause, finding)
    if not seen:
        return []
    leader = max(finding.confidence for finding in seen)
    joined = [_joined(finding, known[finding.cause], leader) if finding.cause in known else finding for finding in seen]
    return sorted(joined, key=lambda f: not (f.cause in known and f.confidence >= NEAR * leader))


def _joined(seen: Finding, judged: Finding, leader: float) -> Finding:
    sure = leader if seen.confidence >= NEAR * leader else seen.confidence
    return msgspec.structs.replace(
        seen,
        confidence=max(seen.confidence, sure),
        evidence=(*seen.evidence, *(item for item in judged.evidence if item not in seen.evidence)),
        details={**seen.details, **judged.details},
    )
