"""The watch over one run: lines and samples in, metrics, events and alarms out. It shows nothing itself."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import psutil

from doctor import redact
from doctor.deadline import within
from doctor.examine import severity_of
from doctor.findings import Evidence, Finding
from doctor.gpu import machine as gpu_machine
from doctor.report.document import describe
from doctor.train import alarms, checkpoint, stacks
from doctor.train.idleness import Idleness
from doctor.train.machine_samples import MachineSamples
from doctor.train.progress import Progress, Step, row
from doctor.train.record import Record
from doctor.train.settings import Settings
from doctor.train.sizes import nice_bytes, nice_seconds
from doctor.train.tail import Lines, Tail
from doctor.train.trainer_lines import trainer_log
from knowledge_base import load, offers

TRAINER_LOG = "trainer_log.jsonl"  # llamafactory.extras.constants
SAMPLE_SECONDS = 5.0  # of host, disk and GPUs: 14,000 rows in 19 hours; memory fills in minutes, not seconds
JUDGE_SECONDS = 1.0
LOOK_SECONDS = 2.0  # between two looks at a checkpoint that is being written
ANSWER_SECONDS, DEAD_SECONDS = 5.0, 60.0  # what a file system gets to answer; the pause after it did not
XID_SECONDS = 60.0  # the whole kernel log is read for them
SAMPLES_KEPT = 720  # an hour
RAISED_AGAIN = 600.0  # seconds before an alarm that ended is told again: one bad pattern is one message, not hundreds
STACKS_TOLD = 4  # frames of each rank in the evidence
SLOW_LOOKS, SLOW_PAUSE = 5, 0.3  # looks at the ranks of a slow run, seconds apart: about two steps of it

Told = Callable[[str, dict[str, str], Finding | None], None]
_HANG = ("train-hang", "")


class Watch:
    """`feed` it with output, `tick` it now and then. `told(kind, text, finding)` hears every event.

    `processes` gives the processes of the run on this machine, empty where they are not known.
    """

    def __init__(
        self,
        settings: Settings,
        record: Record,
        told: Told,
        processes: Callable[[], list[psutil.Process]],
        *,
        live: bool = True,
    ) -> None:
        now = time.monotonic()
        self.settings, self.record, self.told, self.processes = settings, record, told, processes
        self.progress = Progress(now)
        self.lines = Lines()
        self.samples: deque[dict[str, Any]] = deque(maxlen=SAMPLES_KEPT)
        self.machine = MachineSamples(settings.output, SAMPLE_SECONDS) if live else None
        self.idleness = Idleness(now)
        self.findings: list[Finding] = []
        self.hanging_since: float | None = None
        self.tokens_per_second: float | None = None
        self._trainer_log = self._open_trainer_log()
        self._trainer_lines = Lines()
        self._tokens: tuple[float, float] | None = None
        self._sampled = self._judged = 0.0
        self._active: dict[tuple[str, str], float] = {}
        self._saves_seen = 0
        self._look_again = 0.0
        self._first_told = False
        self._xids_before = self._xids()
        self._xids_read, self._new_xids = now, list[dict[str, Any]]()

    # -- input ---------------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> list[str]:
        """Take new output; returns its whole lines."""
        lines = self.lines.feed(data)
        for done in self.progress.feed(lines, self.lines.rest, time.monotonic()):
            self._step(done)
        return lines

    def finish(self) -> None:
        """The output has ended."""
        now = time.monotonic()
        for done in [*self.progress.feed(self.lines.finish(), "", now), *self.progress.finish(now)]:
            self._step(done)
        seen = -1
        while seen < self._saves_seen < len(self.progress.saves):
            seen, self._look_again = self._saves_seen, 0.0
            self._saved(now)
        if self.machine is not None:
            self.machine.close()

    def _open_trainer_log(self) -> Tail | None:
        """LLaMA-Factory's own log in the output directory, from here on: an earlier run may have written there."""
        if self.settings.output is None:
            return None
        path = self.settings.output / TRAINER_LOG
        with suppress(OSError):
            return Tail(path, path.stat().st_size)
        return Tail(path)

    def _read_trainer_log(self, now: float) -> None:
        """Tokens per second, which only that log has (with include_num_input_tokens_seen)."""
        if self._trainer_log is None:
            return
        with suppress(OSError):
            for line in self._trainer_lines.feed(self._trainer_log.read()):
                values = trainer_log(line) or {}
                if (tokens := values.get("total_tokens")) is None:
                    continue
                if self._tokens and now > self._tokens[0] and tokens > self._tokens[1]:
                    self.tokens_per_second = (tokens - self._tokens[1]) / (now - self._tokens[0])
                self._tokens = (now, tokens)

    def _step(self, done: Step) -> None:
        if done.tokens_per_second is None:
            done.tokens_per_second = self.tokens_per_second
        self.record.metrics("step", row(done, self.progress.total))
        if not self._first_told:
            self._first_told = True
            after = nice_seconds(done.at - self.progress.started)
            self.event("first-step", {"en": f"first step logged after {after}", "zh": f"{after}后记录到第一步"})

    # -- time ----------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Look at the machine and judge, each when its time has come."""
        now = time.monotonic()
        self.idleness.look(self._processes, now)
        if self.machine is not None and now - self._sampled >= SAMPLE_SECONDS:
            self._sampled = now
            sample = self.machine.look()
            self.record.metrics("machine", sample)
            self.samples.append({**sample, "time": now})
        if now - self._judged >= JUDGE_SECONDS:
            self._judged = now
            self._read_trainer_log(now)
            self._saved(now)
            self._judge(now)

    def _saved(self, now: float) -> None:
        """Checkpoints that are there by now; the one being written is looked at again."""
        while self._saves_seen < len(self.progress.saves) and now >= self._look_again:
            folder = Path(self.progress.saves[self._saves_seen])
            moved_on = self.progress.phase != "saving" or self._saves_seen + 1 < len(self.progress.saves)
            if checkpoint.NAME.fullmatch(folder.name) is not None:  # else the final model, no checkpoint
                if self.settings.output is not None and not folder.is_absolute():
                    folder = self.settings.output / folder.name
                found, size = self._look_at(folder, now)
                if (found is None or not found.complete) and not moved_on:
                    return
                if found is not None:
                    self._tell_checkpoint(found, size)
                if not moved_on:
                    self.progress.goes_on(now)
            self._saves_seen += 1

    def _look_at(self, folder: Path, now: float) -> tuple[checkpoint.Checkpoint | None, int]:
        """A checkpoint and its bytes; (None, 0) where there is none yet or the file system does not answer."""
        self._look_again = now + LOOK_SECONDS
        try:
            return within(
                ANSWER_SECONDS,
                lambda: (
                    (checkpoint.look(folder, self.settings.world_size), checkpoint.size(folder))
                    if folder.is_dir()
                    else (None, 0)
                ),
            )
        except TimeoutError:  # one thread hangs in it now: not one more each time
            self._look_again = now + DEAD_SECONDS
        except OSError:
            pass  # being written, or not to be read: looked at again
        return None, 0

    def _tell_checkpoint(self, found: checkpoint.Checkpoint, size: int) -> None:
        name = found.path.name
        if found.complete:
            self.settings.checkpoint_bytes = size
            shown = nice_bytes(size)
            text = {"en": f"{name} is complete ({shown})", "zh": f"{name} 已完整保存（{shown}）"}
        else:
            why = "; ".join(found.faults[:3])
            text = {"en": f"{name} cannot be resumed exactly: {why}", "zh": f"{name} 无法精确续训：{why}"}
        self.event("checkpoint", text)

    def next_save(self) -> int | None:
        """The step of the next checkpoint."""
        every, total = self.settings.save_steps, self.progress.total
        if not every:
            return None
        step = (self.progress.step // every + 1) * every
        return min(step, total) if total else step

    def _seen(self, now: float) -> alarms.Seen:
        if self._xids_before is not None and now - self._xids_read >= XID_SECONDS:
            self._xids_read = now
            self._new_xids = (self._xids() or [])[len(self._xids_before) :]
        return alarms.Seen(
            now=now,
            progress=self.progress,
            idle=self.idleness.seconds(now),
            machine=list(self.samples),
            next_checkpoint=self.settings.checkpoint_bytes,
            next_save=self.next_save(),
            output=str(self.settings.output or "output_dir"),
            xids=self._new_xids,
        )

    def _xids(self) -> list[dict[str, Any]] | None:
        """The kernel's GPU errors, None where there is no GPU or the kernel log may not be read."""
        if not gpu_machine.nodes():
            return None
        try:
            return gpu_machine.xids()
        except OSError:
            return None

    def _judge(self, now: float) -> None:
        found = alarms.judge(self._seen(now))
        keys = {self._key(finding): finding for finding in found}
        for key, finding in keys.items():
            last = self._active.get(key)
            self._active[key] = now
            if last is None or (now - last > RAISED_AGAIN):
                self._alarm(key, finding)
        if self.hanging_since is not None and _HANG not in keys:
            self.hanging_since = None
            self._active.pop(_HANG, None)
            self.event("alarm", {"en": "the run goes on again", "zh": "训练又继续了"})
        elif _HANG in keys and self.hanging_since is None:
            self.hanging_since = now

    @staticmethod
    def _key(finding: Finding) -> tuple[str, str]:
        where = finding.evidence[0].where
        return finding.cause, where if where.startswith("GPU") else ""

    def _alarm(self, key: tuple[str, str], finding: Finding) -> None:
        if key == _HANG:
            finding = self._with_stacks(finding)
        elif finding.cause == "train-slow" and not key[1]:
            finding = self._with_slow_rank(finding)
        self.findings.append(finding)
        self.event("alarm", alarm_text(finding), finding)

    # -- what stands behind an alarm -----------------------------------------------------------------------------

    def _with_stacks(self, finding: Finding) -> Finding:
        places = stacks.look(self._processes())
        evidence = list(finding.evidence)
        odd = stacks.different(places)
        if odd is not None:
            evidence.insert(0, Evidence(odd.en, f"rank {odd.rank}"))
        for one in places:
            for place in (one.place, *one.workers):
                if place is one.place or (odd is not None and place.pid == odd.pid):
                    evidence.append(Evidence(_stack_text(place), _whose(one, place)))
        if not places:
            evidence.append(Evidence("no process of the run was found on this machine", "processes"))
        details = {**finding.details, **({"waits_for_zh": odd.zh, "pid": odd.pid} if odd else {})}
        return msgspec.structs.replace(
            finding, evidence=tuple(evidence), rank=odd.rank if odd else None, details=redact.document(details)
        )

    def _with_slow_rank(self, finding: Finding) -> Finding:
        """The rank that computes while the others wait in most looks is the slow one."""
        looks = []
        for _ in range(SLOW_LOOKS):
            looks.append(stacks.look(self._processes(), with_workers=False))
            time.sleep(SLOW_PAUSE)
        rank = stacks.busiest(looks)
        if rank is None:
            return finding
        what = f"rank {rank} works while the others wait for it in most of {SLOW_LOOKS} looks"
        evidence = (*finding.evidence, Evidence(what, f"rank {rank}"))
        return msgspec.structs.replace(finding, evidence=evidence, rank=rank)

    def _processes(self) -> list[psutil.Process]:
        with suppress(psutil.Error):
            return self.processes()
        return []

    def event(self, kind: str, text: dict[str, str], finding: Finding | None = None) -> None:
        """Record an event and tell it."""
        self.record.event(kind, text, describe(finding) if finding else None)
        self.told(kind, text, finding)


def alarm_text(finding: Finding) -> dict[str, str]:
    """One line in both languages: what an alarm saw (for a hang, whom the others wait for), or a diagnosis's cause."""
    mark = {"error": "✗", "warning": "!", "info": "·"}[severity_of(finding).value]
    if finding.source == alarms.SOURCE:
        seen, more = finding.evidence[0].what, finding.details
        en = seen if finding.cause != _HANG[0] else "; ".join(item.what for item in finding.evidence[:2])
        zh = "；".join(str(more[name]) for name in ("waits_for_zh", "said_zh") if name in more) or seen
        return {"en": f"{mark} {en} [{finding.cause}]", "zh": f"{mark} {zh} [{finding.cause}]"}
    cause = load.cause(finding.cause)
    seen = finding.evidence[0].what if finding.evidence else ""
    titles = {lang: offers.title(cause.title, finding.details, lang) for lang in ("en", "zh")}
    return {"en": f"{mark} {titles['en']}: {seen}", "zh": f"{mark} {titles['zh']}：{seen}"}


def _whose(one: stacks.RankPlace, place: stacks.Place) -> str:
    return f"rank {one.rank}, process {place.pid}" if place is one.place else f"worker {place.pid} of rank {one.rank}"


def _stack_text(place: stacks.Place) -> str:
    if place.stack:
        return f"state {place.state}: {' < '.join(place.stack[:STACKS_TOLD])}"
    return f"state {place.state}" + (f" ({place.unread})" if place.unread else "")
