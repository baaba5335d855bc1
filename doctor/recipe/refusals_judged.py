"""Judgements of what the release's own checks refuse: the cause behind each message, and the setting to take away."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from doctor.facts import Facts
from doctor.findings import Evidence, Finding, in_recipe

SOURCE = "probe:arguments"
QUANTISERS = {"bnb": "bitsandbytes", "bitsandbytes": "bitsandbytes", "hqq": "hqq", "eetq": "eetq"}


def combinations_allowed(facts: Facts) -> Iterator[Finding]:
    """What the release's own checks refuse: each with the file and line of the check."""
    given = facts["recipe.values"]
    # A text or a list in the place of true or false counts as true where it is asked for.
    misfit = {m["key"] for m in facts["arguments.misfits"] if "bool" not in m["annotation"] or "int" in m["annotation"]}
    for refusal in _refusals(facts):
        keys = [key for key in refusal["keys"] if key in given]
        if set(refusal["keys"]) & misfit or refusal["error"] == "TypeError":
            continue  # the value itself is at fault, and values_fit says so
        cause, details = _cause_of(refusal["message"], facts, keys)
        evidence = [Evidence(refusal["message"], f"{refusal['file']}:{refusal['line']}")]
        evidence += [Evidence(f"{key}: {given[key]}", in_recipe(facts, key)) for key in keys[:4]]
        details |= {} if "key" in details else one_of(keys)
        yield Finding(cause, tuple(evidence), source=SOURCE, details=details)


# What a run is: of two settings that exclude each other, these are not the one to take away.
_THE_RUN = ("stage", "finetuning_type", "do_train", "model_name_or_path", "dataset", "template")


def one_of(keys: list[str]) -> dict[str, str]:
    """`key`: the setting to take away; `other_key`: the one that stays."""
    freely = [key for key in keys if key not in _THE_RUN]
    if not freely:
        return {}
    others = [key for key in keys if key != freely[-1]]
    return {"key": freely[-1]} | ({"other_key": others[0]} if others else {})


def _refusals(facts: Facts) -> list[Mapping[str, Any]]:
    """Of the two ways to launch, the one that will be used; what both refuse when that is not known."""
    both = facts["arguments.refusals"]
    asked = "FORCE_TORCHRUN" in facts.get("launch.environ", {})
    forced = facts.get("launch.force_torchrun")
    several = (facts.get("launch.world_size") or 0) > 1 or (facts.get("gpu.count") or 0) > 1
    if several or (forced and (asked or facts["recipe.values"].get("deepspeed"))):
        return list(both["distributed"])
    if forced is False and facts.known("gpu.count"):
        return list(both["single"])
    return [refusal for refusal in both["distributed"] if refusal in both["single"]]


# What a refusal says -> the cause it belongs to. The first match counts; anything else is a conflict of arguments.
_CAUSES = (
    (r"`val_size` if `eval_dataset`", "cfg-conflicting-args"),
    (r"dataset for evaluation|eval_dataset be provided|requires an eval strategy", "cfg-eval-without-val"),
    (r"`max_steps` in streaming|integer val size|incompatible with `streaming`", "cfg-streaming-args"),
    (r"load_best_model_at_end requires", "cfg-best-model-strategy"),
    (r"At most one of fp16 and bf16", "cfg-bf16-fp16-conflict"),
    (r"which `template` to use", "tmpl-missing"),
    (r"Please specify dataset|Please provide `model_name_or_path`|is necessary for", "cfg-missing-argument"),
    (r"requires? Accelerate", "pkg-accelerate-mismatch"),
    (r"FORCE_TORCHRUN|launch distributed training", "launch-torchrun-missing"),
    (r"[Uu]nsloth", "attn-unsloth"),
    (r"Quantization is only compatible", "quant-no-adapter"),
    (r"Quantization dataset is necessary", "cfg-missing-argument"),
    (r"quantized model|[Qq]uantiz", "quant-unsupported-combo"),
    (r"predict_with_generate` is incompatible with DeepSpeed ZeRO-3", "eval-generate-zero3"),
    (r"ZeRO-3|DeepSpeed", "ds-zero3-unsupported"),
    (r"Adapter is only valid", "peft-adapter-path-wrong"),
    (r"is not a valid \w+", "cfg-invalid-choice"),
    (r"is not iterable", "cfg-bad-value-type"),
    (r"must be an integer|must be of type int|must lie in range|must be an integer or a float", "cfg-bad-value-type"),
)


