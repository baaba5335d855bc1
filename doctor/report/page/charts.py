"""The curves of a run: which there are, their figures in units for people, thinned to what a screen can show. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from doctor.report.run_record import Gpu, RunRecord, Step
from doctor.report.run_story import finite, moments, span, steps
from doctor.report.run_words import clock, number, say

POINTS = 1600  # of one chart; a phone has 390 px, a desk 1600
TABLE_ROWS = 12
SMOOTH_FROM = 20  # steps; a shorter curve needs no smoothing
GIB = 2**30

Column = Sequence[float | None]


class Series(msgspec.Struct, frozen=True):
    """One line: its label, its values beside `Chart.xs`; `faint` ones lie behind, `colour` is a number of the palette."""

    label: str
    values: Column
    colour: int = 0
    faint: bool = False


class Chart(msgspec.Struct, frozen=True):
    """One picture. `axis`: "step" or "elapsed" (seconds); `lines` are (label, value) drawn across; `remark` is what a
    curve cannot show."""

    id: str
    title: str
    unit: str
    axis: str
    xs: Sequence[float]
    series: tuple[Series, ...]
    lines: tuple[tuple[str, float], ...] = ()
    from_zero: bool = False
    remark: str = ""


def of_run(record: RunRecord, lang: str) -> list[Chart]:
    """All curves that the record has figures for."""
    return [*_step_charts(record, lang), *_gpu_charts(record, lang), *_host_charts(record, lang)]


def _step_charts(record: RunRecord, lang: str) -> list[Chart]:
    rows = steps(record)
    charts = [
        _by_step("loss", rows, lang, "", smooth=True),
        _by_step("grad_norm", rows, lang, "", smooth=True),
        _by_step("learning_rate", rows, lang, ""),
        _by_step("step_seconds", rows, lang, "s", from_zero=True),
        _by_step("tokens_per_second", rows, lang, "tokens/s", from_zero=True),
    ]
    if charts[-1] is None:
        charts.append(_by_step("samples_per_second", rows, lang, "samples/s", from_zero=True))
    return [chart for chart in charts if chart]


def _by_step(
    name: str, rows: list[Step], lang: str, unit: str, smooth: bool = False, from_zero: bool = False
) -> Chart | None:
    known = [(row.step, getattr(row, name)) for row in rows if getattr(row, name) is not None]
    if not known:
        return None
    xs = [float(step) for step, _ in known]
    values = [value if math.isfinite(value) else None for _, value in known]
    odd = [str(step) for step, value in known if not math.isfinite(value)]
    title = say(name, lang)
    series = [Series(title, values)]
    if smooth and len(xs) >= SMOOTH_FROM:
        series = [Series(title, values, faint=True), Series(say("smoothed", lang, name=title), smoothed(values))]
    remark = ""
    if odd:
        shown = ", ".join(odd[:8]) + (" …" if len(odd) > 8 else "")
        remark = say("not_finite", lang, steps=shown)
    return Chart(name, title, unit, "step", xs, tuple(series), from_zero=from_zero, remark=remark)


def smoothed(values: Column) -> list[float | None]:
    """The mean of the neighbours on both sides, about a twentieth of the curve in all; it does not lag behind."""
    reach = max(2, len(values) // 40)
    totals, counts = [0.0], [0]
    for value in values:
        totals.append(totals[-1] + (value or 0.0))
        counts.append(counts[-1] + (value is not None))
    result: list[float | None] = []
    for place, value in enumerate(values):
        near = min(reach, place, len(values) - 1 - place)  # as many on the left as on the right, also at the ends
        begin, end = place - near, place + near + 1
        count = counts[end] - counts[begin]
        result.append((totals[end] - totals[begin]) / count if value is not None else None)
    return result


def _gpu_charts(record: RunRecord, lang: str) -> list[Chart]:
    samples = sorted((sample for sample in record.machine if sample.gpus), key=lambda sample: sample.time)
    whole = span(record)
    if not samples or whole is None:
        return []
    xs = [sample.time - whole.begin for sample in samples]
    indices = sorted({gpu.index for sample in samples for gpu in sample.gpus})
    at = [{gpu.index: gpu for gpu in sample.gpus} for sample in samples]

    def chart(name: str, unit: str, value: Callable[[Gpu], float | None], **more: Any) -> Chart | None:
        series = tuple(
            Series(
                say("gpu_n", lang, index=index),
                [_finite(value(found[index])) if index in found else None for found in at],
                place,
            )
            for place, index in enumerate(indices)
        )
        known = tuple(one for one in series if any(v is not None for v in one.values))
        return Chart(name, say(name, lang), unit, "elapsed", xs, known, from_zero=True, **more) if known else None

    totals = finite(gpu.total for sample in samples for gpu in sample.gpus)
    lines = ((say("capacity", lang), min(totals) / GIB),) if totals else ()
    charts = (
        chart("gpu_memory", "GiB", lambda gpu: gpu.used / GIB if gpu.used is not None else None, lines=lines),
        chart("gpu_utilisation", "%", lambda gpu: gpu.utilisation),
        chart("gpu_watts", "W", lambda gpu: gpu.watts),
        chart("gpu_celsius", "°C", lambda gpu: gpu.celsius),
    )
    return [one for one in charts if one]


def _host_charts(record: RunRecord, lang: str) -> list[Chart]:
    samples = sorted(record.machine, key=lambda sample: sample.time)
    whole = span(record)
    charts = []
    used = [(s.time, s.host_used) for s in samples if s.host_used is not None and math.isfinite(s.host_used)]
    if used and whole:
        lines = []
        for word, sizes in (
            ("capacity", finite(s.host_total for s in samples)),
            ("limit", finite(s.host_limit for s in samples)),
        ):
            if sizes:
                lines.append((say(word, lang), min(sizes) / GIB))
        xs = [time - whole.begin for time, _ in used]
        series = Series(say("used", lang), [value / GIB for _, value in used])
        title = say("host_memory", lang)
        charts.append(Chart("host_memory", title, "GiB", "elapsed", xs, (series,), tuple(lines), from_zero=True))
    free = [(s.time, s.disk_free) for s in samples if s.disk_free is not None and math.isfinite(s.disk_free)]
    if free and whole:
        xs = [time - whole.begin for time, _ in free]
        series = Series(say("free", lang), [value / GIB for _, value in free])
        charts.append(Chart("disk_free", say("disk_free", lang), "GiB", "elapsed", xs, (series,), from_zero=True))
    return charts


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def chosen(xs: Sequence[float], columns: Sequence[Column], points: int = POINTS) -> list[int]:
    """Which samples to draw: all of a short curve; of a long one the lowest and highest of each line in each stretch,
    so that no spike is lost and every point drawn was measured."""
    if len(xs) <= points:
        return list(range(len(xs)))
    stretches = max(1, points // (2 * len(columns)))
    picked = {0, len(xs) - 1}
    for place in range(stretches):
        begin, end = place * len(xs) // stretches, (place + 1) * len(xs) // stretches
        for column in columns:
            known = [i for i in range(begin, end) if column[i] is not None]
            if known:
                picked.add(min(known, key=lambda i: column[i]))  # type: ignore[arg-type, return-value]
                picked.add(max(known, key=lambda i: column[i]))  # type: ignore[arg-type, return-value]
    return sorted(picked)


def drawing(chart: Chart) -> dict[str, Any]:
    """What the script draws, as plain JSON."""
    kept = chosen(chart.xs, [series.values for series in chart.series])
    return {
        "id": chart.id,
        "unit": chart.unit,
        "axis": chart.axis,
        "x": [_short(chart.xs[i]) for i in kept],
        "series": [
            {
                "label": series.label,
                "values": [_short(series.values[i]) for i in kept],
                "colour": series.colour,
                "faint": series.faint,
            }
            for series in chart.series
        ],
        "lines": [{"label": label, "value": value} for label, value in chart.lines],
        "from_zero": chart.from_zero,
    }


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.7g}")


def marks(record: RunRecord, lang: str) -> dict[str, list[dict[str, Any]]]:
    """The events as they are drawn into the curves, by axis: `{"step": [{"x", "word", "grave"}], "elapsed": …}`."""
    drawn = [
        event for event in moments(record, lang) if event.kind in ("alarm", "failure", "heal", "resume", "checkpoint")
    ]
    whole = span(record)
    rows = sorted(record.steps, key=lambda row: row.time)
    found: dict[str, list[dict[str, Any]]] = {"step": [], "elapsed": []}
    for event in drawn:
        told = {"word": event.word, "grave": event.grave}
        found["elapsed"].append({"x": round(event.at, 3), **told})
        before = [row.step for row in rows if whole and row.time - whole.begin <= event.at]
        if before:
            found["step"].append({"x": before[-1], **told})
    return found


def described(chart: Chart, lang: str) -> str:
    """The chart in one sentence, for who cannot see it."""
    told = []
    for series in chart.series:
        known = [value for value in series.values if value is not None]
        if series.faint or not known:
            continue
        unit = f" {chart.unit}" if chart.unit else ""
        values = {"first": known[0], "last": known[-1], "low": min(known), "high": max(known)}
        told.append(
            say("series_label", lang, name=series.label, **{key: number(v) + unit for key, v in values.items()})
        )
    joined = ("；" if lang == "zh" else "; ").join(told)
    return say("chart_label", lang, name=chart.title, axis=say(chart.axis, lang), series=joined)


def table(chart: Chart, lang: str) -> tuple[list[str], list[list[str]]]:
    """(head, rows): the curve at a dozen evenly spaced places, its first and last among them."""
    count = min(TABLE_ROWS, len(chart.xs))
    places = sorted({round(i * (len(chart.xs) - 1) / max(1, count - 1)) for i in range(count)})
    unit = f" ({chart.unit})" if chart.unit else ""
    head = [say(chart.axis, lang), *(series.label + unit for series in chart.series)]
    rows = []
    for i in places:
        x = chart.xs[i]
        values = (series.values[i] for series in chart.series)
        rows.append([
            clock(x) if chart.axis == "elapsed" else number(x),
            *("–" if value is None else number(value) for value in values),
        ])  # fmt: skip
    return head, rows
