"""instruct {commands: […]}: shown to the user, never run."""

from __future__ import annotations

from doctor import redact
from fixes.change import Change
from fixes.context import Args, Context


def preview(args: Args, context: Context) -> Change | None:
    return Change("instruct", "you", redact.text("\n".join(str(command) for command in args["commands"])))
