"""unset-launch {names: [NAME]}: takes variables out of the launch profile.

The profile can only add to the process environment; a variable that the shell itself sets is not reached from here.
"""

from __future__ import annotations

from typing import Any

from doctor.launch_profile import LAUNCH_PROFILE
from fixes.change import Change, edit
from fixes.context import Args, Context
from fixes.edit import dotenv


def claims(args: Args, context: Context) -> dict[tuple[str, str], Any]:
    return {(str(LAUNCH_PROFILE), str(name)): "(removed)" for name in args["names"]}


def preview(args: Args, context: Context) -> Change | None:
    path = context.target.workdir / LAUNCH_PROFILE
    old = context.read(path)
    new = dotenv.unset(old, [str(n) for n in args["names"]], str(LAUNCH_PROFILE))
    return edit("unset-launch", str(LAUNCH_PROFILE), path, old, new, claims(args, context))
