"""diagnose(): logs in, findings out, and a plain "not known" where that is the truth."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from doctor import details, redact
from doctor.diagnose import collectives, events, read
from doctor.diagnose.corpus import Corpus
from doctor.diagnose.ends import Ends
from doctor.diagnose.failures import Failure, failures
from doctor.diagnose.lines import Level, Line, lines
from doctor.diagnose.match import matches
from doctor.diagnose.rank import Candidate, Judge
from doctor.diagnose.samples import samples
from doctor.diagnose.scan import Scan, Words, scan
from doctor.diagnose.versions import known
from doctor.facts import Facts
from doctor.findings import Evidence, Finding
from knowledge_base.index import Index
from knowledge_base.index import index as shipped

EXCERPT_LINES, EXCERPT_WIDTH = 30, 300
EVIDENCE = 3  # places told for one finding
STEPS_THAT_PROVE_LIFE = 3
TELL_OF_RANKS = frozenset({"nccl-timeout"})
LINES_THAT_PROVE_LIFE = 12  # INFO lines after a complaint that no failure followed


class Unrecognised(msgspec.Struct, frozen=True):
    """A failure that was seen and whose cause is not known. All texts are redacted."""

    exception: str
    message: str
    rank: int | None
    where: str
    frames: tuple[str, ...]  # the user's own, outermost first: "file:line in function"
    excerpt: str
    search_for: str


class Diagnosis(msgspec.Struct, frozen=True):
    """`findings` root cause first. Both empty: no failure is to be seen. `notes` say what was odd about the logs."""

    findings: tuple[Finding, ...] = ()
    unrecognised: Unrecognised | None = None
    notes: tuple[str, ...] = ()
    ended_well: bool = False


def diagnose(sources: Sequence[str | Path], facts: Facts | None = None, index: Index | None = None) -> Diagnosis:
    """Read the logs ("-" is standard input, directories hold one log a rank) and name what went wrong.

    `facts` of the environment that ran help where they contradict a cause. Raises read.UnreadableLog when no log could
    be read.
    """
    index = index or shipped()
    words = _words(index)
    scans, notes = _scans(sources, words)
    logs = [lines(one, number) for number, one in enumerate(scans)]
    if len(logs) > 1:
        logs.sort(key=_begin_of_failure)
    run = _Run([line for log in logs for line in log], scans, index, words, facts)
    findings, unrecognised = run.judge()
    if facts is not None:
        findings = details.complete(findings, facts)
    return Diagnosis(tuple(findings), unrecognised, tuple([*notes, *run.notes]), run.ended_well)


def _words(index: Index) -> Words:
    """The words that the index and the formats of failures are searched by, nothing yet said of this log."""
    if "words" not in index.attached:
        exact, any_case = index.all_words
        always = index.silent_words.union(events.WORDS)
        index.attached["words"] = Words(exact.union(events.WORDS), any_case, index.conditions, always)
    words: Words = index.attached["words"]
    return words.afresh()


def _scans(sources: Sequence[str | Path], words: Words) -> tuple[list[Scan], list[str]]:
    scans: list[Scan] = []
    problems: list[str] = []
    notes: list[str] = []
    for stream in [stream for source in sources for stream in read.streams(source)]:
        try:
            scans.append(scan(stream, words))
        except read.UnreadableLog as error:
            problems.append(str(error))
        notes.extend(stream.notes)
    if not scans:
        raise read.UnreadableLog("; ".join(problems) or "no log was given")
    notes.extend(f"{one.stream.name}: is empty." for one in scans if one.size == 0)
    notes.extend(
        f"{one.stream.name}: has so many error lines that the middle of them was not read closely."
        for one in scans
        if one.skipped
    )
    return scans, [*problems, *notes]


def _begin_of_failure(log: list[Line]) -> tuple[int, ...]:
    """When a log's first failure was; logs of several ranks are read in this order. Unknown times come last."""
    times = [failure.time for failure in failures(log) if failure.hard]
    return (times[0] or (99,)) if times else (100,)


