"""Text for people: a view of the JSON document, nothing that is not in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from doctor.findings import precise
from doctor.report.words import say, summary

_MARK = {"error": ("✗", "bold red"), "warning": ("!", "yellow"), "info": ("·", "cyan")}


def console(stderr: bool = False) -> Console:
    """A console that never wraps inside words of a path and adds no colour where nobody sees it. What goes to a file or a
    pipe is not wrapped at all, for grep."""
    out = Console(stderr=stderr, highlight=False, soft_wrap=False, emoji=False)
    out.soft_wrap = not out.is_terminal
    return out


def findings(out: Console, shown: Iterable[Mapping[str, Any]], lang: str, why: bool = False) -> None:
    """Each finding: mark, cause, title; the evidence; the fixes that apply; what does not help."""
    for finding in shown:
        mark, style = _MARK[finding["severity"]]
        head = Text.assemble((f"{mark} ", style), (precise(finding), "bold"), "  ", finding["title"])
        if finding["kind"]:
            head.append(f"  [{say('kind_of', lang)} {finding['cause']}]", style="dim")
        if finding["source"] == "log":
            head.append(f"  ({say('confidence', lang, value=finding['confidence'])})", style="dim")
        if finding["rank"] is not None:
            head.append(f"  [{say('rank', lang, rank=finding['rank'])}]", style="dim")
        out.print(head, soft_wrap=not out.is_terminal)
        for item in finding["evidence"]:
            _indented(out, Text.assemble(item["what"], ("  — " + item["where"], "dim")))
        if why:
            _indented(out, Text.assemble((say("why", lang) + ": ", "italic"), finding["why"]))
        _fixes(out, finding["fixes"], lang)
        _fixes(out, finding["may_apply"], lang, "may_apply")
        if why:
            _folk_advice(out, finding["does_not_help"], lang)
        elif finding["does_not_help"]:
            named = "; ".join(advice["what"] for advice in finding["does_not_help"])
            _indented(out, Text(f"{say('does_not_help', lang)}: {named}", style="dim"))


def _fixes(out: Console, fixes: Iterable[Mapping[str, Any]], lang: str, word: str = "fix") -> None:
    style = "green" if word == "fix" else "yellow"
    for fix in fixes:
        line = Text.assemble(
            (f"{say(word, lang)} ({say(fix['class'], lang)}): ", style), fix["title"], (f"  {fix['id']}", "dim")
        )
        if fix["verified_on"]:
            line.append(f"  ✓ {say('verified_on', lang)} {', '.join(fix['verified_on'])}", style="green")
        _indented(out, line)


def _folk_advice(out: Console, does_not_help: Iterable[Mapping[str, Any]], lang: str) -> None:
    for advice in does_not_help:
        _indented(out, Text(f"{say('does_not_help', lang)}: {advice['what']} — {advice['why']}", style="dim"))


def _indented(out: Console, line: Text) -> None:
    """Wrapped under the indent in a terminal; one line each in a file, for grep."""
    if out.is_terminal:
        out.print(Padding(line, (0, 0, 0, 4), expand=False))
    else:
        out.print(Text.assemble("    ", line), soft_wrap=True)


def check(
    out: Console,
    document: Mapping[str, Any],
    target: Mapping[str, str] | None,
    lang: str,
    command: str,
    why: bool = False,
) -> None:
    """The result of `check`."""
    for name, value in (target or {}).items():
        out.print(Text.assemble((f"{say(name, lang)}: ", "dim"), value))
    if target:
        out.print()
    findings(out, document["findings"], lang, why)
    if document.get("trial"):
        from doctor.report.trial_text import trial

        trial(out, document["trial"], lang)
    if document.get("ranks"):
        from doctor.report.ranks_text import ranks

        ranks(out, document["ranks"], lang)
    for probe in document["probes"]:
        if probe["status"] in ("unknown", "error"):
            word = say("failed_probe" if probe["status"] == "error" else "unknown", lang)
            out.print(Text(f"? {probe['id']}: {word}: {probe['reason']}", style="dim"))
    count = {s: sum(f["severity"] == s for f in document["findings"]) for s in _MARK}
    if document["findings"]:
        out.print()
        out.print(summary(lang, *count.values()))
    if document["healthy"] and not count["warning"]:
        out.print(Text(say("healthy", lang), style="green"))
    if count["error"] or count["warning"]:
        out.print(say("next_fix", lang, command=command))


def diagnosis(out: Console, document: Mapping[str, Any], lang: str) -> None:
    """The result of `diagnose`: the causes, or plainly that none is known."""
    for note in document.get("notes", ()):
        out.print(Text(note, style="dim"))
    if document["findings"]:
        findings(out, document["findings"], lang, why=True)
        return
    unknown = document["unrecognised"]
    if unknown is None:
        out.print(say("no_failure", lang))
        return
    out.print(Text(say("not_known", lang), style="bold"))
    rank = f"  [{say('rank', lang, rank=unknown['rank'])}]" if unknown.get("rank") is not None else ""
    _indented(out, Text(f"{unknown['exception']}: {unknown['message']}{rank}"))
    for line in str(unknown.get("excerpt", "")).splitlines():
        _indented(out, Text(line, style="dim"))
    if unknown.get("search_for"):
        out.print(f"{say('search_for', lang)}: {unknown['search_for']}")


def cause(out: Console, entry: Mapping[str, Any], lang: str) -> None:
    """One cause as `explain` prints it."""
    mark, style = _MARK[entry["severity"]]
    head = Text.assemble((f"{mark} ", style), (entry["cause"], "bold"), "  ", entry["title"])
    if entry["kind_of"]:
        head.append(f"  [{say('kind_of', lang)} {entry['kind_of']}]", style="dim")
    out.print(head)
    out.print()
    _indented(out, Text(entry["why"]))
    out.print()
    if entry["affected"]:
        affected = ", ".join(f"{name} {specifier}" for name, specifier in entry["affected"].items())
        _indented(out, Text(f"{say('affected', lang)}: {affected}"))
    _fixes(out, entry["fixes"], lang)
    _folk_advice(out, entry["does_not_help"], lang)
    _indented(out, Text(f"{say('references', lang)}:"))
    for link in entry["references"]:
        _indented(out, Text(f"  {link}", style="blue"))
