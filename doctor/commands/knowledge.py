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
    found = [document.entry(cause, lang) for cause in _search((text or "").lower().split())]
    if form == "json":
        print_json(document.envelope("causes", causes=found))
    elif not found:
        print(say("no_match", lang, text=text))
    else:
        width = max(len(item["cause"]) for item in found)
        for item in found:
            print(f"{item['cause']:{width}}  {item['title']}")
    return ExitCode.OK


def _search(words: list[str]) -> list[Cause]:
    """The causes that hold every one of these lower-case words, those first that are named by them."""
    ranked = []
    for cause in load.all_causes():
        texts = _searched(cause)
        worth = [max((_worth(word, text) * weight for weight, text in texts), default=0) for word in words]
        if all(worth):
            in_a_row = len(words) > 1 and any(" ".join(words) in text for _, text in texts[:-1])
            ranked.append((in_a_row, sum(worth), cause))
    ranked.sort(key=lambda found: found[:2], reverse=True)  # stable: alike ones stay in the order of their ids
    return [cause for _, _, cause in ranked]


def _worth(word: str, text: str) -> int:
    """A word that begins there counts more than the same letters inside another one; Chinese has no such borders."""
    at = text.find(word)
    while at > 0 and word[0].isascii() and text[at - 1].isascii() and text[at - 1].isalnum():
        at = text.find(word, at + 1)
    return 3 if at >= 0 else int(word in text)


def _searched(cause: Cause) -> list[tuple[int, str]]:
    """What of a cause a search looks into, lower case, both languages, and what a word counts for that stands there."""
    texts = [
        (5, f"{cause.id} {cause.title.en} {cause.title.zh}"),
        (2, " ".join(signature.pattern for signature in cause.signatures)),
        (2, f"{cause.why.en} {cause.why.zh}"),
        (1, " ".join(f"{fix.title.en} {fix.title.zh}" for fix in cause.fixes)),
    ]
    return [(weight, text.lower()) for weight, text in texts]
