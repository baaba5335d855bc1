"""unset-launch {names: [NAME]}: takes variables away from the launch, whoever set them.

A line of the profile goes. What the shell sets too gets an `unset` line, which check and train follow; one that is there
already stays. Nothing is to be done for a variable that is set nowhere.
"""

from __future__ import annotations

import os
from typing import Any

from doctor import launch_profile
from doctor.launch_profile import LAUNCH_PROFILE
from fixes.change import Change, edit
from fixes.context import Args, Context
from fixes.edit import dotenv


def claims(args: Args, context: Context) -> dict[tuple[str, str], Any]:
    return {(str(LAUNCH_PROFILE), str(name)): "(removed)" for name in args["names"]}


def preview(args: Args, context: Context) -> Change | None:
    path = context.target.workdir / LAUNCH_PROFILE
    old = context.read(path)
    profile = launch_profile.lines(old.decode("utf-8", errors="replace")) if old is not None else {}
    names = [str(name) for name in args["names"]]
    # Two sources make the target's environment: what the profile does not explain, the shell has set.
    unexplained = {n for n, value in context.target.environ.items() if n not in profile or profile[n] != value}
    shell = unexplained | os.environ.keys()
    unset_before = {name for name, value in profile.items() if value is None}
    new = dotenv.unset(old, [n for n in names if n not in unset_before], str(LAUNCH_PROFILE), shell)
    return edit("unset-launch", str(LAUNCH_PROFILE), path, old, new, claims(args, context))
