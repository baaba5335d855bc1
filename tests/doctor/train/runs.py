"""Runs of the fake trainer for tests: a target whose llamafactory-cli it is, and a session over it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from doctor.facts import Facts
from doctor.target import Target
from doctor.train import run_directory
from doctor.train.session import Session
from doctor.train.view import PlainView
from tests.support.targets import make_target

TRAINER = Path(__file__).parent / "fake_trainer.py"
RECIPE = {"steps": 12, "step_seconds": 0.02, "save_steps": 4}


def make(root: Path, **recipe: Any) -> Target:
    """A target whose `llamafactory-cli train` is the fake trainer; its output lies in `work/saves/toy`."""
    values = {"output_dir": str(root / "work" / "saves" / "toy"), **RECIPE, **recipe}
    target = make_target(root, "".join(f"{key}: {json.dumps(value)}\n" for key, value in values.items()))
    target.scripts.mkdir(parents=True, exist_ok=True)
    cli = target.scripts / "llamafactory-cli"
    cli.write_text(f"#!{sys.executable}\nimport runpy, sys\nrunpy.run_path({str(TRAINER)!r}, run_name='__main__')\n")
    cli.chmod(0o755)
    return target


def again(root: Path) -> Target:
    """The target that `make` left under `root`."""
    return make_target(root, (root / "work" / "recipe.yaml").read_text())


def facts(target: Target) -> Facts:
    values = dict(line.split(": ", 1) for line in target.recipe.read_text().splitlines())
    read = {key: json.loads(value) for key, value in values.items()}
    return Facts({"recipe.values": read, "launch.world_size": 2, "launch.nproc": 2})


def session(target: Target, **options: Any) -> Session:
    return Session(target, facts(target), run_directory.create(target.workdir), PlainView("en", echo=False), **options)


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    path = folder / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def kinds(folder: Path) -> list[str]:
    return [row["kind"] for row in rows(folder, "events")]
