"""How long a run takes and what it costs, from a measured step. Pure.

There is no model of throughput here: what a step takes depends on kernels, the network and the host in ways that the
formulas of FLOPs miss by factors. A step that was measured, by a run of the same recipe or by the user, is multiplied.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from doctor.estimate import states

# Keys that change neither what a step computes nor on what.
_SAME_STEP = {
    "output_dir", "logging_steps", "save_steps", "save_strategy", "save_total_limit", "save_only_model", "eval_steps",
    "eval_strategy", "evaluation_strategy", "do_eval", "eval_dataset", "val_size", "plot_loss", "report_to", "run_name",
    "num_train_epochs", "max_steps", "max_samples", "learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs",
    "warmup_ratio", "warmup_steps", "weight_decay", "seed", "data_seed", "ddp_timeout", "overwrite_cache",
    "overwrite_output_dir", "preprocessing_num_workers", "resume_from_checkpoint", "logging_dir", "max_grad_norm",
}  # fmt: skip
_SAME_LENGTH = _SAME_STEP - {
    "num_train_epochs", "max_steps", "max_samples", "val_size", "resume_from_checkpoint", "eval_dataset"
}  # fmt: skip


class Step(msgspec.Struct, frozen=True):
    """A measured step: its seconds, who measured it, and the steps of that whole run where they hold for this one."""

    seconds: float
    source: str
    total: int | None = None


class Duration(msgspec.Struct, frozen=True):
    """A run: optimizer steps, samples, tokens at most (every sample as long as the cutoff), seconds, GPU hours, cost in
    the currency of the price. None: not known, because the steps are not."""

    step_seconds: float
    measured_by: str
    steps: int | None = None
    samples: int | None = None
    tokens_at_most: int | None = None
    seconds: float | None = None
    gpu_hours: float | None = None
    cost: float | None = None


def duration(
    recipe: Mapping[str, Any], step: Step, records: int | None, ranks: int, gpu_hour: float | None = None
) -> Duration:
    """`records`: samples of the data, None where they were not counted. `ranks`: GPUs of all nodes."""
    steps = step.total or states.steps_of(recipe, _trained(recipe, records), ranks)
    if steps is None:
        return Duration(step.seconds, step.source)
    samples = (
        steps
        * ranks
        * _count(recipe, "per_device_train_batch_size", 8)
        * _count(recipe, "gradient_accumulation_steps", 1)
    )
    cutoff = recipe.get("cutoff_len")
    hours = steps * step.seconds * ranks / 3600
    return Duration(
        step_seconds=step.seconds,
        measured_by=step.source,
        steps=steps,
        samples=samples,
        tokens_at_most=samples * cutoff if isinstance(cutoff, int) else None,
        seconds=steps * step.seconds,
        gpu_hours=hours,
        cost=hours * gpu_hour if gpu_hour is not None else None,
    )


def same_step(mine: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether a step of both recipes computes the same."""
    return _without(mine, _SAME_STEP) == _without(other, _SAME_STEP)


def same_length(mine: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether both recipes also take as many steps."""
    return _without(mine, _SAME_LENGTH) == _without(other, _SAME_LENGTH)


def _without(values: Mapping[str, Any], keys: set[str]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in keys}


def _trained(recipe: Mapping[str, Any], records: int | None) -> int | None:
    """The records that are trained on; None where packing makes fewer samples of them, how many is not known."""
    if records is None or recipe.get("packing") or recipe.get("neat_packing"):
        return None
    held = recipe.get("val_size", 0)
    if not isinstance(held, (int, float)) or held <= 0:
        return records
    return max(1, records - int(held if held >= 1 else held * records))


def _count(recipe: Mapping[str, Any], key: str, default: int) -> int:
    value = recipe.get(key, default)
    return value if isinstance(value, int) and value > 0 else default
