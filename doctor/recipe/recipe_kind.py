"""For which subcommand of llamafactory-cli a recipe is written, and which other programs read files of this look."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TRAIN, EXPORT, EVAL, CHAT, OTHER = "train", "export", "eval", "chat", "other"

_TRAIN_KEYS = ("do_train", "do_eval", "do_predict", "output_dir", "learning_rate", "num_train_epochs", "max_steps",
               "per_device_train_batch_size", "gradient_accumulation_steps")  # fmt: skip
_ENABLED = ("true", "y", "1")


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


def other_program(environ: Mapping[str, str]) -> str | None:
    """Why the argument classes read here are not those that will parse the recipe; None when they are."""
    if environ.get("USE_MCA", "0").lower() in _ENABLED:
        return "USE_MCA=1 hands the recipe to the arguments of mcore_adapter"
    if environ.get("USE_V1", "0").lower() in _ENABLED:
        return "USE_V1=1 starts LLaMA-Factory's new launcher, which has arguments of its own"
    return None
