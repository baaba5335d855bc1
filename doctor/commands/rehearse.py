"""`rehearse`: the recipe run at toy scale, and the verdict."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from doctor import examine, redact, target
from doctor.commands import unfinished
from doctor.commands.arguments import split
from doctor.commands.check import examine_target
from doctor.commands.next_command import next_command
from doctor.commands.output import print_json
from doctor.exit_codes import ExitCode
from doctor.facts import Facts
from doctor.rehearse import FAILED, PASSED, Rehearsal, cached, rehearse
from doctor.rehearse.beforehand import CHECK, judged
from doctor.rehearse.notes import note
from doctor.report import document
from doctor.report.words import language, say
from knowledge_base.schema import Text


def run(
    *,
    arguments: tuple[str, ...],
    workdir: str | None,
    python: str | None,
    env: str | None,
    offline: bool,
    again: bool,
    seconds: float,
    form: str,
    lang: str | None,
) -> int:
    lang = language(lang)
    recipe, overrides = split("rehearse", arguments)
    find = partial(target.find, recipe, workdir, python, env, offline, overrides=overrides)
    found = find()
    if unfinished.take_back(found, lang):
        found = find()
    started = time.monotonic()
    tell = progress(lang)
    examined = examine_target(found, examine.DEFAULT_BUDGET)
    facts, blocking = examined.facts, [finding for finding in examined.findings if document.blocks_training(finding)]
    took = time.monotonic() - started
    kept = None if again else cached(found, facts)
    if blocking and kept is None:
        tell(note("check_failed", count=len(blocking)))
    result = judged(kept or rehearse(found, facts, tell, seconds), blocking, took)
    content = envelope(result, facts, lang)
    if form == "json":
        print_json(content)
    else:
        _print(content, recipe, lang)
    return exit_code(result)


def progress(lang: str) -> Callable[[Text], None]:
    """Lines on stderr, each with the seconds since the beginning."""
    started = time.monotonic()

    def tell(text: Text) -> None:
        seconds = time.monotonic() - started
        print(f"[{seconds:4.0f} s] {redact.text(text.in_language(lang))}", file=sys.stderr, flush=True)

    return tell


def envelope(result: Rehearsal, facts: Facts, lang: str) -> dict[str, Any]:
    """The document of the command: the findings as ever, and the rehearsal under its own key."""
    content = document.envelope("rehearse", result.findings, lang, unrecognised=result.unrecognised)
    content["healthy"] = result.verdict != FAILED and content["healthy"]
    content["rehearsal"] = result.to_json(lang)
    return content


def exit_code(result: Rehearsal) -> int:
    """0 passed or nothing could be rehearsed (the verdict says which), 1 findings, 5 a failure of unknown cause."""
    if result.verdict != FAILED:
        return ExitCode.OK
    return ExitCode.FINDINGS if result.findings else ExitCode.UNKNOWN_FAILURE


def _print(content: dict[str, Any], recipe: str | None, lang: str) -> None:
    from doctor.report import text

    out = text.console()
    told = content["rehearsal"]
    for stage in told["stages"]:
        word = "skipped" if "skipped" in stage else "stage_passed" if stage["passed"] else "stage_failed"
        mark = {"skipped": "·", "stage_passed": "✓", "stage_failed": "✗"}[word]
        seconds = (
            f"{stage['seconds']:6.1f} s" if word != "skipped" else f"{say('skipped', lang)}: {stage['skipped'][lang]}"
        )
        out.print(f"{mark} {say('stage_' + stage['id'], lang)}  {seconds}", soft_wrap=True)
    if told["not_rehearsed"]:
        out.print(f"\n{say('not_rehearsed', lang)}:")
        for item in told["not_rehearsed"]:
            out.print(f"  {item[lang]}", soft_wrap=True)
    out.print()
    if content["findings"] or content["unrecognised"]:
        text.diagnosis(out, content, lang)
    verdict = {PASSED: "rehearsal_passed", FAILED: "rehearsal_failed"}.get(told["verdict"], "rehearsal_nothing")
    style = {"rehearsal_passed": "green", "rehearsal_failed": "bold red"}.get(verdict, "yellow")
    out.print(say(verdict, lang, seconds=f"{told['seconds']:.0f}"), style=style)
    if told["cached"]:
        out.print(say("rehearsal_cached", lang))
    out.print(f"{say('run_directory', lang)}: {told['directory']}", soft_wrap=True)
    broken = [stage for stage in told["stages"] if not stage["passed"] and "skipped" not in stage]
    if any(stage["id"] == CHECK for stage in broken):
        out.print(say("next_fix", lang, command=next_command("fix", *([recipe] if recipe else []))), soft_wrap=True)
    failed = next((stage for stage in broken if stage.get("log")), None)
    if failed and content["findings"]:
        words = ["skyt1-doctor", "fix", *([recipe] if recipe else []), "--from-log", failed["log"]]
        out.print(say("mend_with", lang, command=shlex.join(words)), soft_wrap=True)
