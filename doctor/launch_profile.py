"""The launch profile: variables that fixes set for the launch, kept beside the recipe in the working directory.

A shell cannot be changed from outside, so a fix that sets MASTER_PORT or WANDB_MODE writes it here; `check` and `train`
read it. It wins over the process environment, because it is the younger, consented decision.
"""

from __future__ import annotations

import re
from pathlib import Path

LAUNCH_PROFILE = Path(".skyt1-doctor") / "launch.env"
_LINE = re.compile(r"\s*(?:export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*=\s*(?P<value>.*?)\s*$")


def parse(text: str) -> dict[str, str]:
    """NAME=VALUE lines; comments and blank lines are skipped, one pair of quotes around a value is dropped."""
    values = {}
    for line in text.splitlines():
        found = _LINE.match(line)
        if found and not line.lstrip().startswith("#"):
            value = found["value"]
            quoted = len(value) >= 2 and value[0] == value[-1] and value[0] in "'\""
            values[found["name"]] = value[1:-1] if quoted else value
    return values


def read(workdir: Path) -> dict[str, str]:
    """The profile of a working directory; empty where there is none or it cannot be read."""
    try:
        return parse((workdir / LAUNCH_PROFILE).read_text(encoding="utf-8"))
    except OSError:
        return {}
