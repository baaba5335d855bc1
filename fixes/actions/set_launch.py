"""set-launch {values: {NAME: value}}: variables of the launch profile, which check and train read."""

from __future__ import annotations

from typing import Any

from doctor.launch_profile import LAUNCH_PROFILE
from fixes.change import Change, edit
from fixes.context import Args, Context
from fixes.edit import dotenv


def claims(args: Args, context: Context) -> dict[tuple[str, str], Any]:
    return {(str(LAUNCH_PROFILE), str(name)): str(value) for name, value in args["values"].items()}


def preview(args: Args, context: Context) -> Change | None:
    path = context.target.workdir / LAUNCH_PROFILE
    old = context.read(path)
    new = dotenv.set_values(old, args["values"], str(LAUNCH_PROFILE))
    return edit("set-launch", str(LAUNCH_PROFILE), path, old, new, claims(args, context))
