"""What the watch needs to know of a run beforehand: where it saves, how often, how much, on how many ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from doctor.facts import Facts, UnknownFact

# Defaults of transformers' TrainingArguments.
_SAVE_STEPS, _SAVE_STRATEGY = 500, "steps"


class Settings(msgspec.Struct):
    """`output`: absolute; `save_steps`: None where saves are not counted in steps; `checkpoint_bytes`: an estimate until
    the first checkpoint is measured; `world_size`: None where nobody told; `local_ranks`: processes of this machine."""

    output: Path | None = None
    save_steps: int | None = None
    checkpoint_bytes: int | None = None
    world_size: int | None = None
    local_ranks: int = 1
    overwrite_output: bool = False
    resume_from: str | None = None
    saves_on_sigterm: bool = False  # transformers' enable_jit_checkpoint


def from_facts(facts: Facts, workdir: Path) -> Settings:
    """Read the recipe's facts; what is unknown stays None."""
    values: dict[str, Any] = dict(facts.get("recipe.values") or {})
    output = values.get("output_dir")
    strategy = str(values.get("save_strategy", _SAVE_STRATEGY))
    steps = values.get("save_steps", _SAVE_STEPS)
    resume = values.get("resume_from_checkpoint")
    return Settings(
        output=(workdir / str(output)).absolute() if output else None,
        save_steps=int(steps) if strategy == "steps" and isinstance(steps, (int, float)) and steps >= 1 else None,
        checkpoint_bytes=_estimated(facts) if strategy != "no" else None,
        world_size=max(1, int(facts.get("launch.world_size") or 1)),
        local_ranks=max(1, int(facts.get("launch.nproc") or 1)),
        overwrite_output=bool(values.get("overwrite_output_dir")),
        resume_from=str((workdir / str(resume)).absolute()) if resume else None,
        saves_on_sigterm=values.get("enable_jit_checkpoint") is True,
    )


def _estimated(facts: Facts) -> int | None:
    from doctor.estimate import from_facts

    try:
        return from_facts.of(facts, with_changes=False).checkpoint_bytes or None
    except UnknownFact:
        return None
