"""Judgements of a recipe's keys and values, and of the packages that they ask for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from doctor.facts import Facts
from doctor.findings import Finding, found, in_recipe, key_of_recipe
from doctor.recipe import value_types
from doctor.recipe.looked_at import looked_at
from doctor.recipe.model_values import at_least
from doctor.recipe.refusals_judged import QUANTISERS, combinations_allowed, lacks
from knowledge_base.schema import Severity

_finding = partial(found, "arguments")

Rule = Callable[[Facts], Iterator[Finding]]


def keys_known(facts: Facts) -> Iterator[Finding]:
    release = facts.get("llamafactory.version", "in the target")
    for unknown in facts["arguments.unknown"]:
        key, renamed, near, newer = (unknown[n] for n in ("key", "renamed_to", "nearest", "needs_newer"))
        what = f'"{key}" is no argument of LLaMA-Factory {release}'
        details: dict[str, Any] = {"key": key}
        if renamed:
            what += f'; it is called "{renamed}" there'
            details["renamed_to"] = renamed
        elif newer:
            what += f"; it came with {newer}"
            details["needs_newer"] = newer
        elif near:
            what += f'; the nearest is "{near}"'
            details["nearest"] = near
        if near and "nearest" not in details:
            details["nearest"] = near
        if unknown["elsewhere"] and facts["arguments.subcommand"] != "train":
            details |= {"recipe": facts["recipe.path"]}
            yield _finding(
                "cfg-wrong-subcommand", f'"{key}" is an argument of `train` only', in_recipe(facts, key), **details
            )
        else:
            yield _finding("cfg-unknown-key", what, in_recipe(facts, key), **details)


# Broken numbers that only slice: what is short enough is left as it is.
_UNLESS = {
    "cutoff_len": "; the first record that is longer ends the run",
    "max_samples": "; it ends the run unless there are fewer records",
}


def _never_reached(facts: Facts, key: str) -> bool:
    """Whether max_samples is broken and above the number of records, all of which were counted."""
    given, scans = facts["recipe.values"].get(key), facts.get("records.scans", {}).values()
    if isinstance(given, str):
        given = value_types.number(given, facts.get("arguments.loader") == "OmegaConf")
    if key != "max_samples" or not isinstance(given, float) or not scans:
        return False
    return all(scan["complete"] and scan["read"] <= given for scan in scans)


# Switches of which hparams/finetuning_args.py adds up the numbers: text is none.
_ADDED_UP, _ADDED_SINCE = ("use_galore", "use_apollo", "use_badam"), "0.9.2"


def values_fit(facts: Facts) -> Iterator[Finding]:
    for misfit in facts["arguments.misfits"]:
        key, kind, meant = misfit["key"], misfit["kind"], misfit["meant"]
        where, what = in_recipe(facts, key), f"{key}: {misfit['text']}"
        details = key_of_recipe(facts, key)
        if kind == "choice":
            if (key, meant) == ("flash_attn", "fa2") and "flash-attn" not in facts.get("packages.versions", {}):
                meant = "sdpa"  # what was meant would not run here
            if key == "ddp_backend" and meant == "nccl" and facts.get("gpu.count") == 0:
                meant = "gloo"
            details |= {"nearest": meant} if meant is not None else {}
            # Written into the configuration as it is, and transformers knows it; the others need more than a factor.
            taken = (key, facts["recipe.values"][key]) == ("rope_scaling", "yarn")
            severity = None if looked_at(facts, key) and not taken else Severity.WARNING
            yield _finding("cfg-invalid-choice", what, where, severity, **details)
            continue
        details |= {"value_as_type" if misfit["sure"] else "probable_value": meant} if meant is not None else {}
        what += _UNLESS.get(key, "") if isinstance(facts["recipe.values"][key], float) else ""
        learning_rate = kind == "exponent" and key == "learning_rate"
        # Text counts as true wherever it is only asked whether: wrong where false is meant, and luck elsewhere.
        luck = "bool" in misfit["annotation"] and meant is not False and isinstance(facts["recipe.values"][key], str)
        given = facts["recipe.values"][key]
        # A list counts as true, whatever is in it.
        luck = luck or ("bool" in misfit["annotation"] and isinstance(given, list) and given[:1] not in ([], [False]))
        luck = luck and not (key in _ADDED_UP and at_least(str(facts.get("llamafactory.version")), _ADDED_SINCE))
        mild = (luck and "int" not in misfit["annotation"]) or _never_reached(facts, key) or not looked_at(facts, key)
        severity = Severity.WARNING if mild else None
        yield _finding("cfg-lr-string" if learning_rate else "cfg-bad-value-type", what, where, severity, **details)


# Counts of which none would be left, and what is usually meant; nothing on the way looks before it divides by them.
_AT_LEAST_ONE = {"gradient_accumulation_steps": 1, "per_device_train_batch_size": 1, "lora_rank": 8, "cutoff_len": 2048,
                 "preprocessing_num_workers": 1}  # fmt: skip


def counts_positive(facts: Facts) -> Iterator[Finding]:
    values = facts["recipe.values"]
    for key, meant in _AT_LEAST_ONE.items():
        given = values.get(key)
        if key == "lora_rank" and values.get("finetuning_type", "lora") != "lora":
            continue
        if isinstance(given, int) and not isinstance(given, bool) and given < 1:
            details = {**key_of_recipe(facts, key), "probable_value": meant}
            what = f"{key}: {given}; at least 1 is needed"
            # Divided by, a number below zero does not end the run; it makes other steps than were meant.
            survived = key == "gradient_accumulation_steps" and given < 0 and not values.get("deepspeed")
            severity = Severity.WARNING if survived else None
            yield _finding("cfg-bad-value-type", what, in_recipe(facts, key), severity, **details)


def something_thawed(facts: Facts) -> Iterator[Finding]:
    """finetuning_type freeze with no layer to train, or with modules that the layers do not have."""
    values = facts["recipe.values"]
    if values.get("finetuning_type") != "freeze" or not values.get("do_train"):
        return
    if values.get("freeze_trainable_layers") == 0:
        what = "freeze_trainable_layers: 0 leaves nothing to train"
        details: dict[str, Any] = {"key": "freeze_trainable_layers", "probable_value": 2}
        details |= {"line": facts.get("recipe.lines", {}).get("freeze_trainable_layers", 1)}
        details |= {"recipe": facts["recipe.path"]}
        yield _finding("cfg-bad-value-type", what, in_recipe(facts, "freeze_trainable_layers"), **details)
    given = values.get("freeze_trainable_modules", "all")
    named = [name.strip() for name in given.split(",")] if isinstance(given, str) else []
    there = facts["model.weights"]["parts"]
    unknown = [name for name in named if name != "all" and name not in there]
    if there and unknown:
        what = f"freeze_trainable_modules: {', '.join(unknown)} is no part of a layer; there are {', '.join(there)}"
        details = {"key": "freeze_trainable_modules", "parts": ",".join(there), "freeze_modules": True}
        yield _finding("peft-target-modules-missing", what, in_recipe(facts, "freeze_trainable_modules"), **details)


# Schedulers that cannot be made without lr_scheduler_kwargs (transformers/optimization.py): what is needed, what is usual.
_SCHEDULERS = {
    "cosine_with_min_lr": (("min_lr", "min_lr_rate"), '{"min_lr_rate": 0.1}'),
    "cosine_warmup_with_min_lr": (("min_lr", "min_lr_rate"), '{"min_lr_rate": 0.1}'),
    "warmup_stable_decay": (("num_decay_steps",), None),
}


def scheduler_arguments(facts: Facts) -> Iterator[Finding]:
    kind = facts["recipe.values"].get("lr_scheduler_type")
    needed, usual = _SCHEDULERS.get(str(kind), ((), None))
    given = facts["recipe.values"].get("lr_scheduler_kwargs") or {}
    if not isinstance(given, (Mapping, str)):
        return  # what cannot be unpacked is said by itself
    if needed and not any(name in given for name in needed):  # a mapping, or the text of one
        what = f"lr_scheduler_type: {kind} needs {' or '.join(needed)} in lr_scheduler_kwargs"
        details: dict[str, Any] = {"key": "lr_scheduler_kwargs"} | ({"scheduler_arguments": usual} if usual else {})
        yield _finding("cfg-missing-argument", what, in_recipe(facts, "lr_scheduler_type"), **details)


def arguments_given(facts: Facts) -> Iterator[Finding]:
    for key in facts["arguments.missing"]:
        details = {"key": key, f"{key}_missing": True}
        if key == "output_dir":
            model = str(facts["recipe.values"].get("model_name_or_path", "model")).rstrip("/").rpartition("/")[2]
            details["output_dir_suggestion"] = f"saves/{model}/{facts['recipe.values'].get('finetuning_type', 'lora')}"
        yield _finding(
            "cfg-missing-argument", f'"{key}" has no default and is not given', facts["recipe.path"], **details
        )


_CAUSE_OF_PACKAGE = {"unsloth": "attn-unsloth", "swanlab": "log-swanlab-not-installed", "deepspeed": "ds-not-installed"}


def packages_present(facts: Facts) -> Iterator[Finding]:
    """Packages that the release asks for because of a key: liger-kernel, galore_torch, jieba …"""
    installed = facts["packages.versions"]
    for need in facts["arguments.requirements"]:
        try:
            wanted = Requirement(need["requirement"])
        except InvalidRequirement:
            continue  # a message, not a requirement
        name = canonicalize_name(wanted.name)
        version = installed.get(name)
        if version is not None and wanted.specifier.contains(version, prereleases=True):
            continue
        keys = [key for key in need["keys"] if key in facts["recipe.values"]]
        if not keys:
            continue
        what = f"{need['requirement']} is needed for {', '.join(keys)}; " + (
            f"{version} is installed" if version else "it is not installed"
        )
        details = {"distribution": str(wanted), "key": keys[0], "use_unsloth": name == "unsloth"}
        details |= {"liger_missing": lacks(facts, "liger-kernel")} if name == "unsloth" else {}
        yield _finding(_CAUSE_OF_PACKAGE.get(name, "pkg-missing"), what, in_recipe(facts, keys[0]), **details)


# quantization_method (releases write "bnb" or "bitsandbytes") -> the package that quantises while loading.


def quantiser_there(facts: Facts) -> Iterator[Finding]:
    """bitsandbytes and its like are asked for after the model's configuration is read, or when the optimizer is made."""
    values, installed = facts["recipe.values"], facts["packages.versions"]
    optim = str(values.get("optim", ""))
    method = str(values.get("quantization_method", "bnb"))
    needs = []
    if values.get("quantization_bit") and values.get("finetuning_type", "lora") not in ("full", "freeze"):
        needs.append(("quantization_bit", QUANTISERS.get(method, "")))
    of_torchao = optim.startswith("adamw_torch_")
    if not of_torchao and re.search(r"bnb|8bit|^paged_|^ademamix|^lion_32bit", optim):
        needs.append(("optim", "bitsandbytes"))
    for key, package in needs:
        if package and package not in installed:
            what = f"{key}: {values[key]} needs {package}, which is not installed"
            details: dict[str, Any] = {"quantization_bit": package == "bitsandbytes", "package": package, "key": key}
            yield _finding("quant-backend-missing", what, in_recipe(facts, key), **details)


