"""What is asked after each cause: is it gone, and is nothing newly broken? The judgement itself is handed in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from doctor.findings import Finding
from knowledge_base import load
from knowledge_base.schema import Severity


@dataclass(frozen=True)
class VerifyResult:
    """`healed`: True the cause is gone, False it is still there, None it could not be looked at (`reason` says why).

    `newly_broken`: causes of severity error that are there now and were not before, and that could be judged before;
    what an unreadable file merely hid until now is no new fault.
    """

    healed: bool | None
    reason: str | None = None
    newly_broken: tuple[str, ...] = ()


Verify = Callable[[str], VerifyResult]


def newly_broken(
    before: Iterable[Finding], after: Iterable[Finding], not_judged_before: Iterable[str] = ()
) -> tuple[str, ...]:
    """Error causes in `after` that `before` lacks. `not_judged_before`: causes whose judgement was skipped before."""
    known = {finding.cause for finding in before} | set(not_judged_before)
    return tuple(sorted({f.cause for f in after if _is_error(f)} - known))


def _is_error(finding: Finding) -> bool:
    return (finding.severity or load.cause(finding.cause).severity) is Severity.ERROR
