"""The record of one run: the recipe as used, the command, the facts, the log, the findings.

    <workdir>/.skyt1-doctor/runs/<time>/{recipe.yaml, command.json, facts.json, train.log, metrics.jsonl, events.jsonl,
    rehearsal.json, findings.json}, and recipe-N.yaml of the N-th attempt where a run was resumed

Nothing in it holds a secret. Its path is given to the launcher relative to the working directory, because
llamafactory-cli splits its command at spaces and a path with one would fall apart.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from doctor import redact
from doctor.errors import BadInput
from doctor.recipe import yaml_recipe
from doctor.target import Target
from fixes.edit import yaml_text
from fixes.errors import CannotEdit

RUNS = Path(".skyt1-doctor") / "runs"


class RunDirectory(msgspec.Struct, frozen=True):
    """Where one run is recorded. `path` is absolute, `relative` is what the launcher is given."""

    path: Path
    workdir: Path

    @property
    def relative(self) -> Path:
        return self.path.relative_to(self.workdir)

    @property
    def log(self) -> Path:
        return self.path / "train.log"

    def write_json(self, name: str, value: Any) -> None:
        text = json.dumps(redact.document(value), ensure_ascii=False, indent=1)
        (self.path / name).write_text(text + "\n", encoding="utf-8")


def create(workdir: Path) -> RunDirectory:
    """A new run directory named by the time. Raises BadInput where it cannot be made."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for attempt in range(100):
        path = workdir / RUNS / (stamp if attempt == 0 else f"{stamp}-{attempt}")
        try:
            path.mkdir(parents=True)
            return RunDirectory(path, workdir)
        except FileExistsError:
            continue
        except OSError as error:
            where = workdir / RUNS
            raise BadInput(f"No run directory can be made in {where} ({error.strerror}); make it writable.") from None
    raise BadInput(f"No run directory can be made in {workdir / RUNS}; clear old runs there.")


def effective_recipe(
    target: Target, run: RunDirectory, name: str = "recipe.yaml", more: Mapping[str, Any] | None = None
) -> Path:
    """Write the recipe with the overrides merged in and return the path for the launcher, relative to the workdir.

    Older releases take no overrides on the command line, so they are merged here, and `more` values over them. A recipe
    that holds a secret is recorded masked; the launcher then gets a private copy outside the record, which
    `remove_private` takes away.
    """
    data = target.recipe.read_bytes()
    values = {**yaml_recipe.parse_overrides(target.overrides), **(more or {})}
    if values:
        try:
            data = yaml_text.set_values(data, values, target.shown(target.recipe))
        except CannotEdit as error:
            raise BadInput(str(error)) from None
    text = data.decode("utf-8-sig")
    masked = redact.text(text)
    (run.path / name).write_text(masked, encoding="utf-8")
    if masked == text:
        return run.relative / name
    handle, private = tempfile.mkstemp(prefix="skyt1-doctor-", suffix=".yaml")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    return Path(private)


def remove_private(recipe: Path) -> None:
    """Remove the private copy of a recipe with secrets; the record's own copy stays."""
    if recipe.is_absolute():
        recipe.unlink(missing_ok=True)
