"""A plan and its outcomes as text: each fix with its diff, what is left to the user, what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from doctor.findings import precise
from doctor.report.words import say
from fixes.plan import Plan

_OUTCOME_STYLE = {"verified": "green", "nothing to do": "dim", "planned": "", "unverified": "yellow"}


def plan(out: Console, shown: Plan, lang: str) -> None:
    """Steps in the order of application, then what is not done and why."""
    for step in shown.steps:
        kind = say(step.class_, lang)
        out.print(Text.assemble((step.cause, "bold"), f"  {step.title[lang]}  ", (f"{kind} · {step.fix}", "dim")))
        for action in step.actions:
            _diff(out, action.diff)
        if step.consent:
            out.print(Padding(Text(step.consent, style="yellow"), (0, 0, 0, 4), expand=False))
    for outcome in shown.refused:
        if outcome.outcome == "refused":
            out.print(Text.assemble((outcome.cause, "bold"), f"  {say('not_planned', lang)}: {outcome.reason}"))
    for note in shown.notes:
        out.print(Text(note, style="dim"))
    if not shown.steps and not shown.refused:
        out.print(say("nothing_to_do", lang))


def _diff(out: Console, diff: str) -> None:
    for line in diff.splitlines():
        style = "green" if line.startswith("+") else "red" if line.startswith("-") else ""
        out.print(Text("    " + line, style=style), soft_wrap=True)


def outcomes(out: Console, content: Mapping[str, Any], lang: str, undo_command: str) -> None:
    """What came of each fix, then what is left to do, and the command that takes it back."""
    for outcome in content["outcomes"]:
        said = outcome["outcome"]
        reason = f": {outcome['reason']}" if outcome["reason"] else ""
        style = _OUTCOME_STYLE.get(said, "red")
        out.print(Text.assemble((f"{said:14}", style), (precise(outcome), "bold"), f"  {outcome['fix'] or ''}{reason}"))
    left = [precise(finding) for finding in content["findings"] if finding["severity"] == "error"]
    if left:
        out.print(Text.assemble((say("left", lang) + ": ", "bold red"), ", ".join(dict.fromkeys(left))))
    if content["journal"]:
        out.print(f"{say('journal', lang)}: {content['journal']}")
        if any(outcome["outcome"] in ("verified", "unverified") for outcome in content["outcomes"]):
            out.print(say("undo_with", lang, command=undo_command))
