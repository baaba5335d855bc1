"""Models beside the one that is trained: the reward model of PPO and the reference model of DPO and KTO."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from doctor.facts import Facts
from doctor.findings import Finding, found, in_recipe
from doctor.recipe.values_judged import names
from knowledge_base.schema import Severity

_finding = partial(found, "arguments")

_OF_STAGE = {"ppo": ("reward_model", "reward_model_adapters"), "dpo": ("ref_model", "ref_model_adapters"),
             "kto": ("ref_model", "ref_model_adapters")}  # fmt: skip
# Written by stage rm beside the adapter or the model (model/model_utils/valuehead.py).
_VALUE_HEADS = ("value_head.safetensors", "value_head.bin")


def companions(values: Mapping[str, Any], workdir: Path) -> dict[str, dict[str, Any]]:
    """Those that are meant as folders here and cannot be used as what they are: {key: {"name", "lacks", "adapter"}}, or
    "no_value_head" in the place of "lacks"."""
    from doctor.probes.model import looks_like_path

    kind = values.get("reward_model_type", "lora")
    told: dict[str, dict[str, Any]] = {}
    for key in _OF_STAGE.get(str(values.get("stage")), ()):
        for name in names(values.get(key)):
            if key == "reward_model" and kind == "api":
                continue
            adapter = key.endswith("_adapters") or (key == "reward_model" and kind == "lora")
            folder, needed = workdir / name, "adapter_config.json" if adapter else "config.json"
            about: dict[str, Any] = {"name": name, "adapter": adapter}
            if not os.path.isdir(folder):
                if looks_like_path(name, workdir):
                    told[key] = {**about, "lacks": "does not exist"}
            elif not os.path.isfile(folder / needed):
                told[key] = {**about, "lacks": f"has no {needed}"}
            elif key == "reward_model" and not any(os.path.isfile(folder / head) for head in _VALUE_HEADS):
                told[key] = {**about, "no_value_head": True}
    return told


def companions_there(facts: Facts) -> Iterator[Finding]:
    for key, told in (facts.get("arguments.companions") or {}).items():
        if "lacks" in told:
            cause = "peft-adapter-path-wrong" if told["adapter"] else "model-path-not-found"
            details: dict[str, Any] = {"key": key, "path": told["name"], "adapter_path": told["name"]}
            yield _finding(cause, f"{key}: {told['name']} {told['lacks']}", in_recipe(facts, key), **details)


def reward_has_value_head(facts: Facts) -> Iterator[Finding]:
    """An adapter without one is refused; a whole model gets a new one, and PPO learns from rewards at random."""
    for key, told in (facts.get("arguments.companions") or {}).items():
        if told.get("no_value_head"):
            what = f"{key}: {told['name']} has no {' or '.join(_VALUE_HEADS)}, which stage rm writes"
            what += "" if told["adapter"] else "; the rewards would come from random weights"
            severity = None if told["adapter"] else Severity.WARNING
            yield _finding("train-reward-model-not-loaded", what, in_recipe(facts, key), severity, path=told["name"])


ALL = (companions_there, reward_has_value_head)
