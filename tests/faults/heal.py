"""The pass `heal`: `skyt1-doctor fix --apply --yes`, then check again; training comes afterwards."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.faults.fault import Fault
from tests.faults.look import BUDGET
from tests.faults.workspace import Workspace


def heal(fault: Fault, place: Workspace) -> dict[str, Any]:
    """Applies every fix that check offers. {"exit", "outcomes": [[cause, fix, outcome, reason]], "seconds"}."""
    given = [text.format(model=place.model, data=place.data, root=place.root.parent) for text in fault.arguments]
    program = str(Path(sys.executable).parent / "skyt1-doctor")
    argv = [program, "fix", str(place.recipe.relative_to(place.root)), "--apply", "--yes", "--format", "json", *given]
    begun = time.monotonic()
    done = subprocess.run(
        [*argv, "--budget", str(BUDGET)], cwd=place.root, env=place.shell(), capture_output=True, check=False
    )
    document = json.loads(done.stdout) if done.stdout.strip() else {}
    outcomes = [[o["cause"], o["fix"], o["outcome"], o["reason"]] for o in document.get("outcomes", [])]
    follow_recipe(place)
    return {
        "exit": done.returncode,
        "outcomes": outcomes,
        "refused": document.get("error"),
        "seconds": round(time.monotonic() - begun, 1),
    }


def follow_recipe(place: Workspace) -> None:
    """A fix may have copied the recipe to a name that LLaMA-Factory reads."""
    if place.recipe.suffix not in (".yaml", ".yml", ".json") or not place.recipe.exists():
        place.recipe = max(place.recipe.parent.glob("*.yaml"), default=place.recipe, key=lambda p: p.stat().st_mtime)
