"""`train`: the gate, the rehearsal, then one session: launch, watch, heal; and on failure the command that mends it."""

from __future__ import annotations

import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from doctor import target
from doctor.commands import unfinished
from doctor.commands.arguments import split
from doctor.commands.check import examine_target
from doctor.commands.next_command import next_command
from doctor.diagnose import Diagnosis
from doctor.examine import Examination
from doctor.exit_codes import ExitCode
from doctor.facts import Facts
from doctor.report import document
from doctor.report.words import language, say
from doctor.train import launch, run_directory
from doctor.train.session import Ended, Session, command_line
from doctor.train.view import open_view

# A model smaller than the one that a rehearsal would make of it: the run itself is the rehearsal.
AS_SMALL_AS_A_REHEARSAL = 20e6  # parameters


def run(
    *,
    arguments: tuple[str, ...],
    workdir: str | None,
    python: str | None,
    env: str | None,
    offline: bool,
    force: bool,
    no_rehearse: bool,
    heal: int,
    lang: str | None,
    budget: float,
) -> int:
    from doctor.report import text

    lang = language(lang)
    notes = text.console(stderr=True)
    recipe, overrides = split("train", arguments)
    find = partial(target.find, recipe, workdir, python, env, offline, overrides=overrides, launches=True)
    found = find()
    if unfinished.take_back(found, lang):
        found = find()
    result = examine_target(found, budget)
    if not _passes(result, recipe, force, notes, lang):
        return ExitCode.REFUSED
    directory = run_directory.create(found.workdir)
    if not no_rehearse and not _rehearsed(found, result.facts, directory, force, notes, lang):
        return ExitCode.REFUSED
    directory.write_json("facts.json", result.facts.to_json())
    environ = launch.environment(found, result.facts.get("gpu.count"))
    line = command_line(launch.command(found, directory.relative / "recipe.yaml"), environ)
    notes.print(f"{say('launching', lang)}: {line}", soft_wrap=True)
    notes.print(f"{say('run_directory', lang)}: {directory.relative}", soft_wrap=True)
    started = time.monotonic()
    view = open_view(lang)
    try:
        ended = Session(found, result.facts, directory, view, heal, partial(_heal, find, budget, lang=lang)).run()
    finally:
        view.close()
    with suppress(OSError):  # the terminal may have been closed; the record has it
        _tell_end(ended, directory, recipe, time.monotonic() - started, notes, lang)
    return ended.code


def _heal(find: Any, budget: float, finding: Any, lang: str) -> Any:
    from doctor.commands.heal import heal

    return heal(find, budget, finding, lang)


def _passes(result: Examination, recipe: str | None, force: bool, notes: Console, lang: str) -> bool:
    """The gate: nothing that would stop the run, or --force."""
    from doctor.report import text

    content = document.examination("train", result, lang, with_facts=False)
    blocking = [finding for finding in content["findings"] if finding["blocks_training"]]
    if not blocking:
        return True
    text.findings(notes, blocking, lang)
    notes.print(say("forced" if force else "gate", lang, count=len(blocking)), style="bold red")
    if not force:
        command = next_command("fix", *([recipe] if recipe else []))
        notes.print(say("next_fix", lang, command=command), soft_wrap=True)
    return force


def _rehearsed(
    found: target.Target,
    facts: Facts,
    directory: run_directory.RunDirectory,
    force: bool,
    notes: Console,
    lang: str,
) -> bool:
    """The second gate: the recipe at toy scale. One that passed with exactly this recipe and machine is not repeated."""
    from doctor.commands.rehearse import progress
    from doctor.rehearse import FAILED, PASSED, cached, rehearse
    from doctor.report import text

    parameters = facts.get("model.parameters")
    if parameters and parameters < AS_SMALL_AS_A_REHEARSAL:
        notes.print(say("no_rehearsal_needed", lang), style="dim")
        return True
    notes.print(say("rehearsing", lang), style="dim")
    kept = cached(found, facts)
    result = kept or rehearse(found, facts, progress(lang))
    directory.write_json("rehearsal.json", {**result.to_json("en"), "cached": kept is not None})
    if result.verdict == PASSED:
        notes.print(say("rehearsal_passed", lang, seconds=f"{result.seconds:.0f}"), style="green")
        return True
    if result.verdict != FAILED:
        why = [item.in_language(lang) for item in result.not_rehearsed]
        notes.print("\n  ".join([say("rehearsal_nothing", lang), *why]), style="yellow", soft_wrap=True)
        return True
    shown = result.to_json(lang)
    text.findings(notes, shown["findings"], lang)
    if unknown := shown.get("unrecognised"):
        notes.print(f"{unknown['exception']}: {unknown['message']}", soft_wrap=True)
    notes.print(say("rehearsal_forced" if force else "rehearsal_gate", lang), style="bold red")
    return force


def _tell_end(
    ended: Ended,
    directory: run_directory.RunDirectory,
    recipe: str | None,
    seconds: float,
    notes: Console,
    lang: str,
) -> None:
    if ended.interrupted:
        notes.print(say("interrupted", lang))
    elif ended.code == ExitCode.OK:
        notes.print(say("trained", lang, minutes=f"{seconds / 60:.1f}"), style="green")
    else:
        notes.print(say("failed_with", lang, code=ended.code), style="bold red")
        if ended.diagnosis is not None:
            _tell_diagnosis(ended.diagnosis, directory, recipe, notes, lang)


def _tell_diagnosis(
    found: Diagnosis, directory: run_directory.RunDirectory, recipe: str | None, notes: Console, lang: str
) -> None:
    """Why the run failed, and the fix command to type."""
    from doctor.report import text

    unrecognised = msgspec.to_builtins(found.unrecognised) if found.unrecognised else None
    content = document.envelope("diagnose", found.findings, lang, unrecognised=unrecognised, notes=list(found.notes))
    text.diagnosis(notes, content, lang)
    if found.findings:
        log = (directory.relative if directory.workdir == Path.cwd() else directory.path) / "train.log"
        command = next_command("fix", *([recipe] if recipe else []), "--from-log", str(log))
        notes.print(say("mend_with", lang, command=command), soft_wrap=True)
