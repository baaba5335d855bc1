"""For which subcommand of llamafactory-cli a recipe is written, and which other programs read files of this look."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TRAIN, EXPORT, EVAL, CHAT, OTHER = "train", "export", "eval", "chat", "other"

_TRAIN_KEYS = ("do_train", "do_eval", "do_predict", "output_dir", "learning_rate", "num_train_epochs", "max_steps",
               "per_device_train_batch_size", "gradient_accumulation_steps")  # fmt: skip
_ENABLED = ("true", "y", "1")
# Keys that only the arguments of the new launcher (USE_V1=1) have.
_NEW_KEYS = {"model", "model_class", "init_config", "peft_config", "kernel_config", "quant_config", "train_dataset",
             "micro_batch_size", "global_batch_size", "batching_strategy", "dist_config", "optim_config",
             "lr_scheduler_config", "sample_backend"}  # fmt: skip


def subcommand(values: Mapping[str, Any]) -> str:
    """train, export, eval, chat (all of chat, webchat and api), or other: no recipe of LLaMA-Factory."""
    if "model_name_or_path" not in values and {"compute_environment", "distributed_type"} & values.keys():
        return OTHER  # a configuration of accelerate
    if any(key in values for key in _TRAIN_KEYS):
        return TRAIN
    if "export_dir" in values:
        return EXPORT
    if "task" in values and "model_name_or_path" in values:
        return EVAL
    if "infer_backend" in values or {"model_name_or_path", "template"} <= values.keys():
        return CHAT
    return TRAIN


def written_for_new_launcher(values: Mapping[str, Any]) -> bool:
    """Two keys, because one may be a slip in a recipe of the usual launcher."""
    return "model_name_or_path" not in values and len(values.keys() & _NEW_KEYS) > 1


def asks_for_new_launcher(environ: Mapping[str, str]) -> bool:
    """Releases that have no new launcher take no notice of it."""
    return environ.get("USE_V1", "0").lower() in _ENABLED


def asks_for_megatron(environ: Mapping[str, str]) -> bool:
    return environ.get("USE_MCA", "0").lower() in _ENABLED


def other_program(environ: Mapping[str, str]) -> str | None:
    """Why the usual argument classes are not those that will parse the recipe; None when they are."""
    if asks_for_megatron(environ):
        return "USE_MCA=1 hands the recipe to the arguments of mcore_adapter"
    if asks_for_new_launcher(environ):
        return "USE_V1=1 starts LLaMA-Factory's new launcher, which has arguments of its own"
    return None
