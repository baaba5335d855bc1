"""The pass `tools`: what users run today to look at an environment, really run in it."""

from __future__ import annotations

import re
import subprocess
import time
from typing import Any

from tests.faults.workspace import Workspace

TOOLS = {
    "llamafactory-cli env": ("llamafactory-cli", "env"),
    "ds_report": ("ds_report",),
    "accelerate env": ("accelerate", "env"),
    "pip check": ("uv", "pip", "check"),
}
LIMIT = 180.0  # seconds


def ask(place: Workspace) -> dict[str, Any]:
    """{tool: {"exit": code, "seconds": s, "said": lines that speak of an error}}. `pip check` is that of uv."""
    answers = {}
    for tool, argv in TOOLS.items():
        begun = time.monotonic()
        program = [*argv, "--python", str(place.environment.python)] if argv[0] == "uv" else list(argv)
        try:
            done = subprocess.run(
                program, cwd=place.root, env=place.shell(), capture_output=True, text=True, errors="replace",
                timeout=LIMIT, stdin=subprocess.DEVNULL, check=False,
            )  # fmt: skip
        except FileNotFoundError:
            answers[tool] = {"exit": None, "seconds": 0.0, "said": ["it is not installed"]}
            continue
        lines = re.sub(r"\x1b\[[\d;]*m", "", done.stdout + done.stderr).splitlines()
        said = [line.strip()[:200] for line in lines if re.search(r"Error\b|requires|incompatib|has requirement", line)]
        seconds = round(time.monotonic() - begun, 1)
        answers[tool] = {"exit": done.returncode, "seconds": seconds, "said": [place.neutral(s) for s in said][-8:]}
    return answers
