"""Releases of LLaMA-Factory as the registry installs them today: do they train, does `check` know, does `fix` heal?

    python -m tests.stack.installs [RELEASE …] [--python 3.11] [--base 'current full zero2'] [--folder DIR]

Each release gets a new environment from `pip install llamafactory==RELEASE deepspeed`, nothing pinned, and the toy
recipe. `check` speaks first, then the recipe is trained; where that fails, `fix --apply --yes` and the training again.
An environment takes about 5 GB and is removed afterwards. Results: tests/stack/installs.json and docs/installs.md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from tests.faults import look, record
from tests.faults.heal import healed
from tests.faults.trainer import Run, Trainer
from tests.faults.workspace import BASES, Workspace
from tests.stack.environments import Environment

RELEASES = ("0.8.3", "0.9.0", "0.9.1", "0.9.2", "0.9.3", "0.9.4", "0.9.5")
SHOWN = ("torch", "deepspeed", "transformers", "accelerate", "trl", "numpy", "pyarrow", "gradio")
RECORD = Path(__file__).with_name("installs.json")
DOCUMENT = Path(__file__).parents[2] / "docs" / "installs.md"
INTRODUCTION = """\
# Fresh installs

Written by `python -m tests.stack.installs`: each release of LLaMA-Factory installed with
`pip install llamafactory==RELEASE deepspeed`, nothing pinned, on a machine without a GPU; then the toy recipe, one step,
full fine-tuning or LoRA, without DeepSpeed or under ZeRO-2. **trains** is what the run did as installed, **check** what
`check` named before it, **fix** what `fix --apply --yes` did, **then** what the same run did afterwards.
"""


def workspace(root: Path, environment: Environment, base: str) -> Workspace:
    """The toy recipe. Its model's merges are texts, as Qwen2.5 is published; tokenizers before 0.20 read no others."""
    place = Workspace(root, environment, BASES[base])
    path = place.model / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    merges = tokenizer["model"]["merges"]
    tokenizer["model"]["merges"] = [pair if isinstance(pair, str) else " ".join(pair) for pair in merges]
    path.write_text(json.dumps(tokenizer))
    return place


def train(trainer: Trainer, place: Workspace) -> tuple[bool, str | None]:
    """Whether the recipe trained, else the line that its log ends with."""
    run: Run = trainer.train(place, fresh=True)
    trained = run.code == 0 and place.trained()
    return trained, None if trained else record.how(record.neutral(place, run.log))


def examined(release: str, python: str, base: str, folder: Path, trainer: Trainer) -> dict[str, Any]:
    """One release from its installation to the run after `fix`."""
    environment = Environment(folder / "environment", f"llamafactory=={release}", "deepspeed", python=python)
    versions = dict(line.split("==") for line in environment.freeze() if "==" in line)
    place = workspace(folder / "workspace", environment, base)
    found = [cause for cause, severity in look.inside(place)["findings"] if severity == "error"]
    trained, error = train(trainer, place)
    row: dict[str, Any] = {
        "day": f"{datetime.date.today()}", "versions": {n: versions[n] for n in SHOWN if n in versions}, "check": found,
        "trained": trained, "error": error,
    }  # fmt: skip
    if not trained:
        place = workspace(folder / "workspace", environment, base)
        done = healed(place)
        row["fix"] = [[cause, fix, outcome] for cause, fix, outcome, _ in done["outcomes"]]
        row["left"] = done["left"]
        row["then"], row["then_error"] = train(trainer, place)
    return row


def table(rows: dict[str, dict[str, Any]]) -> str:
    """The document. A release that trained as installed needs no fix."""
    lines = [
        INTRODUCTION,
        "| release | day | installed | trains | check | fix | then |",
        "|---|---|---|---|---|---|---|",
    ]
    for release, row in sorted(rows.items()):
        installed = ", ".join(f"{name} {version}" for name, version in row["versions"].items())
        trains = "yes" if row["trained"] else f"no: `{row['error']}`"
        check = ", ".join(f"[{c}](causes/{_area(c)}/{c}.md)" for c in row["check"]) or "nothing"
        fixes = ", ".join(f"{fix} ({outcome})" for _, fix, outcome in row.get("fix", [])) or "—"
        then = "—" if "then" not in row else "trains" if row["then"] else f"fails: `{row['then_error']}`"
        lines.append(f"| {release} | {row['day']} | {installed} | {trains} | {check} | {fixes} | {then} |")
    named = sum(bool(row["trained"]) != bool(row["check"]) for row in rows.values())
    train_now = sum(bool(row["trained"] or row.get("then")) for row in rows.values())
    lines += ["", f"`check` was right about {named} of {len(rows)}; {train_now} of {len(rows)} train after `fix`.", ""]
    return "\n".join(lines)


def _area(cause: str) -> str:
    folder = Path(__file__).parents[2] / "docs" / "causes"
    return next(folder.glob(f"*/{cause}.md")).parent.name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("releases", nargs="*", default=RELEASES)
    parser.add_argument("--python", default="3.11", help="the version of Python (3.11)")
    parser.add_argument(
        "--base", choices=[name for name in BASES if name.startswith("current ")], default="current full"
    )
    parser.add_argument("--folder", type=Path, help="where the environments are made (default: a temporary folder)")
    given = parser.parse_args()
    rows = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    trainer = Trainer()
    try:
        for release in given.releases:
            if not re.fullmatch(r"[\w.]+", release):
                parser.error(f"{release!r} is no release")
            folder = Path(tempfile.mkdtemp(prefix="install-", dir=given.folder))
            try:
                row = examined(release, given.python, given.base, folder, trainer)
                rows[f"{release}, Python {given.python}, {given.base.removeprefix('current ')}"] = row
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            print(release, json.dumps(row), flush=True)
            RECORD.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n")
            DOCUMENT.write_text(table(rows))
    finally:
        trainer.close()


if __name__ == "__main__":
    main()
