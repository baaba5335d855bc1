"""Matches + failures → candidates, the most likely root cause first, or nothing.

The loudest error is rarely the cause. What is weighed here:

* where a signature fits: the message of a failure counts fully, a warning half (more where nothing failed), an INFO line
  or a destructor less;
* what came first: later failures are mostly echoes, and a failure that nothing knows, before the first known one,
  makes a symptom worthless;
* what a cause is: a symptom yields to every root cause, a wrapper to everything, and a cause to those it names;
* whether known versions contradict it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from doctor.diagnose.events import Kind
from doctor.diagnose.failures import Failure
from doctor.diagnose.lines import Level, Line
from doctor.diagnose.match import How, Match
from doctor.diagnose.versions import contradicts
from knowledge_base.index import Index, Summary
from knowledge_base.schema import Role

BESIDE = 0.4  # a candidate is told beside the first when its score is at least this share of the first's
LEAST_FIRST = 0.55  # below it nothing is told: more likely wrong than right, "not known" is the better answer
MOST_TOLD = 5
IN_MESSAGE, IN_CODE, PLAIN, WARNING, INFO, NOISE, DATA = 1.0, 0.93, 0.95, 0.6, 0.4, 0.5, 0.05
WEIGHT_OF_LEVEL = {Level.ERROR: 1.0, Level.PLAIN: PLAIN, Level.WARNING: WARNING, Level.INFO: INFO}
ALONE = 0.75  # a warning where nothing failed: it is what the log has to say, though never surely
NOT_SURE = 0.59
LATER, AFTER_UNKNOWN, CONTRADICTED = 0.85, 0.55, 0.4
TELLING = 0.5  # a signature weaker than this does not explain a failure
RUNGS = {Role.ROOT: 0, Role.SYMPTOM: 1, Role.WRAPPER: 2}
WEIGHT_OF_WAY = {How.LINE: 1.0, How.WRAPPED: 0.97, How.UNQUOTED: 0.95, How.ANY_CASE: 0.9, How.BARE: 0.85}


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
        # what a destructor complains of is an echo, but where nothing else is left of the run it is what the log has to say
        self.noise = NOISE if any(failure.hard for failure in failures) else ALONE
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
        blocked = [match for match in matches if match.blocked]
        for match in matches:
            if match.blocked:
                continue
            by_cause[match.sign.cause].append(match)
        found = [self._candidate(cause, group, data) for cause, group in by_cause.items()]
        found = [c for c in found if c.weight > DATA]
        unknown = self.unknown(found, blocked)
        explained = {match.index for c in found if c.summary.role is not Role.WRAPPER for match in c.matches}
        # That a line fits another cause's signature but for its conditions does not make an echo the answer.
        untold = self.unknown(found)
        found = [c for c in found if not self._hollow(c, unknown if self._root(c) else untold, explained)]
        found = self._order(found, unknown)
        if not found or found[0].score < LEAST_FIRST:
            return []
        return [c for c in found if c.score >= BESIDE * found[0].score][:MOST_TOLD]

    def _candidate(self, cause: str, group: list[Match], data: set[int]) -> Candidate:
        summary = self.index.summaries[cause]
        weighed = [
            (self._weight(match.index, data, summary.silent) * WEIGHT_OF_WAY[match.how], match) for match in group
        ]
        weight, best = max(weighed, key=lambda pair: (pair[0] * pair[1].sign.strength, -pair[1].index))
        failure = self.message_of.get(best.index) or self.body_of.get(best.index)
        score = weight * best.sign.strength
        if contradicts(summary.affected, self.versions):
            score *= CONTRADICTED
        if weight == ALONE:
            score = min(score, NOT_SURE)
        return Candidate(summary, group, best, weight, failure, score)

    def _weight(self, position: int, data: set[int], silent: bool) -> float:
        """How much a fit at this line says. A silent cause speaks in INFO lines and warnings or not at all."""
        if position in data:
            return DATA
        level = IN_MESSAGE if silent else WEIGHT_OF_LEVEL[self.lines[position].level]
        if level == WARNING and not self.failures:
            return ALONE
        failure = self.message_of.get(position)
        if failure is not None:
            return self.noise if failure.kind is Kind.NOISE else min(IN_MESSAGE, level if level < PLAIN else IN_MESSAGE)
        failure = self.body_of.get(position)
        if failure is not None:
            return self.noise if failure.kind is Kind.NOISE else min(IN_CODE, level)
        return level

    def unknown(self, found: list[Candidate], blocked: Sequence[Match] = ()) -> list[Failure]:
        """Hard failures, outermost of each chain, that no root or symptom explains, in order. What fits but for its
        conditions explains too: it is known as the work of another cause."""
        telling = [match for c in found if c.summary.role is not Role.WRAPPER and not c.soft for match in c.matches]
        telling = [match for match in telling if match.sign.strength >= TELLING]
        explained = {
            failure.chain
            for match in [*telling, *(blocked if found else ())]
            if (failure := self.message_of.get(match.index) or self.body_of.get(match.index)) is not None
        }
        chains: dict[int, Failure] = {}
        for failure in self.failures:
            if failure.hard and failure.level is not Level.WARNING and failure.chain not in explained:
                chains[failure.chain] = failure
        return sorted(chains.values(), key=lambda failure: failure.at)

    @staticmethod
    def _root(candidate: Candidate) -> bool:
        return candidate.summary.role is Role.ROOT and not candidate.soft

    @staticmethod
    def _weak(candidate: Candidate) -> bool:
        return candidate.summary.role is Role.WRAPPER or candidate.soft

    def _hollow(self, candidate: Candidate, unknown: list[Failure], explained: set[int]) -> bool:
        """Whether the candidate is only the echo, or the warning, beside a failure that nothing knows."""
        weak = self._weak(candidate)
        if weak and any(failure.at not in explained for failure in self.failures if failure.died_of):
            return True
        if not unknown:
            return False
        if weak or candidate.summary.silent:
            return True
        return candidate.summary.role is Role.SYMPTOM and self._follows(candidate, unknown)

    @staticmethod
    def _follows(candidate: Candidate, unknown: list[Failure]) -> bool:
        """Whether an unknown failure came first. A compiler's or pip's lines are parts of the failure they precede."""
        return any(failure.at < candidate.best.index for failure in unknown if failure.kind is not Kind.BUILD)

    def _order(self, found: list[Candidate], unknown: list[Failure]) -> list[Candidate]:
        """Lower the scores of what came later, and leave out what a better candidate explains: symptoms and wrappers
        beside root causes, causes beside those that they yield to."""
        firm = [c for c in found if not self._weak(c)]
        for candidate in found:
            if self._follows(candidate, unknown):
                candidate.score *= AFTER_UNKNOWN
            rung = RUNGS[candidate.summary.role]
            before = [other for other in firm if other is not candidate and RUNGS[other.summary.role] <= rung]
            if any(self._after(candidate, other) for other in before):
                candidate.score *= LATER
        told = [c for c in found if not any(self._explains(other, c) for other in found if other is not c)]
        told = [c for c in told if not any(self._says_the_same(other, c) for other in told if other is not c)]
        for candidate in told:
            # A warning that explains a failure is as sure as the failure is.
            echoes = [c.score for c in found if candidate.soft and candidate.summary.id in c.summary.yields_to]
            candidate.score = max(candidate.score, min([candidate.best.sign.strength, *echoes]) if echoes else 0.0)
        return sorted(told or found, key=lambda c: (-c.score, c.best.index))

    @staticmethod
    def _explains(other: Candidate, candidate: Candidate) -> bool:
        if other.score < LEAST_FIRST:
            return False
        if other.summary.id in candidate.summary.yields_to:
            return True  # also by a warning: CUDA does not start, and what needs it fails a minute later
        return RUNGS[other.summary.role] < RUNGS[candidate.summary.role] and (candidate.soft or not other.soft)

    @staticmethod
    def _says_the_same(other: Candidate, candidate: Candidate) -> bool:
        """Whether the other one, as likely or more, is a kind of this cause, or the cause that this one is a kind of."""
        kin = other.summary.kind_of == candidate.summary.id or candidate.summary.kind_of == other.summary.id
        more = (other.score, other.summary.kind_of != "") > (candidate.score, candidate.summary.kind_of != "")
        return kin and more

    def _after(self, candidate: Candidate, other: Candidate) -> bool:
        """Whether the candidate shows only after another candidate's failure, and not in the same chain of tracebacks."""
        mine, its = candidate.failure, other.failure
        if its is None or (mine is not None and mine.chain == its.chain):
            return False
        first = min(match.index for match in candidate.matches)
        line = self.lines[first]
        same_lane = (line.log, line.lane) == (its.log, its.lane)
        return its.hard and first >= (its.end if same_lane else its.at)
