"""Matches + failures → candidates, the most likely root cause first, or nothing.

The loudest error is rarely the cause. What is weighed here:

* where a signature fits: the message of a failure counts fully, a warning half, an INFO line or a destructor less;
* what came first: later failures are mostly echoes, and a failure that nothing knows, before the first known one,
  makes a symptom worthless;
* what a cause is: a symptom yields to every root cause, a wrapper to everything, and a cause to those it names;
* whether known versions contradict it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from doctor.diagnose.events import Kind
from doctor.diagnose.failures import Failure
from doctor.diagnose.lines import Level, Line
from doctor.diagnose.match import How, Match
from doctor.diagnose.versions import contradicts
from knowledge_base.index import Index, Summary
from knowledge_base.schema import Role

LEAST = 0.25  # below it a candidate is not worth telling
LEAST_FIRST = 0.55  # below it nothing is told: more likely wrong than right, "not known" is the better answer
MOST_TOLD = 5
IN_MESSAGE, IN_CODE, PLAIN, WARNING, INFO, NOISE, DATA = 1.0, 0.93, 0.95, 0.6, 0.4, 0.5, 0.05
WEIGHT_OF_LEVEL = {Level.ERROR: 1.0, Level.PLAIN: PLAIN, Level.WARNING: WARNING, Level.INFO: INFO}
LATER, AFTER_UNKNOWN, CONTRADICTED = 0.85, 0.7, 0.4
WEIGHT_OF_WAY = {How.LINE: 1.0, How.WRAPPED: 0.97, How.ANY_CASE: 0.9}


@dataclass
class Candidate:
    """A cause with all its matches; `best` is the one that says most, `score` how likely the cause is the root."""

    summary: Summary
    matches: list[Match]
    best: Match
    weight: float
    failure: Failure | None
    score: float
    told_by: list[str] = field(default_factory=list)

    @property
    def soft(self) -> bool:
        """Seen only where nothing failed: in a warning or an INFO line."""
        return self.weight <= WARNING


class Judge:
    """Weighs the matches of one run."""

    def __init__(self, lines: list[Line], failures: list[Failure], index: Index, versions: dict[str, str]) -> None:
        self.lines, self.failures, self.index, self.versions = lines, failures, index, versions
        self.message_of: dict[int, Failure] = {}
        self.body_of: dict[int, Failure] = {}
        for failure in failures:
            for position in range(failure.start, failure.end):
                line = lines[position]
                if (line.log, line.lane) == (failure.log, failure.lane):
                    (self.message_of if position >= failure.at else self.body_of).setdefault(position, failure)

    def candidates(self, matches: list[Match], data: set[int]) -> list[Candidate]:
        """Candidates in order; empty when the log does not show its cause. `data` are lines of printed samples."""
        by_cause: dict[str, list[Match]] = defaultdict(list)
        for match in matches:
            by_cause[match.sign.cause].append(match)
        found = [self._candidate(cause, group, data) for cause, group in by_cause.items()]
        found = [c for c in found if c.weight > DATA]
        unknown = self.unknown(found)
        explained = {match.index for c in found if c.summary.role is not Role.WRAPPER for match in c.matches}
        found = [c for c in found if not self._hollow(c, unknown, explained)]
        self._order(found, unknown)
        found.sort(key=lambda c: (-c.score, c.best.index))
        if not found or found[0].score < LEAST_FIRST:
            return []
        return [c for c in found if c.score >= LEAST][:MOST_TOLD]

    def _candidate(self, cause: str, group: list[Match], data: set[int]) -> Candidate:
        summary = self.index.summaries[cause]
        weighed = [(self._weight(match.index, data) * WEIGHT_OF_WAY[match.how], match) for match in group]
        weight, best = max(weighed, key=lambda pair: (pair[0] * pair[1].sign.strength, -pair[1].index))
        failure = self.message_of.get(best.index) or self.body_of.get(best.index)
        score = weight * best.sign.strength
        if contradicts(summary.affected, self.versions):
            score *= CONTRADICTED
        return Candidate(summary, group, best, weight, failure, score)

    def _weight(self, position: int, data: set[int]) -> float:
        """How much a fit at this line says."""
        if position in data:
            return DATA
        level = WEIGHT_OF_LEVEL[self.lines[position].level]
        failure = self.message_of.get(position)
        if failure is not None:
            return NOISE if failure.kind is Kind.NOISE else min(IN_MESSAGE, level if level < PLAIN else IN_MESSAGE)
        failure = self.body_of.get(position)
        if failure is not None:
            return NOISE if failure.kind is Kind.NOISE else min(IN_CODE, level)
        return level

    def unknown(self, found: list[Candidate]) -> list[Failure]:
        """Hard failures, outermost of each chain, that no root or symptom explains, in order."""
        explained = {
            failure.chain
            for candidate in found
            if candidate.summary.role is not Role.WRAPPER and not candidate.soft
            for match in candidate.matches
            if (failure := self.message_of.get(match.index) or self.body_of.get(match.index)) is not None
        }
        chains: dict[int, Failure] = {}
        for failure in self.failures:
            if failure.hard and failure.level is not Level.WARNING and failure.chain not in explained:
                chains[failure.chain] = failure
        return sorted(chains.values(), key=lambda failure: failure.at)

    def _hollow(self, candidate: Candidate, unknown: list[Failure], explained: set[int]) -> bool:
        """Whether the candidate is only the echo, or the warning, beside a failure that nothing knows."""
        if candidate.summary.role is Role.WRAPPER and any(f.at not in explained for f in self.failures if f.died_of):
            return True
        if not unknown:
            return False
        if candidate.summary.role is Role.WRAPPER or candidate.soft:
            return True
        return candidate.summary.role is Role.SYMPTOM and unknown[0].at < candidate.best.index

    def _order(self, found: list[Candidate], unknown: list[Failure]) -> None:
        """Lower the scores of what came later, of symptoms and wrappers beside root causes, of what yields."""
        roots = [c for c in found if c.summary.role is Role.ROOT and not c.soft]
        for candidate in found:
            if unknown and unknown[0].at < candidate.best.index:
                candidate.score *= AFTER_UNKNOWN
            if any(self._after(candidate, other) for other in roots if other is not candidate):
                candidate.score *= LATER
        ladder = {Role.ROOT: 0, Role.SYMPTOM: 1, Role.WRAPPER: 2}
        for candidate in sorted(found, key=lambda c: ladder[c.summary.role]):
            better = [
                other.score
                for other in found
                if other is not candidate
                and not (other.soft and not candidate.soft)
                and (
                    other.summary.id in candidate.summary.yields_to
                    or ladder[other.summary.role] < ladder[candidate.summary.role]
                )
            ]
            if better:
                candidate.score = min(candidate.score, 0.9 * max(better))

    def _after(self, candidate: Candidate, other: Candidate) -> bool:
        """Whether the candidate shows only in a failure that came after another candidate's, in another traceback."""
        mine, its = candidate.failure, other.failure
        if mine is None or its is None or mine.chain == its.chain:
            return False
        first = min(match.index for match in candidate.matches)
        return first >= its.end and its.hard
