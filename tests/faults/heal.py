"""The pass `heal`: `skyt1-doctor fix --apply --yes`, again while it heals more, then check; training comes afterwards."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from doctor.cli import run
from doctor.findings import precise
from tests.faults import look, record
from tests.faults.fault import Fault
from tests.faults.look import BUDGET
from tests.faults.workspace import Workspace

ROUNDS = 3  # what one fix made readable may show another fault, which the next `fix` heals


def heal(fault: Fault, place: Workspace) -> dict[str, Any]:
    """Applies every fix that check offers, with the arguments that the fault's user gives."""
    given = [text.format(model=place.model, data=place.data, root=place.root.parent) for text in fault.arguments]
    return healed(place, given)


def healed(place: Workspace, given: Sequence[str] = ()) -> dict[str, Any]:
    """{"exit", "outcomes": [[cause, fix, outcome, reason]], "refused", "left", "seconds"} of `fix`, round after round."""
    begun, outcomes, left = time.monotonic(), [], list[str]()
    code, refused = 0, None
    for _ in range(ROUNDS):
        argv = ["fix", str(place.recipe.relative_to(place.root)), "--apply", "--yes", "--format", "json", *given]
        code, said = forked([*argv, "--budget", str(BUDGET)], place)
        document = json.loads(said) if said.strip() else {}
        said_of = document.get("outcomes", [])
        new = [[precise(o), o["fix"], o["outcome"], _neutral(place, o["reason"])] for o in said_of]
        outcomes, refused = outcomes + new, _neutral(place, document.get("error"))
        follow_recipe(place)
        left = [cause for cause, severity in look.inside(place)["findings"] if severity == "error"]
        if not left or not any(outcome in ("verified", "unverified") for _, _, outcome, _ in new):
            break
    seconds = round(time.monotonic() - begun, 1)
    return {"exit": code, "outcomes": outcomes, "refused": refused, "left": left, "seconds": seconds}


def _neutral(place: Workspace, text: str | None) -> str | None:
    return record.neutral(place, text) if text else text


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
