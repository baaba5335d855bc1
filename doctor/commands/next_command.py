"""Which command to type next: it is told again what the one before was told."""

from __future__ import annotations

import shlex
from collections.abc import Collection

import click

# What is examined, and what a fix is to use. How a result was shown need not be said again.
SAID_AGAIN = {
    "check": {"recipe", "workdir", "python", "env", "offline"},
    "train": {"workdir", "python", "env", "offline"},
    "fix": {"recipe", "workdir", "python", "env", "offline", "only", "model", "dataset", "from_log", "stack"},
}


def next_command(command: str, *flags: str, again: Collection[str] | None = None) -> str:
    """`skyt1-doctor COMMAND FLAGS`, for the shell, with those arguments and options of the running command that matter to
    it: `again`, or all of SAID_AGAIN."""
    context = click.get_current_context(silent=True)
    words = ["skyt1-doctor", command]
    if context is None:
        return shlex.join([*words, *flags])
    kept = SAID_AGAIN.get(context.command.name or "", ()) if again is None else again
    for parameter in sorted(context.command.params, key=lambda p: not isinstance(p, click.Argument)):
        value = context.params.get(parameter.name or "")
        if not value or parameter.name not in kept:
            continue
        if isinstance(parameter, click.Option):
            words.append(parameter.opts[0])
            if parameter.is_flag:
                continue
        words.append(",".join(value) if isinstance(value, tuple) else str(value))
    return shlex.join([*words, *flags])
