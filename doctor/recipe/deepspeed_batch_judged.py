"""The batch, and the other numbers that a DeepSpeed JSON and the recipe both set: they must agree, or be "auto"."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from doctor.facts import Facts
from doctor.findings import Finding, found

_found = partial(found, "deepspeed")


def accumulation(facts: Facts) -> int:
    value = facts["recipe.values"].get("gradient_accumulation_steps", 1)
    return value if isinstance(value, int) else 1


def batch_arithmetic(facts: Facts) -> Iterator[Finding]:
    """train_batch_size must be micro batch × accumulation × world size; "auto" leaves it to the Trainer."""
    config = facts["deepspeed.config"]
    if config is None:
        return
    names = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps")
    total, micro, steps = (config.get(name) for name in names)
    if all(isinstance(number, int) for number in (total, micro, steps)):
        expected = micro * steps * facts["launch.world_size"]
        if total != expected:
            what = f"train_batch_size {total} is not {micro} × {steps} × {facts['launch.world_size']} = {expected}"
            yield _found(
                "ds-batch-size-mismatch", what, facts["deepspeed.config_path"], file=facts["deepspeed.config_path"]
            )


def batch_given(facts: Facts) -> Iterator[Finding]:
    """The Trainer fills in what the JSON asks for with "auto", no more, and DeepSpeed wants one of the two; its elastic
    training chooses them itself."""
    config, names = facts["deepspeed.config"], ("train_batch_size", "train_micro_batch_size_per_gpu")
    if config is None or config.get("elasticity") or any(config.get(name) is not None for name in names):
        return
    path = facts["deepspeed.config_path"]
    yield _found("ds-batch-size-mismatch", f"neither {names[0]} nor {names[1]} is in it", path, file=path)


def total_disagrees_with_recipe(facts: Facts) -> Iterator[Finding]:
    """A fixed train_batch_size beside "auto" parts is compared with the recipe's micro batch × accumulation × processes."""
    config, values = facts["deepspeed.config"], facts["recipe.values"]
    if config is None or not isinstance(config.get("train_batch_size"), (int, float)):
        return  # a fraction, or NaN, which JSON of Python has
    if all(
        isinstance(config.get(key), int) for key in ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps")
    ):
        return  # batch_arithmetic says it
    micro, steps = values.get("per_device_train_batch_size", 8), accumulation(facts)
    total, expected = config["train_batch_size"], micro * steps * facts["launch.world_size"]
    if total != expected:
        what = (
            f"train_batch_size is {total} in the JSON and {micro} × {steps} × {facts['launch.world_size']} = "
            f"{expected} by the recipe"
        )
        path = facts["deepspeed.config_path"]
        yield _found("ds-config-hf-mismatch", what, path, ds_config=path, auto_values={"train_batch_size": "auto"})


def disagrees_with_recipe(facts: Facts) -> Iterator[Finding]:
    """A number in the JSON that the Trainer also sets must be equal or "auto" (transformers' HfTrainerDeepSpeedConfig)."""
    config, values = facts["deepspeed.config"], facts["recipe.values"]
    if config is None:
        return
    for in_json, key, default in _SET_BY_BOTH:
        written: Any = config
        for part in in_json.split("."):
            written = written.get(part) if isinstance(written, dict) else None
        wanted = values.get(key, default)
        if written is None or written == "auto" or isinstance(wanted, str) or _same(written, wanted):
            continue
        what = f"{in_json} is {written!r} in the JSON and {key} is {wanted!r} in the recipe"
        details: dict[str, Any] = {"ds_config": facts["deepspeed.config_path"], "auto_values": {in_json: "auto"}}
        yield _found("ds-config-hf-mismatch", what, facts["deepspeed.config_path"], **details)


# JSON path, recipe key, the Trainer's default (https://huggingface.co/docs/transformers/deepspeed, "auto" values).
_SET_BY_BOTH: tuple[tuple[str, str, Any], ...] = (
    ("train_micro_batch_size_per_gpu", "per_device_train_batch_size", 8),
    ("gradient_accumulation_steps", "gradient_accumulation_steps", 1),
    ("gradient_clipping", "max_grad_norm", 1.0),
    ("optimizer.params.lr", "learning_rate", 5e-5),
    ("scheduler.params.warmup_max_lr", "learning_rate", 5e-5),
    ("bf16.enabled", "bf16", False),
    ("fp16.enabled", "fp16", False),
)  # fmt: skip


def _same(written: Any, wanted: Any) -> bool:
    if isinstance(written, str):
        return False  # "8" in quotes is not 8 there
    return written == wanted or (isinstance(written, float) and abs(written - wanted) < 1e-12)


ALL = (batch_arithmetic, batch_given, total_disagrees_with_recipe, disagrees_with_recipe)
