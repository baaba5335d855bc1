"""Renders the page of a run. The page needs no network and runs no script but its own two.

Everything from a record is hostile text: the template escapes it, the figures travel as JSON in which no tag can stand,
and the page's policy names its scripts by their hashes, so that no other would run.
"""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from doctor import __version__
from doctor.report import run_environment, run_rehearsal, run_words, words
from doctor.report.page import charts
from doctor.report.run_findings import of_run, told
from doctor.report.run_record import Rehearsal, RunRecord
from doctor.report.run_story import card_rows, figures, moments, span, verdict

HERE = Path(__file__).parent
EVENTS = 400  # shown; a run of weeks saves many checkpoints
_KNOWN_CLASSES = ("error", "warning", "info", "safe", "review", "needs-argument", "manual")


def page(record: RunRecord, lang: str) -> str:
    """The whole page."""
    say = _said(lang)
    findings = of_run(record, lang)
    drawn = charts.of_run(record, lang)
    events = [
        {**_fields(event), "kind_class": "good" if event.kind in ("checkpoint", "heal", "resume") else "plain"}
        for event in moments(record, lang)
    ]
    whole = span(record)
    script, library = _asset("page.js"), _asset("vendor/uplot/uPlot.iife.min.js")
    recipe = run_environment.recipe(record)
    cards_head, cards = card_rows(record, lang)
    return _template().render(
        lang=lang,
        say=say,
        common=lambda word: words.say(word, lang) if word in _KNOWN_CLASSES else word,
        policy=_policy(library, script),
        style=Markup(_asset("vendor/uplot/uPlot.min.css") + _asset("page.css")),  # our own files
        library=Markup(library),
        script=Markup(script),
        drawings=Markup(_json_for_a_script(_drawings(record, drawn, lang))),  # no tag can stand in it
        version=__version__,
        name=record.name,
        verdict=verdict(record, findings, lang),
        figures=figures(record, lang),
        findings=findings,
        unrecognised=_unrecognised(record),
        charts=[_figure(chart, lang) for chart in drawn],
        cards_head=cards_head,
        cards=cards,
        events=events[:EVENTS],
        length=run_words.clock(whole.seconds) if whole else "",
        rehearsal=_rehearsal(record.rehearsal, lang),
        environment=run_environment.facts(record, lang),
        packages=run_environment.versions(record),
        recipe=recipe,
        overridden=any(line.override for line in recipe),
        log=record.log,
        damage=damage(record, lang),
    )


@cache
def _template() -> Template:
    loader = FileSystemLoader(HERE)
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined).get_template("page.html.j2")


def damage(record: RunRecord, lang: str) -> list[str]:
    """What could not be read, in sentences."""
    return [
        run_words.say("damaged_lines", lang, file=name, count=count)
        if count
        else run_words.say("damaged_file", lang, file=name)
        for name, count in record.damage
    ]


def _said(lang: str) -> Any:
    return lambda word, **values: run_words.say(word, lang, **values)


def _fields(struct: Any) -> dict[str, Any]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


def _figure(chart: charts.Chart, lang: str) -> dict[str, Any]:
    head, rows = charts.table(chart, lang)
    return {**_fields(chart), "described": charts.described(chart, lang), "head": head, "rows": rows}


def _drawings(record: RunRecord, drawn: list[charts.Chart], lang: str) -> dict[str, Any]:
    shapes = [{**charts.drawing(chart), "axis_word": run_words.say(chart.axis, lang)} for chart in drawn]
    return {"charts": shapes, "marks": charts.marks(record, lang)}


def _unrecognised(record: RunRecord) -> dict[str, str] | None:
    found = record.diagnosis.get("unrecognised")
    if not isinstance(found, dict):
        return None
    return {name: str(found.get(name) or "") for name in ("exception", "message", "excerpt", "search_for")}


def _rehearsal(found: Rehearsal | None, lang: str) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "sentence": run_rehearsal.sentence(found, lang),
        "cached": found.cached,
        "stages": [run_rehearsal.stage(one, lang) for one in found.stages],
        "not_rehearsed": [text.get(lang) or text.get("en", "") for text in found.not_rehearsed],
        "findings": [told(finding, lang, run_words.say("rehearsal", lang)) for finding in found.findings],
        "unrecognised": run_rehearsal.unknown(found),
    }


def _asset(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _policy(*scripts: str) -> str:
    """No address is asked for anything; the scripts that may run are these."""
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
    return f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src {hashes}"


def _json_for_a_script(value: Any) -> str:
    """JSON in which no `<`, `>` or `&` stands, so that no log line can end the element."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