def _cause_of(message: str, facts: Facts, keys: list[str]) -> tuple[str, dict[str, Any]]:
    cause = next((c for pattern, c in _CAUSES if re.search(pattern, message)), "cfg-conflicting-args")
    given = facts["recipe.values"]
    details: dict[str, Any] = {}
    if cause == "cfg-conflicting-args" and {"val_size", "eval_dataset"} <= set(keys):
        details = {"key": "val_size", "eval_dataset": given.get("eval_dataset")}
    elif cause == "cfg-eval-without-val":
        details = {
            "load_best_model": bool(given.get("load_best_model_at_end")),
            "do_eval": bool(given.get("do_eval")),
            "streaming": bool(given.get("streaming")),
        }
    elif cause == "cfg-streaming-args":
        details = {"max_steps_missing": "max_steps" in message, "val_size_fraction": "val size" in message}
        details |= {"val_rows": _validation_rows(facts)} if details["val_size_fraction"] else {}
        details |= {"max_steps_suggestion": 1000} if details["max_steps_missing"] else {}
    elif cause == "cfg-best-model-strategy":
        details = _best_model(message, given)
    elif cause == "tmpl-missing" and (fitting := facts.get("template.expected") or facts.get("template.of_type")):
        details = {"fitting_template": fitting}
    elif cause == "cfg-missing-argument":
        name = next((n for n in ("model_name_or_path", "dataset", "reward_model") if n in message), "")
        details = {"model_missing": name == "model_name_or_path", "dataset_missing": name == "dataset"}
    elif cause == "pkg-accelerate-mismatch":
        details = {"data_seed": True} if "data_seed" in keys else {}
    elif cause == "launch-torchrun-missing":
        details = {"force_torchrun": "FORCE_TORCHRUN=1"}
    elif cause == "attn-unsloth":
        details = {"zero3": "ZeRO-3" in message, "liger_missing": lacks(facts, "liger-kernel")}
    elif cause in ("quant-no-adapter", "quant-unsupported-combo"):
        named = ("quantization_bit", "resize_vocab", "use_dora")
        details = {key: True for key in named if given.get(key)}
        quantiser = QUANTISERS.get(str(given.get("quantization_method", "bnb")), "")
        details["quantiser_missing"] = bool(quantiser) and lacks(facts, quantiser)
    elif cause == "peft-adapter-path-wrong":
        details = {"adapter_path": given.get("adapter_name_or_path"), "not_lora": True}
    elif cause == "cfg-bad-value-type" and "warmup_ratio" in keys:
        share = given.get("warmup_ratio")
        details = {"key": "warmup_ratio", "recipe": facts["recipe.path"]}
        details["line"] = facts.get("recipe.lines", {}).get("warmup_ratio", 1)
        details |= {"probable_value": share / 100} if isinstance(share, (int, float)) and 1 < share <= 100 else {}
    elif cause == "ds-zero3-unsupported":
        switches = [key for key in ("use_galore", "use_apollo", "use_badam") if given.get(key)]
        details = {"optimizer_switch": switches[0]} if switches else {}
    return cause, details


def _validation_rows(facts: Facts) -> int:
    """A tenth of the records where they are counted, a thousand at most."""
    scans = facts.get("records.scans", {}).values()
    known = sum(scan["read"] for scan in scans) if all(scan["complete"] for scan in scans) else 0
    return min(1000, max(1, known // 10)) if known else 1000


def _best_model(message: str, given: Mapping[str, Any]) -> dict[str, Any]:
    steps = "multiple" in message
    details: dict[str, Any] = {"steps_not_multiple": steps, "save_strategy": given.get("save_strategy", "steps")}
    details["has_validation"] = bool(given.get("eval_dataset")) or bool(given.get("val_size"))
    return details | ({"save_steps": given.get("save_steps", 500)} if steps else {})


def lacks(facts: Facts, package: str) -> bool:
    """Whether a package is known to be absent."""
    return package not in facts.get("packages.versions", {package: ""})