def unsloth_with_one_gpu(facts: Facts) -> Iterator[Finding]:
    if facts["recipe.values"].get("use_unsloth") is True and (facts.get("launch.world_size") or 1) > 1:
        what = f"use_unsloth with {facts['launch.world_size']} processes; unsloth trains on one GPU"
        zero = (facts.get("deepspeed.config") or {}).get("zero_optimization")
        zero3 = isinstance(zero, Mapping) and zero.get("stage") == 3
        without_liger = lacks(facts, "liger-kernel")
        yield _finding("attn-unsloth", what, in_recipe(facts, "use_unsloth"), zero3=zero3, liger_missing=without_liger)


def repeated_keys(facts: Facts) -> Iterator[Finding]:
    strict = facts["arguments.loader"] == "OmegaConf"
    for key, line in facts["recipe.repeated"].items():
        outcome = "the recipe is refused" if strict else "the last one counts"
        what = f'"{key}" is given twice; {outcome}'
        details = {"key": key, "line": line, "recipe": facts["recipe.path"]}
        severity = None if strict else Severity.WARNING
        yield _finding("cfg-duplicate-key", what, f"{facts['recipe.path']}:{line}", severity, **details)


def file_suffix(facts: Facts) -> Iterator[Finding]:
    path = facts["recipe.path"]
    if not path.endswith((".yaml", ".yml", ".json")):
        what = f"{path} is read as a recipe only when its name ends in .yaml, .yml or .json"
        yield _finding("cfg-file-suffix", what, path, recipe=path)


