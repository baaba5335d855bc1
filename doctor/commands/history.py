"""`fix --history` and `fix --undo`: what was changed, and taking it back."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from doctor.commands.output import print_json
from doctor.exit_codes import ExitCode
from doctor.report import document
from doctor.report.words import say
from fixes import history


def show(workdir: Path, form: str, lang: str) -> int:
    """Every run of `fix` that changed something, oldest first."""
    entries = [{**asdict(entry), "directory": str(entry.directory)} for entry in history.history(workdir)]
    if form == "json":
        print_json(document.envelope("fix", history=entries))
        return ExitCode.OK
    for entry in entries:
        fixed = ", ".join(str(outcome["cause"]) for outcome in entry["outcomes"] if outcome["outcome"] == "verified")
        print(f"{entry['id']}  {entry['created']}  {entry['status']:11}  {fixed}")
    if not entries:
        print(say("nothing_to_do", lang))
    return ExitCode.OK


def undo(workdir: Path, which: str, dry_run: bool, force: bool, form: str, lang: str) -> int:
    """Take one run back. Refusals (a later edit, a lock) are raised as fixes.errors.Refused."""
    undone = history.undo(workdir, which, dry_run=dry_run, force=force)
    changes: list[dict[str, Any]] = [dict(change) for change in undone.changes]
    if form == "json":
        told = {"status": undone.status, "changes": changes}
        print_json(document.envelope("fix", plan=[], outcomes=[], journal=undone.id, undo=told))
    elif undone.status == "nothing to do":
        print(say("nothing_to_do", lang))
    else:
        word = "would_undo" if undone.status == "planned" else "undone"
        for change in changes:
            print(f"{say(word, lang)}: {change['kind']} {change['target']}")
    return ExitCode.OK
