"""The pass `heal`: `skyt1-doctor fix --apply --yes`, then check again; training comes afterwards."""

from __future__ import annotations

import json
import os
import tempfile
import time
from typing import Any

from doctor.cli import run
from tests.faults.fault import Fault
from tests.faults.look import BUDGET
from tests.faults.workspace import Workspace


def heal(fault: Fault, place: Workspace) -> dict[str, Any]:
    """Applies every fix that check offers. {"exit", "outcomes": [[cause, fix, outcome, reason]], "seconds"}."""
    given = [text.format(model=place.model, data=place.data, root=place.root.parent) for text in fault.arguments]
    argv = ["fix", str(place.recipe.relative_to(place.root)), "--apply", "--yes", "--format", "json", *given]
    begun = time.monotonic()
    code, said = forked([*argv, "--budget", str(BUDGET)], place)
    document = json.loads(said) if said.strip() else {}
    outcomes = [[o["cause"], o["fix"], o["outcome"], o["reason"]] for o in document.get("outcomes", [])]
    follow_recipe(place)
    return {
        "exit": code,
        "outcomes": outcomes,
        "refused": document.get("error"),
        "seconds": round(time.monotonic() - begun, 1),
    }


def forked(argv: list[str], place: Workspace) -> tuple[int, str]:
    """One command line of the doctor in a fork of this process, which has its modules: exit code and stdout."""
    shell = place.shell()
    with tempfile.TemporaryFile() as out:
        pid = os.fork()
        if pid == 0:
            try:
                os.dup2(out.fileno(), 1)
                os.environ.clear()
                os.environ.update(shell)
                os.chdir(place.root)
                os._exit(run(argv))
            finally:
                os._exit(1)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        out.seek(0)
        return code, out.read().decode()


def follow_recipe(place: Workspace) -> None:
    """A fix may have copied the recipe to a name that LLaMA-Factory reads."""
    if place.recipe.suffix not in (".yaml", ".yml", ".json") or not place.recipe.exists():
        place.recipe = max(place.recipe.parent.glob("*.yaml"), default=place.recipe, key=lambda p: p.stat().st_mtime)