def json_is_read(facts: Facts) -> Iterator[Finding]:
    if facts.get("arguments.json_broken"):
        path, release = facts["recipe.path"], facts.get("llamafactory.version", "in the target")
        what = f"{path} is JSON, for which LLaMA-Factory {release} gives json.load a path instead of an open file"
        yield _finding("cfg-json-config-broken", what, path, recipe=path)


def trains(facts: Facts) -> Iterator[Finding]:
    """A recipe of another subcommand is worth knowing when it is looked at, and an error when it is to be trained."""
    command, values = facts["arguments.subcommand"], facts["recipe.values"]
    if command in ("export", "eval", "chat"):
        if any(unknown["elsewhere"] for unknown in facts["arguments.unknown"]):
            return  # it holds keys of both: cfg-wrong-subcommand
        severity = Severity.ERROR if facts["recipe.launches"] else Severity.INFO
        details = {"why_not": f"it is one of `{command}`", "subcommand": command, "recipe": facts["recipe.path"]}
        what = f"it is a recipe of `llamafactory-cli {command}`, not of `train`"
        yield _finding("cfg-does-not-train", what, facts["recipe.path"], severity, **details)
    elif command == "train" and not any(values.get(key) for key in ("do_train", "do_eval", "do_predict")):
        details = {"why_not": "do_train is not set", "only_do_train_missing": True}
        what = "neither do_train nor do_eval nor do_predict is true: the run would load the model and end"
        yield _finding("cfg-does-not-train", what, in_recipe(facts, "do_train"), **details)


JUDGEMENTS: tuple[Rule, ...] = (
    trains, keys_known, values_fit, counts_positive, something_thawed, scheduler_arguments, arguments_given,
    quantiser_there, combinations_allowed, packages_present,
    unsloth_with_one_gpu, repeated_keys, file_suffix, json_is_read,
)  # fmt: skip