class _Run:
    """The last run that the logs hold."""

    def __init__(self, every: list[Line], scans: list[Scan], index: Index, words: Words, facts: Facts | None) -> None:
        self.index, self.words, self.facts, self.scans = index, words, facts, scans
        self.notes: list[str] = []
        self.lines = self._last_run(every)
        corpus = Corpus([line.text for line in self.lines])
        self.steps = list(corpus.lines_matching(events.STEP))
        self.steps_of: dict[int, list[int]] = defaultdict(list)  # log -> its steps
        for position in self.steps:
            self.steps_of[self.lines[position].log].append(position)
        self.info = [position for position, line in enumerate(self.lines) if line.level is Level.INFO]
        self.samples = samples(self.lines)
        self.failures = self._alive([f for f in failures(self.lines) if f.at not in self.samples])
        self.ends = Ends(self.lines, corpus.lines_matching(events.ENDS_WELL), self.failures)
        self.ended_well = self.ends.well(self.failures)

    def _last_run(self, every: list[Line]) -> list[Line]:
        """Of several launches in one log the last one counts; a launch begins anew only after the one before ended."""
        corpus = Corpus([line.text for line in every])
        begins = list(corpus.lines_matching(events.BEGINS))
        if not begins or len({every[position].log for position in begins}) > 1:
            return every
        ends = list(corpus.lines_matching(f"Traceback \\(|exitcode|{events.ENDS_WELL}"))
        # The first run may have lost its beginning; but a command that stands behind its failure, as in a report, is no run.
        lost = every[0].log == every[-1].log and bool(ends) and ends[-1] > begins[-1]
        starts = [0] if lost else begins[:1]
        for position in begins:
            if any(starts[-1] <= end < position for end in ends):
                starts.append(position)
        if len(starts) < 2:
            return every
        first = every[starts[-1]].number
        self.notes.append(f"The log holds {len(starts)} runs; the last one, from line {first} on, is judged.")
        return every[starts[-1] :]

    def _alive(self, found: list[Failure]) -> list[Failure]:
        """Without the failures after which training went on: somebody caught them. Only steps of the same log are later:
        the other ranks' logs, and a rank's other stream, stand behind it without having come after it."""
        last_exit = max((failure.at for failure in found if failure.code), default=-1)

        def steps_after(failure: Failure) -> int:
            steps = self.steps_of[failure.log]
            return len(steps) - bisect_left(steps, failure.end)

        return [f for f in found if f.at < last_exit or steps_after(f) < STEPS_THAT_PROVE_LIFE]

    def judge(self) -> tuple[list[Finding], Unrecognised | None]:
        judge = Judge(self.lines, self.failures, self.index, known(self.lines, self.facts))
        for fits in matches(self.lines, self.index, self.words, judge.message_of):
            telling = [fit for fit in fits if self.index.summaries[fit.sign.cause].silent or self._may_tell(fit.index)]
            if candidates := judge.candidates(telling, self.samples):
                return [self._finding(candidate) for candidate in candidates], None
        return [], self._unrecognised(judge)

    def _may_tell(self, position: int) -> bool:
        """Whether what stands there can be why the run failed: it did fail, and not before it ended well."""
        if self.ended_well or self.ends.over(position):
            return False
        if any(failure.hard or failure.code or failure.ended_its_process for failure in self.failures):
            return True
        went_on = len(self.info) - bisect_left(self.info, position) >= LINES_THAT_PROVE_LIFE
        return not went_on and len(self.steps) < STEPS_THAT_PROVE_LIFE

    def _where(self, line: Line) -> str:
        name = self.scans[line.log].stream.name
        return f"line {line.number}" if len(self.scans) == 1 else f"{name}:{line.number}"

    def _finding(self, candidate: Candidate) -> Finding:
        told: dict[str, Evidence] = {}
        ordered = [candidate.best, *candidate.matches]
        for match in ordered:
            line = self.lines[match.index]
            what = redact.text(line.text.strip()[:EXCERPT_WIDTH])
            if what not in told and len(told) < EVIDENCE:
                told[what] = Evidence(what, self._where(line))
        line = self.lines[candidate.best.index]
        details: dict[str, Any] = {}
        for match in reversed(ordered):
            details.update(match.groups)
        if candidate.summary.id in TELL_OF_RANKS:
            details.update(collectives.missing(self.lines))
        return Finding(
            cause=candidate.summary.id,
            evidence=tuple(told.values()),
            confidence=round(min(max(candidate.score, 0.01), 0.99), 2),
            source="log",
            rank=line.rank if line.rank is not None or candidate.failure is None else candidate.failure.rank,
            details=redact.document(details),
        )

    def _unrecognised(self, judge: Judge) -> Unrecognised | None:
        """The first failure that nothing explains; else the first exit code, or traceback that only passes a failure on."""
        if self.ended_well:
            return None
        left = [failure for failure in judge.unknown([]) if not self.ends.over(failure.at)]
        over = self.ends.over
        left = left or [failure for failure in self.failures if failure.code and not over(failure.at)]
        left = left or [failure for failure in self.failures if failure.ended_its_process and not over(failure.at)]
        if not left:
            return None
        failure = left[0]
        line = self.lines[failure.at]
        start = max(failure.start, failure.at - EXCERPT_LINES + 6)
        own = [ln for ln in self.lines[start : failure.end] if (ln.log, ln.lane) == (failure.log, failure.lane)]
        return Unrecognised(
            exception=redact.text(failure.exception),
            message=redact.text(failure.message[:2000]),
            rank=failure.rank,
            where=self._where(line),
            frames=tuple(redact.text(f"{f.file}:{f.line} in {f.function}") for f in failure.user_frames[-8:]),
            excerpt=redact.text("\n".join(ln.text[:EXCERPT_WIDTH] for ln in own[:EXCERPT_LINES])),
            search_for=_search_words(failure),
        )


def _search_words(failure: Failure) -> str:
    """What to type into a search engine: the exception and its message without what is this machine's own."""
    first = redact.text(failure.message.split("\n", 1)[0])
    words = re.sub(r"(?:[A-Za-z]:)?(?:[\\/][\w.@~+-]+){2,}|0x[0-9a-f]+|\b\d[\d.,:]*\b|<[^>]*>", " ", first)
    name = failure.exception.rsplit(".", 1)[-1]
    return " ".join(f"{name} {words}".split())[:160]
