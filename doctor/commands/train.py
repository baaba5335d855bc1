"""`train`: the gate, the launch, and on failure the diagnosis of the log and the command that mends it."""

from __future__ import annotations

import shlex
import time
from typing import Any

import msgspec

from doctor import target
from doctor.commands.check import examine_target
from doctor.errors import BadInput
from doctor.exit_codes import ExitCode
from doctor.report import document
from doctor.report.words import language, say
from doctor.train import launch, run_directory


def split_arguments(arguments: tuple[str, ...]) -> tuple[str | None, dict[str, str]]:
    """`[RECIPE] [KEY=VALUE ...]` told apart by the equals sign. Raises BadInput for anything else."""
    overrides: dict[str, str] = {}
    recipes: list[str] = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if equals and key.isidentifier():
            overrides[key] = value
        elif argument.startswith("-"):
            raise BadInput(f"train does not know {argument}; overrides are written KEY=VALUE after --.")
        else:
            recipes.append(argument)
    if len(recipes) > 1:
        raise BadInput(f"train takes one recipe, not {len(recipes)}: {', '.join(recipes)}.")
    return (recipes[0] if recipes else None), overrides


def run(
    *,
    arguments: tuple[str, ...],
    workdir: str | None,
    python: str | None,
    env: str | None,
    offline: bool,
    force: bool,
    lang: str | None,
    budget: float,
) -> int:
    from doctor.report import text

    lang = language(lang)
    notes = text.console(stderr=True)
    recipe, overrides = split_arguments(arguments)
    found = target.find(recipe, workdir, python, env, offline, overrides=overrides)
    result = examine_target(found, budget)
    content = document.examination("train", result, lang, with_facts=False)
    blocking = [finding for finding in content["findings"] if finding["blocks_training"]]
    if blocking:
        text.findings(notes, blocking, lang)
        notes.print(say("forced" if force else "gate", lang, count=len(blocking)), style="bold red")
        if not force:
            words = ["skyt1-doctor", "fix", *([recipe] if recipe else [])]
            notes.print(say("next_fix", lang, command=shlex.join(words)))
            return ExitCode.REFUSED

    directory = run_directory.create(found.workdir)
    environ = launch.environment(found)
    effective = run_directory.effective_recipe(found, directory)
    argv = launch.command(found, effective)
    directory.write_json("facts.json", result.facts.to_json())
    record = {"command": argv, "environment": launch.changed_variables(environ), "workdir": str(found.workdir)}
    directory.write_json("command.json", {**record, "started": time.strftime("%Y-%m-%dT%H:%M:%S%z")})
    variables = " ".join(f"{name}={shlex.quote(environ[name])}" for name in launch.DEFAULTS)
    notes.print(f"{say('launching', lang)}: {variables} {shlex.join(argv)}", soft_wrap=True)
    notes.print(f"{say('run_directory', lang)}: {directory.relative}", soft_wrap=True)
    started = time.monotonic()
    try:
        code = launch.run(argv, environ, found.workdir, directory.log)
    finally:
        run_directory.remove_private(effective)
    minutes = f"{(time.monotonic() - started) / 60:.1f}"
    if code == ExitCode.OK:
        notes.print(say("trained", lang, minutes=minutes), style="green")
    elif code == ExitCode.INTERRUPTED:
        notes.print(say("interrupted", lang))
    else:
        notes.print(say("failed_with", lang, code=code), style="bold red")
        _diagnose(directory, result.facts, recipe, lang)
    return code


def _diagnose(directory: run_directory.RunDirectory, facts: Any, recipe: str | None, lang: str) -> None:
    """Print and record why the run failed, and the fix command to type."""
    from doctor.diagnose import diagnose
    from doctor.report import text

    notes = text.console(stderr=True)
    found = diagnose([directory.log], facts)
    unrecognised = msgspec.to_builtins(found.unrecognised) if found.unrecognised else None
    content = document.envelope("diagnose", found.findings, lang, unrecognised=unrecognised, notes=list(found.notes))
    directory.write_json("findings.json", content)
    text.diagnosis(notes, content, lang)
    if found.findings:
        words = [
            "skyt1-doctor",
            "fix",
            *([recipe] if recipe else []),
            "--from-log",
            str(directory.relative / "train.log"),
        ]
        notes.print(say("mend_with", lang, command=shlex.join(words)), soft_wrap=True)
