"""The pass `check`: what `skyt1-doctor check --offline` says of a workspace, and how long it takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from doctor import target
from doctor.commands.check import examine_target
from doctor.errors import BadInput, UnreadableRecipe
from doctor.examine import severity_of
from doctor.findings import precise
from tests.faults.workspace import Workspace

BUDGET = 30.0  # seconds for the probes; a busy machine must not decide what is found


def command(place: Workspace) -> dict[str, Any]:
    """The installed command, as a user starts it."""
    program = str(Path(sys.executable).parent / "skyt1-doctor")
    argv = [program, "check", str(place.recipe.relative_to(place.root)), "--offline", "--format", "json"]
    begun = time.monotonic()
    done = subprocess.run(
        [*argv, "--budget", str(BUDGET)], cwd=place.root, env=place.shell(), capture_output=True, check=False
    )
    seconds = round(time.monotonic() - begun, 2)
    document = json.loads(done.stdout)
    shown = [[precise(finding), finding["severity"]] for finding in document["findings"]]
    return {"findings": shown, "refused": document.get("error"), "exit": done.returncode, "seconds": seconds}


def inside(place: Workspace) -> dict[str, Any]:
    """The same examination in this process; `seconds` without the start of the command (0.15 s on an idle machine)."""
    begun = time.monotonic()
    with environment(place.shell()), directory(place.root):
        try:
            found = target.find(str(place.recipe.relative_to(place.root)), offline=True)
            findings = examine_target(found, BUDGET).findings
        except BadInput as refused:
            named = [[refused.cause, "error"]] if isinstance(refused, UnreadableRecipe) else []
            return {"findings": named, "refused": str(refused), "seconds": round(time.monotonic() - begun, 2)}
    shown = [[finding.cause, severity_of(finding).value] for finding in findings]
    return {"findings": shown, "refused": None, "seconds": round(time.monotonic() - begun, 2)}


@contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def directory(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
