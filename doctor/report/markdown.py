"""The report of a run as Markdown for a GitHub issue: short on top, the rest folded, never longer than an issue may be.

Everything from a record is hostile text. What it says stands in code spans and code blocks whose fences are longer than
any in it, or escaped, so that it can neither end a block nor mention a person nor bring a tag.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from doctor import __version__
from doctor.report import run_environment, run_rehearsal, run_words, words
from doctor.report.page import charts
from doctor.report.page.render import damage
from doctor.report.run_findings import Told, of_run, told
from doctor.report.run_record import RunRecord
from doctor.report.run_story import card_rows, figures, moments, verdict

LONGEST = 64_000  # characters; GitHub takes 65,536 in an issue
EVENTS = 40
_LONGEST_TEXT = 2000  # characters of a sentence or paragraph
_LONGEST_PIECE = 600  # characters of one piece of evidence, one log line

_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|~<>&$])")
_BARS = "▁▂▃▄▅▆▇█"
_MARK = {"done": "✅", "failed": "❌", "interrupted": "⏹️", "open": "❔", "unknown": "❔"}


# What is shown when all would be too long: (lines of the log, lines of the recipe, findings), fuller first.
_SHORTER = ((80, 400, 12), (30, 120, 12), (10, 30, 6), (0, 0, 3))


def markdown(record: RunRecord, lang: str) -> str:
    """The whole text. What does not fit is left out: log and recipe, then findings, then whole parts from the end."""
    for log_lines, recipe_lines, findings in _SHORTER:
        parts = _parts(record, lang, log_lines, recipe_lines, findings)
        if _length(parts) <= LONGEST:
            break
    while _length(parts) > LONGEST:
        del parts[-2]  # the last one says what made it
    return "\n\n".join(parts) + "\n"


def _length(parts: list[str]) -> int:
    return sum(len(part) + 2 for part in parts)


def _parts(record: RunRecord, lang: str, log_lines: int, recipe_lines: int, most: int) -> list[str]:
    findings = of_run(record, lang)
    parts = [
        _head(record, findings, lang),
        _findings(record, findings, lang, most),
        _curves(record, lang),
        _cards(record, lang),
        _events(record, lang),
        _rehearsal(record, lang),
        _environment(record, lang),
        _recipe(record, lang, recipe_lines),
        _log(record, lang, log_lines),
        "\n".join(f"- {escaped(sentence)}" for sentence in damage(record, lang)),
        f"<sub>{escaped(run_words.say('made_by', lang, version=__version__))}</sub>",
    ]
    return [part for part in parts if part]


def escaped(text: str) -> str:
    """Text in a paragraph or a table cell: no markup, no tag, no mention, one line."""
    return _SPECIAL.sub(r"\\\1", _shortened(" ".join(text.split()), _LONGEST_TEXT)).replace("@", "@\u200b")


def _shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[:longest] + " …"


def code(text: str) -> str:
    """A code span; its ticks are more than any run of ticks in the text."""
    line = " ".join(text.split())
    if not line:
        return ""
    line = _shortened(line, _LONGEST_PIECE)
    ticks = "`" * (max((len(run) for run in re.findall("`+", line)), default=0) + 1)
    return f"{ticks} {line} {ticks}" if "`" in line else f"{ticks}{line}{ticks}"


def block(lines: Iterable[str], language: str = "text") -> str:
    """A fenced block whose fence is longer than any run of ticks in it."""
    text = "\n".join(_shortened(line, _LONGEST_PIECE) for line in lines)
    fence = "`" * max(3, max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def folded(summary: str, content: str) -> str:
    return f"<details><summary>{escaped(summary)}</summary>\n\n{content}\n\n</details>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the cells are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _head(record: RunRecord, findings: list[Told], lang: str) -> str:
    found = verdict(record, findings, lang)
    lines = [f"## {_MARK[found.state]} {escaped(found.title)}", ""]
    lines += [escaped(sentence) + "  " for sentence in found.sentences]
    lines += [f"- {escaped(label)}: **{escaped(value)}**" for label, value in figures(record, lang)]
    return "\n".join(lines)


def _findings(record: RunRecord, findings: list[Told], lang: str, most: int) -> str:
    parts = [f"### {run_words.say('findings', lang)}"]
    parts += [_finding(finding, lang) for finding in findings[:most]]
    if len(findings) > most:
        parts.append(run_words.say("more", lang, count=len(findings) - most))
    unknown = record.diagnosis.get("unrecognised")
    if isinstance(unknown, dict):
        parts.append(
            f"**{run_words.say('cause_unknown', lang)}** "
            + code(f"{unknown.get('exception')}: {unknown.get('message')}")
        )
        if unknown.get("excerpt"):
            parts.append(block(str(unknown["excerpt"]).splitlines()[-40:]))
    elif not findings:
        parts.append(run_words.say("no_findings", lang))
    return "\n\n".join(parts)


def _finding(finding: Told, lang: str) -> str:
    severity = words.say(finding.severity, lang)
    extra = [finding.origin]
    if finding.confidence is not None and finding.confidence < 1:
        extra.append(run_words.say("confidence", lang, value=finding.confidence))
    if finding.rank is not None:
        extra.append(run_words.say("rank", lang, rank=finding.rank))
    if finding.count > 1:
        extra.append(run_words.say("seen", lang, count=finding.count))
    title = f"**{escaped(severity)}: {escaped(finding.title or finding.cause)}**"
    lines = [f"{title} {code(finding.cause)} ({escaped(', '.join(extra))})"]
    lines += [f"- {code(piece.what)} {code(piece.where)}".rstrip() for piece in finding.evidence]
    for fix in finding.fixes:
        proven = f"✓ {run_words.say('verified_on', lang, stacks=', '.join(fix.stacks))}" if fix.stacks else ""
        lines.append(f"- {words.say('fix', lang)}: {escaped(fix.title)} {code(fix.id)} {escaped(proven)}".rstrip())
    more = [f"{run_words.say('why', lang)}: {escaped(finding.why)}"] if finding.why else []
    more += [
        f"- {run_words.say('does_not_help', lang)}: {escaped(advice.what)}"
        + (f" — {escaped(advice.why)}" if advice.why else "")
        for advice in finding.does_not_help
    ]
    folding = run_words.say("why", lang) + (
        f" · {run_words.say('does_not_help', lang)}" if finding.does_not_help else ""
    )
    return "\n".join(lines) + ("\n\n" + folded(folding, "\n".join(_apart(more))) if more else "")


def _apart(lines: list[str]) -> list[str]:
    """A paragraph and the list behind it need an empty line between them."""
    return [lines[0], "", *lines[1:]] if len(lines) > 1 and not lines[0].startswith("-") else lines


def sparkline(values: Sequence[float | None], width: int = 40) -> str:
    """A curve in one line of text: the mean of each stretch."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    count = min(width, len(known))
    stretches = [known[i * len(known) // count : (i + 1) * len(known) // count] for i in range(count)]
    means = [sum(stretch) / len(stretch) for stretch in stretches]
    low, high = min(means), max(means)
    return "".join(_BARS[round((mean - low) / (high - low) * (len(_BARS) - 1)) if high > low else 0] for mean in means)


def _curves(record: RunRecord, lang: str) -> str:
    drawn = charts.of_run(record, lang)
    if not drawn:
        return ""
    rows: list[list[str]] = []
    tables = []
    for chart in drawn:
        if chart.id in _IN_THE_GPU_TABLE:
            continue
        for series in chart.series:
            known = [value for value in series.values if value is not None]
            if series.faint or not known:
                continue
            shown = [one for one in chart.series if not one.faint]
            name = chart.title if len(shown) == 1 else f"{chart.title}, {series.label}"
            if len(rows) < 24:
                figures_ = (run_words.number(value) for value in (known[0], known[-1], min(known), max(known)))
                unit = f" ({chart.unit})" if chart.unit else ""
                rows.append([escaped(name + unit), code(sparkline(known)), *figures_])
        if chart.remark:
            rows.append([escaped(chart.title), escaped(chart.remark), "", "", "", ""])
        if chart.axis == "step":
            head, cells = charts.table(chart, lang)
            tables.append(f"{escaped(chart.title)}\n\n" + table([escaped(word) for word in head], cells))
    head = ["", "", *_EXTREMES[lang]]
    return (
        f"### {run_words.say('curves', lang)}\n\n"
        + table(head, rows)
        + ("\n\n" + folded(run_words.say("table", lang), "\n\n".join(tables)) if tables else "")
    )


_IN_THE_GPU_TABLE = ("gpu_utilisation", "gpu_watts", "gpu_celsius")


def _cards(record: RunRecord, lang: str) -> str:
    head, rows = card_rows(record, lang)
    if not rows:
        return ""
    return folded(run_words.say("over_the_run", lang), table(head, [[escaped(cell) for cell in row] for row in rows]))


_EXTREMES = {"en": ["first", "last", "lowest", "highest"], "zh": ["起始", "结束", "最低", "最高"]}


def _events(record: RunRecord, lang: str) -> str:
    shown = moments(record, lang)
    if not shown:
        return ""
    if len(shown) > EVENTS:  # what went wrong and the last of the others
        rest = EVENTS - sum(event.grave for event in shown)
        others = {id(event) for event in [e for e in shown if not e.grave][-max(rest, 5) :]}
        kept = [event for event in shown if event.grave or id(event) in others][-EVENTS:]
    else:
        kept = shown
    lines = [f"- {code(event.clock)} **{escaped(event.word)}** {escaped(event.text)}" for event in kept]
    if len(kept) < len(shown):
        lines.append(f"- {run_words.say('more', lang, count=len(shown) - len(kept))}")
    return folded(run_words.say("events", lang), "\n".join(lines))


def _rehearsal(record: RunRecord, lang: str) -> str:
    found = record.rehearsal
    if found is None:
        return ""
    head = [run_words.say(word, lang) for word in ("stage", "result", "seconds")]
    rows = [
        [escaped(cell) for cell in (one["name"], one["result"], one["seconds"])]
        for one in (run_rehearsal.stage(s, lang) for s in found.stages)
    ]
    parts = [run_rehearsal.sentence(found, lang), table(head, rows) if rows else ""]
    failures = [f"{code(one.cause)} {escaped(one.title)}" for one in (told(f, lang) for f in found.findings)]
    if unknown := run_rehearsal.unknown(found):
        failures.append(code(unknown))
    if failures:
        parts.append("\n".join(f"- {line}" for line in failures))
    if found.not_rehearsed:
        limits = [f"- {escaped(text.get(lang) or text.get('en', ''))}" for text in found.not_rehearsed]
        parts.append(run_words.say("not_rehearsed", lang) + "\n\n" + "\n".join(limits))
    return folded(run_words.say("rehearsal", lang), "\n\n".join(part for part in parts if part))


def _environment(record: RunRecord, lang: str) -> str:
    rows = [
        [escaped(label), code(value) if is_code else escaped(value)]
        for label, value, is_code in run_environment.facts(record, lang)
    ]
    return folded(run_words.say("environment", lang), table(["", ""], rows)) if rows else ""


def _recipe(record: RunRecord, lang: str, limit: int) -> str:
    lines = run_environment.recipe(record)
    if not lines or not limit:
        return ""
    mark = f"  # ← {run_words.say('override', lang)}"
    shown = [line.text + (mark if line.override else "") for line in lines[:limit]]
    return folded(run_words.say("recipe", lang), block(shown, "yaml"))


def _log(record: RunRecord, lang: str, limit: int) -> str:
    if not record.log or not limit:
        return ""
    return folded(run_words.say("log", lang), block(record.log[-limit:]))
