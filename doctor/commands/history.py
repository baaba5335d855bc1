"""`fix --history` and `fix --undo`: what was changed, and taking it back."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from doctor.commands.output import print_json
from doctor.exit_codes import ExitCode
from doctor.findings import precise
from doctor.report import document
from doctor.report.words import say
from fixes import history
from fixes.errors import ChangedAgain, EditedSince


def show(workdir: Path, form: str, lang: str) -> int:
    """Every run of `fix` that changed something, oldest first."""
    entries = [{**asdict(entry), "directory": str(entry.directory)} for entry in history.history(workdir)]
    if form == "json":
        print_json(document.envelope("fix", history=entries))
        return ExitCode.OK
    for entry in entries:
        fixed = ", ".join(precise(outcome) for outcome in entry["outcomes"] if outcome["outcome"] == "verified")
        print(f"{entry['id']}  {entry['created']}  {entry['status']:11}  {fixed}")
    if not entries:
        print(say("nothing_to_do", lang))
    return ExitCode.OK


def undo(workdir: Path, which: str, dry_run: bool, force: bool, form: str, lang: str) -> int:
    """Take one run back. What was changed since is shown, and asked about in a terminal. Other refusals (a lock, an
    unknown id) are raised as fixes.errors.FixError."""
    try:
        undone = history.undo(workdir, which, dry_run=dry_run, force=force)
    except EditedSince as edited:
        if not _anyway(edited, dry_run, form, lang):
            if form != "json":
                raise
            told: dict[str, Any] = {"status": "refused", "reason": str(edited), "changed_since": edited.shown}
            print_json(document.envelope("fix", plan=[], outcomes=[], journal=None, undo=told, error=str(edited)))
            print(f"skyt1-doctor: {edited}", file=sys.stderr)
            return ExitCode.REFUSED
        undone = history.undo(workdir, which, force=True)
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
        if not changes:  # a run that was cut off before it had changed anything
            print(f"{say(word, lang)}: {undone.id}")
    return ExitCode.OK


def _anyway(edited: EditedSince, dry_run: bool, form: str, lang: str) -> bool:
    """Show what was changed since the fix; whether the user, asked in a terminal, wants it taken back all the same."""
    if form == "json":
        return False
    print(edited.shown, file=sys.stderr)
    if isinstance(edited, ChangedAgain) or dry_run:
        return False
    if sys.stdin.isatty():
        print(edited, file=sys.stderr)
        return click.confirm(say("undo_anyway", lang), default=False, err=True)
    print(say("undo_force", lang), file=sys.stderr)
    return False
