"""How a run went, from its record: the verdict, the few figures that matter, the events in order. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from statistics import median

import msgspec

from doctor.exit_codes import ExitCode
from doctor.findings import precise
from doctor.report.run_findings import Told
from doctor.report.run_record import Event, Gpu, RunRecord, Step, clean
from doctor.report.run_words import clock, duration, event_kind, moment, number, say, size


class Verdict(msgspec.Struct, frozen=True):
    """`state`: done, failed, interrupted, open (no end recorded) or unknown (no events recorded)."""

    state: str
    title: str
    sentences: tuple[str, ...]


class Moment(msgspec.Struct, frozen=True):
    """One event as it is shown. `at`: seconds since the run began; `share`: 0 to 100 of the time axis."""

    kind: str
    word: str
    text: str
    at: float
    share: float
    clock: str
    utc: str
    grave: bool
    attempt: int | None


class Span(msgspec.Struct, frozen=True):
    """When the record begins and ends, seconds since the epoch."""

    begin: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.begin


def span(record: RunRecord) -> Span | None:
    """From the first to the last thing recorded; None where nothing has a time."""
    times = [row.time for rows in (record.steps, record.machine, record.events) for row in rows]
    return Span(min(times), max(times)) if times else None


def steps(record: RunRecord) -> list[Step]:
    """The logged steps in order; of a step that was trained again after a resume, the later one."""
    latest = {row.step: row for row in sorted(record.steps, key=lambda row: row.time)}
    return [latest[step] for step in sorted(latest)]


def verdict(record: RunRecord, findings: list[Told], lang: str) -> Verdict:
    """How it ended, in a few words, and what else has to be known at once."""
    state, title = _ending(record, lang)
    told: list[str] = []
    if state in ("failed", "interrupted"):
        reason = _reason(record, findings, lang)
        told += [reason] if reason else [_unknown(record, lang)] if state == "failed" else []
    if state == "open" and (whole := span(record)):
        told.append(say("open_why", lang, when=moment(whole.end)))
    if state == "unknown":
        told.append(say("no_events", lang))
    healed = sum(event.kind == "heal" for event in record.events)
    raised = sum(is_grave(event) for event in record.events if event.kind == "alarm")
    for word, count in (("healed", healed), ("alarms", raised)):
        if count:
            told.append(say(f"{word}_once", lang) if count == 1 else say(word, lang, count=count))
    return Verdict(state, title, tuple(told))


def _unknown(record: RunRecord, lang: str) -> str:
    """That the cause is not known, with the words of the failure where there are some."""
    seen = record.diagnosis.get("unrecognised")
    words = f" {seen.get('exception')}: {seen.get('message')}"[:300] if isinstance(seen, dict) else ""
    return say("cause_unknown", lang) + words


def is_grave(event: Event) -> bool:
    """Whether something went wrong: an alarm without a finding only says that it is over."""
    if event.kind == "end":
        return event.code not in (None, ExitCode.OK)
    return event.kind == "failure" or (event.kind == "alarm" and event.finding is not None)


def _reason(record: RunRecord, findings: list[Told], lang: str) -> str | None:
    """Why it did not go on: what the last failure was diagnosed as, else what the record's error is, else what its end
    says. None where a failure was seen whose words nobody knows."""
    last = next((event for event in reversed(record.events) if event.kind == "diagnosis"), None)
    of_last = precise(last.finding) if last and last.finding else None
    errors = [finding for finding in findings if finding.severity == "error"]
    error = next((finding for finding in errors if finding.cause == of_last), errors[0] if errors else None)
    if error and not (last and last.finding is None):
        return f"{error.title} ({error.cause})"
    if isinstance(record.diagnosis.get("unrecognised"), dict):
        return None
    end = next((event for event in reversed(record.events) if event.kind == "end"), None)
    return in_language(end, lang) if end and last is None else None


def _ending(record: RunRecord, lang: str) -> tuple[str, str]:
    last = next((event for event in reversed(record.events) if event.kind == "end"), None)
    if last is not None and last.code is not None:
        if last.code == ExitCode.OK:
            return "done", say("done", lang)
        if last.code == ExitCode.INTERRUPTED:
            return "interrupted", say("interrupted", lang)
        return "failed", say("failed", lang, code=last.code)
    if record.diagnosis.get("findings") or record.diagnosis.get("unrecognised"):
        return "failed", say("failed_plain", lang)
    if record.events:
        return "open", say("open", lang)
    return "unknown", say("open", lang)


def figures(record: RunRecord, lang: str) -> list[tuple[str, str]]:
    """The few numbers that say how it went, as (label, value); only those that were recorded."""
    rows = steps(record)
    shown: list[tuple[str, str]] = []

    def add(word: str, value: str) -> None:
        shown.append((say(word, lang), value))

    if rows:
        total = next((row.total for row in reversed(rows) if row.total), None)
        add("steps", say("steps_of", lang, done=rows[-1].step, total=total) if total else str(rows[-1].step))
    if (whole := span(record)) and whole.seconds > 0:
        add("wall", duration(whole.seconds, lang))
    losses = [row.loss for row in rows if row.loss is not None]
    if losses:
        add("loss_tile", f"{number_or_nan(losses[0])} → {number_or_nan(losses[-1])}")
    if seconds := finite(row.step_seconds for row in rows):
        add("step_tile", duration(median(seconds), lang))
    for attribute, unit in (("tokens_per_second", "tokens/s"), ("samples_per_second", "samples/s")):
        if rates := finite(getattr(row, attribute) for row in rows):
            add("rate_tile", f"{number(median(rates))} {unit}")
            break
    held = [gpu for sample in record.machine for gpu in sample.gpus if gpu.used is not None]
    if held:
        top = max(held, key=lambda gpu: gpu.used or 0)
        add("gpu_tile", _of(top.used or 0, top.total))
    hosts = [sample for sample in record.machine if sample.host_used is not None]
    if hosts:
        peak = max(hosts, key=lambda sample: sample.host_used or 0)
        add("host_tile", _of(peak.host_used or 0, peak.host_limit or peak.host_total))
    attempts = max((event.attempt or 1 for event in record.events), default=1)
    if attempts > 1:
        add("attempts", str(attempts))
    return shown


def number_or_nan(value: float) -> str:
    return number(value) if math.isfinite(value) else "NaN" if math.isnan(value) else "∞"


def finite(values: Iterable[float | None]) -> list[float]:
    """The known, finite ones of some optional numbers."""
    return [value for value in values if value is not None and math.isfinite(value)]


def _of(used: float, total: float | None) -> str:
    """`67.8 / 79.6 GiB`."""
    if not total:
        return size(used)
    (amount, unit), whole = size(used).split(" "), size(total)
    return f"{amount} / {whole}" if whole.endswith(" " + unit) else f"{amount} {unit} / {whole}"


def moments(record: RunRecord, lang: str) -> list[Moment]:
    """The events in the order of time, placed on the time axis."""
    whole = span(record)
    if whole is None:
        return []
    length = whole.seconds or 1.0
    return [
        Moment(
            kind=event.kind,
            word=event_kind(event.kind, lang),
            text=in_language(event, lang),
            at=event.time - whole.begin,
            share=round(100 * (event.time - whole.begin) / length, 2),
            clock=clock(event.time - whole.begin),
            utc=moment(event.time),
            grave=is_grave(event),
            attempt=event.attempt if event.attempt and event.attempt > 1 else None,
        )
        for event in sorted(record.events, key=lambda event: event.time)
    ]


def in_language(event: Event, lang: str) -> str:
    """What an event says."""
    return event.text.get(lang) or event.text.get("en") or next(iter(event.text.values()), "")


class Card(msgspec.Struct, frozen=True):
    """One GPU over the whole run; None is unknown. `throttled`: share of its samples; `reasons` why."""

    index: int
    peak: float | None
    total: float | None
    utilisation: float | None
    watts: float | None
    celsius: float | None
    throttled: float
    reasons: tuple[str, ...]
    ecc_errors: float | None


def cards(record: RunRecord) -> list[Card]:
    """Each GPU: peak memory, mean utilisation and power over the run, highest temperature, throttling, ECC."""
    seen: dict[int, list[Gpu]] = {}
    for sample in record.machine:
        for gpu in sample.gpus:
            seen.setdefault(gpu.index, []).append(gpu)
    found = []
    for index, samples in sorted(seen.items()):
        reasons = Counter(clean(reason) for gpu in samples for reason in gpu.throttled)
        used, totals = finite(gpu.used for gpu in samples), finite(gpu.total for gpu in samples)
        errors = finite(gpu.ecc_errors for gpu in samples)
        found.append(
            Card(
                index=index,
                peak=max(used, default=None),
                total=max(totals, default=None),
                utilisation=_mean(finite(gpu.utilisation for gpu in samples)),
                watts=_mean(finite(gpu.watts for gpu in samples)),
                celsius=max(finite(gpu.celsius for gpu in samples), default=None),
                throttled=sum(bool(gpu.throttled) for gpu in samples) / len(samples),
                reasons=tuple(reason for reason, _ in reasons.most_common(3)),
                ecc_errors=max(errors, default=None),
            )
        )
    return found


def card_rows(record: RunRecord, lang: str) -> tuple[list[str], list[list[str]]]:
    """(head, rows) of the GPUs; no rows where none was sampled."""
    words = ("gpu", "peak", "mean_utilisation", "mean_watts", "top_celsius", "throttled", "ecc_errors")
    rows = [
        [
            str(card.index),
            "–" if card.peak is None else _of(card.peak, card.total),
            "–" if card.utilisation is None else f"{card.utilisation:.0f} %",
            "–" if card.watts is None else f"{card.watts:.0f} W",
            "–" if card.celsius is None else f"{card.celsius:.0f} °C",
            "–" if not card.throttled else f"{card.throttled:.0%} ({', '.join(card.reasons)})",
            "–" if card.ecc_errors is None else number(card.ecc_errors),
        ]
        for card in cards(record)
    ]
    return [say(word, lang) for word in words], rows


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
