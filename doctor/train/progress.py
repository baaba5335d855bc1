"""Where a run stands: step, phase, logged values, how long its steps take. Fed with lines and when they were read."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterable
from typing import Any

import msgspec

from doctor.train.trainer_lines import Bar, Count, Logged, Phase, parse

KEPT = 2000  # logged steps kept for medians and trends
# Steps left out of the run's own measure: the first compile, allocate and fill caches.
WARM_UP = 1


class Step(msgspec.Struct):
    """One logged step; what the trainer did not log is None. `seconds` is the mean since the step logged before it."""

    at: float
    step: int
    values: dict[str, float]
    seconds: float | None = None
    tokens_per_second: float | None = None
    samples_per_second: float | None = None


class Progress:
    """`feed` takes lines; the attributes say where the run stands.

    phase: starting | training | evaluating | saving | trained | done. `sign` is when anything last moved, `moved` when a
    step last ended. Times are seconds of one clock, given by the caller.
    """

    def __init__(self, started: float) -> None:
        self.started = started
        self.phase = "starting"
        self.step = 0
        self.total: int | None = None
        self.start: int | None = None  # step that the run resumed at
        self.epochs: int | None = None
        self.batch: int | None = None  # samples of one optimizer step over all ranks
        self.sign = started
        self.moved: float | None = None
        self.first_moved: float | None = None  # when the first step of this attempt had ended
        self.steps: deque[Step] = deque(maxlen=KEPT)
        self.durations: deque[float] = deque(
            maxlen=KEPT
        )  # seconds of a step, one entry for each look at which it moved
        self.saves: list[str] = []
        self.runtime: float | None = None
        self._bar_seconds: float | None = None  # of a step by the bar's own clock: all there is of a run joined late
        self._pending: dict[str, float] | None = None
        self._times: deque[tuple[float, int]] = deque(maxlen=2)  # the last two moments at which steps had ended
        self._counted: float | None = None  # the moment that the last duration belongs to
        self._timed: tuple[float, int] | None = None  # moment and number of the last logged step
        self._tokens: tuple[float, float] | None = None

    def feed(self, lines: Iterable[str], rest: str, now: float) -> list[Step]:
        """Take what was read at one moment: whole lines and the one that has not ended. Returns the steps in it."""
        done = [step for line in lines for step in self._line(line, now)]
        done += self._peek(rest, now)
        self._time(done, now)
        return done

    def finish(self, now: float) -> list[Step]:
        """The output has ended: values that no bar followed."""
        done = self._flush(now)
        self._time(done, now)
        return done

    def _time(self, done: list[Step], now: float) -> None:
        """Steps that were read together took their share of the time since the ones before."""
        if not done:
            return
        seconds: float | None
        if self._timed is not None and now > self._timed[0] and done[-1].step > self._timed[1]:
            seconds = (now - self._timed[0]) / (done[-1].step - self._timed[1])
        else:
            seconds = self.durations[-1] if self.durations else None
        for step in done:
            step.seconds = seconds
            if seconds and self.batch:
                step.samples_per_second = self.batch / seconds
        self._timed = (now, done[-1].step)

    def _line(self, line: str, now: float) -> list[Step]:
        self.sign = now
        done: list[Step] = []
        for said in parse(line):
            if isinstance(said, Count):
                self._count(said)
            elif isinstance(said, Phase):
                self._enter(said, now)
            elif isinstance(said, Bar):
                done += self._bar(said, now)
            elif isinstance(said, Logged):
                done += self._logged(said, now)
        return done

    def _peek(self, rest: str, now: float) -> list[Step]:
        """Take the bar of a line that has not ended: it is complete, and the line's end comes with the next one."""
        if "%|" not in rest:
            return []
        return [done for said in parse(rest) if isinstance(said, Bar) for done in self._bar(said, now)]

    def _count(self, said: Count) -> None:
        if said.name == "total":
            self.total = said.value
        elif said.name == "start":
            self.start = said.value
            self.step = max(self.step, said.value)
        elif said.name == "epochs":
            self.epochs = said.value
        elif said.name == "batch":
            self.batch = said.value

    def _enter(self, said: Phase, now: float) -> None:
        self.phase = said.name
        if said.name == "training":
            self.moved = None
            self._times.append((now, self.step))
        if said.path:
            self.saves.append(said.path)

    def _bar(self, bar: Bar, now: float) -> list[Step]:
        """The bar that follows logged values stands at their step: tqdm draws it anew below what it prints."""
        if bar.what is not None or self.phase not in ("training", "saving") or bar.total != (self.total or bar.total):
            return []
        if self.total is None and self.phase == "training":
            self.total = bar.total
        if bar.n > self.step:
            self.goes_on(now)
        if bar.n > (self.start or 0) and bar.elapsed:
            self._bar_seconds = bar.elapsed / (bar.n - (self.start or 0))
        self._reach(bar.n, now)
        if self._pending is None:
            return []
        values, self._pending = self._pending, None
        return [self._done(bar.n, values, now)]

    def _logged(self, said: Logged, now: float) -> list[Step]:
        if said.of_run:
            self.runtime = said.values["train_runtime"]
            return self._flush(now)
        if not said.of_step:  # an evaluation's result: training goes on
            self.goes_on(now)
            return []
        done = self._flush(now)
        self._pending = said.values
        if self.phase in ("starting", "saving", "evaluating"):
            self.phase = "training"
        return done

    def goes_on(self, now: float) -> None:
        """An evaluation or a save has ended: the time that it took is no step's."""
        if self.phase in ("evaluating", "saving"):
            self.phase = "training"
            self.sign = now
            self.moved = now if self.moved is not None else None
            self._times.append((now, self.step))
            self._timed = (now, self.step) if self._timed else None

    def _flush(self, now: float) -> list[Step]:
        """Values that no bar followed (disable_tqdm, or the end of the log): their step is known by the epoch."""
        if self._pending is None:
            return []
        values, self._pending = self._pending, None
        step = self.step
        if self.total and self.epochs and "epoch" in values:
            step = max(step, min(self.total, round(values["epoch"] * self.total / self.epochs)))
        self._reach(step, now)
        return [self._done(step, values, now)]

    def _reach(self, step: int, now: float) -> None:
        """A step has ended. Of several that are seen at one moment each took its share."""
        if step <= self.step:
            return
        known = self.moved is not None
        if self._times and self._times[-1][0] == now:
            self._times[-1] = (now, step)
            if known and self._counted == now:
                self.durations.pop()
        else:
            self._times.append((now, step))
        if known and len(self._times) == 2 and step > self._times[0][1]:
            self.durations.append((now - self._times[0][0]) / (step - self._times[0][1]))
            self._counted = now
        self.moved = now
        self.first_moved = now if self.first_moved is None else self.first_moved
        self.step = step

    def _done(self, step: int, values: dict[str, float], now: float) -> Step:
        done = Step(now, step, values)
        if (tokens := values.get("num_input_tokens_seen")) is not None:
            clock = values.get("train_runtime", now)  # the trainer's own, where it tells: we look a few times a second
            if self._tokens and clock > self._tokens[0]:
                done.tokens_per_second = (tokens - self._tokens[1]) / (clock - self._tokens[0])
            self._tokens = (clock, tokens)
        self.steps.append(done)
        return done

    def median_seconds(self) -> float | None:
        """Of a step over the run, None before three were measured (or the bar of a run joined late says it)."""
        measured = list(self.durations)[WARM_UP:] if len(self.durations) > WARM_UP + 2 else list(self.durations)
        if len(measured) >= 3:
            return statistics.median(measured)
        return self._bar_seconds if self.step - (self.start or 0) >= 3 else None

    def seconds_left(self) -> float | None:
        """Until the last step, by the median step; evaluations and saves are not foreseen."""
        median = self.median_seconds()
        return (self.total - self.step) * median if self.total and median else None


def row(done: Step, total: int | None) -> dict[str, Any]:
    """A step as a line of metrics.jsonl; absent where unknown."""
    return {
        "step": done.step,
        "total": total,
        **{name: done.values.get(name) for name in ("epoch", "loss", "learning_rate", "grad_norm")},
        "step_seconds": done.seconds,
        "tokens_per_second": done.tokens_per_second,
        "samples_per_second": done.samples_per_second,
    }
