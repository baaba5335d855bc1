"""The launch profile: variables that fixes set or take away for the launch, kept beside the recipe in the working directory.

A shell cannot be changed from outside, so a fix that sets MASTER_PORT or takes HF_ENDPOINT away writes it here; `check`
and `train` read it. It wins over the process environment, because it is the younger, consented decision. The file is a
shell's too: `NAME=value` and `unset NAME` lines.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

LAUNCH_PROFILE = Path(".skyt1-doctor") / "launch.env"
_LINE = re.compile(r"\s*(?:export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*=\s*(?P<value>.*?)\s*$")
_UNSET = re.compile(r"\s*unset\s+(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*$")


def lines(text: str) -> dict[str, str | None]:
    """Name → value, or None where the variable is taken away; the last line of a name counts. Comments and blank lines
    are skipped, one pair of quotes around a value is dropped."""
    values: dict[str, str | None] = {}
    for line in text.splitlines():
        if unset := _UNSET.match(line):
            values[unset["name"]] = None
        elif (found := _LINE.match(line)) and not line.lstrip().startswith("#"):
            value = found["value"]
            quoted = len(value) >= 2 and value[0] == value[-1] and value[0] in "'\""
            values[found["name"]] = value[1:-1] if quoted else value
    return values


def parse(text: str) -> dict[str, str]:
    """The variables that are set."""
    return {name: value for name, value in lines(text).items() if value is not None}


def read(workdir: Path) -> dict[str, str]:
    """The variables that the profile of a working directory sets; empty where there is none or it cannot be read."""
    return parse(_text(workdir))


def merged(environ: Mapping[str, str], workdir: Path) -> dict[str, str]:
    """The environment as the profile of a working directory changes it."""
    profile = lines(_text(workdir))
    kept = {name: value for name, value in environ.items() if name not in profile}
    return {**kept, **{name: value for name, value in profile.items() if value is not None}}


def _text(workdir: Path) -> str:
    try:
        return (workdir / LAUNCH_PROFILE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
