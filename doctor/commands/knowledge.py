"""`explain` and `causes`: the knowledge base, read by people."""

from __future__ import annotations

from doctor.commands.output import print_json
from doctor.errors import BadInput
from doctor.exit_codes import ExitCode
from doctor.report import document
from doctor.report.words import language, say
from knowledge_base import load
from knowledge_base.schema import Cause


def explain(*, cause: str, form: str, lang: str | None) -> int:
    lang = language(lang)
    try:
        shown = document.entry(load.cause(cause), lang)
    except load.UnknownCause as unknown:
        hint = f"did you mean {unknown.near[0]}?" if unknown.near else "`skyt1-doctor causes TEXT` searches."
        raise BadInput(f"There is no cause called {cause}; {hint}") from None
    if form == "json":
        print_json(document.envelope("explain", causes=[shown]))
    else:
        from doctor.report import text

        text.cause(text.console(), shown, lang)
    return ExitCode.OK


def causes(*, text: str | None, form: str, lang: str | None) -> int:
    lang = language(lang)
    words = (text or "").lower().split()
    found = [
        document.entry(cause, lang) for cause in load.all_causes() if all(word in _searched(cause) for word in words)
    ]
    if form == "json":
        print_json(document.envelope("causes", causes=found))
    elif not found:
        print(say("no_match", lang, text=text))
    else:
        width = max(len(item["cause"]) for item in found)
        for item in found:
            print(f"{item['cause']:{width}}  {item['title']}")
    return ExitCode.OK


def _searched(cause: Cause) -> str:
    """Everything of a cause that a search looks into, lower case, both languages."""
    texts = [cause.title, cause.why, *(fix.title for fix in cause.fixes)]
    return " ".join([cause.id, *(s.pattern for s in cause.signatures), *(f"{t.en} {t.zh}" for t in texts)]).lower()
