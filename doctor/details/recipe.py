"""Details that the recipe tells: what it trains, how, and numbers that follow from its own."""

from __future__ import annotations

from typing import Any

from doctor.estimate import states
from doctor.estimate.from_facts import records
from doctor.facts import Facts
from doctor.findings import Finding
from doctor.machine import processes_judged

_ON = ("true", "1", "yes", "on")
_TOKENS = ("hf_hub_token", "ms_hub_token", "hub_token")


def _values(facts: Facts) -> dict[str, Any]:
    return dict(facts["recipe.values"])


def _on(facts: Facts, key: str) -> bool:
    return str(_values(facts).get(key, "")).lower() in _ON


def _whole(facts: Facts, key: str, default: int) -> int | None:
    value = _values(facts).get(key, default)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def recipe(facts: Facts, finding: Finding) -> str:
    return str(facts["recipe.path"])


def recipe_stem(facts: Facts, finding: Finding) -> str | None:
    """The recipe that a log names, else the one examined where its suffix is wrong; less the suffix."""
    name = str(finding.details.get("file") or facts["recipe.path"])
    stem, _, suffix = name.rpartition(".")
    return None if suffix == "yaml" else stem or name


def finetuning_full(facts: Facts, finding: Finding) -> bool:
    return _values(facts).get("finetuning_type", "lora") == "full"


def lora(facts: Facts, finding: Finding) -> bool:
    return _values(facts).get("finetuning_type", "lora") == "lora"


def fp16(facts: Facts, finding: Finding) -> bool:
    return _on(facts, "fp16")


def pure_bf16(facts: Facts, finding: Finding) -> bool:
    return _on(facts, "pure_bf16")


def packing(facts: Facts, finding: Finding) -> bool:
    return _on(facts, "packing") or _on(facts, "neat_packing")


def neat_packing(facts: Facts, finding: Finding) -> bool:
    return _on(facts, "neat_packing")


def use_unsloth(facts: Facts, finding: Finding) -> bool:
    return _on(facts, "use_unsloth")


def predict_with_generate(facts: Facts, finding: Finding) -> bool:
    return _on(facts, "predict_with_generate")


def quantization_bit(facts: Facts, finding: Finding) -> int | None:
    return _whole(facts, "quantization_bit", 0) or None


def quantization_bit_unsupported(facts: Facts, finding: Finding) -> bool:
    """bitsandbytes has 4 and 8 bits only (LLaMA-Factory, model_utils/quantization.py)."""
    method = str(_values(facts).get("quantization_method", "bitsandbytes")).lower()
    bits = quantization_bit(facts, finding)
    return bits is not None and method in ("bitsandbytes", "bnb") and bits not in (4, 8)


def tokenized_path(facts: Facts, finding: Finding) -> str | None:
    value = _values(facts).get("tokenized_path")
    return str(value) if value else None


def evaluates_during_training(facts: Facts, finding: Finding) -> bool:
    values = _values(facts)
    return str(values.get("eval_strategy", values.get("evaluation_strategy", "no"))).lower() not in ("no", "false")


def gradient_checkpointing_kwargs(facts: Facts, finding: Finding) -> bool:
    return "gradient_checkpointing_kwargs" in _values(facts)


def attention_disabled(facts: Facts, finding: Finding) -> bool:
    return _values(facts).get("flash_attn") == "disabled"


def flash_attn_requested(facts: Facts, finding: Finding) -> bool:
    return _values(facts).get("flash_attn") == "fa2"


def fused_kernels(facts: Facts, finding: Finding) -> bool:
    return flash_attn_requested(facts, finding) or _on(facts, "enable_liger_kernel")


def vllm_requested(facts: Facts, finding: Finding) -> bool:
    return "vllm" in str(_values(facts).get("infer_backend", "")).lower()


def token_in_recipe(facts: Facts, finding: Finding) -> bool:
    return any(_values(facts).get(key) for key in _TOKENS)


def fork_in_dataloader(facts: Facts, finding: Finding) -> bool:
    return bool(_whole(facts, "dataloader_num_workers", 0))


def ddp_without_deepspeed(facts: Facts, finding: Finding) -> bool:
    return not _values(facts).get("deepspeed") and facts["launch.world_size"] > 1


def has_use_reentrant_gc(facts: Facts, finding: Finding) -> bool:
    return "use_reentrant_gc" in facts["arguments.fields"]


def save_safetensors_known(facts: Facts, finding: Finding) -> bool:
    return "save_safetensors" in facts["arguments.fields"]


def accumulation_for_same_batch(facts: Facts, finding: Finding) -> int | None:
    """Accumulation with which micro-batch 1 gives the same global batch; None where the micro-batch is 1 already."""
    micro = _whole(facts, "per_device_train_batch_size", 8)
    steps = _whole(facts, "gradient_accumulation_steps", 1)
    return micro * steps if micro and steps and micro > 1 else None


def accumulation_for_batch_1(facts: Facts, finding: Finding) -> int | None:
    return accumulation_for_same_batch(facts, finding)


def max_steps_suggestion(facts: Facts, finding: Finding) -> int | None:
    """The steps that the recipe's epochs take, where its records were counted to the end."""
    return states.steps_of(_values(facts), records(facts), facts["launch.world_size"])


def save_steps_suggestion(facts: Facts, finding: Finding) -> int | None:
    """Half of what the recipe says (the Trainer's default is 500)."""
    steps = _whole(facts, "save_steps", 500)
    return steps // 2 if steps and steps > 1 else None


def workers_suggestion(facts: Facts, finding: Finding) -> int | None:
    """A quarter of the preprocessing workers, not more than the usable processors; None where there is one already."""
    workers = _whole(facts, "preprocessing_num_workers", 1)
    if not workers or workers <= 1:
        return None
    usable = int(processes_judged.usable(facts)) if facts.known("machine.cpus") else workers
    return max(1, min(workers // 4, usable))


def overrides(facts: Facts, finding: Finding) -> bool:
    return bool(facts["recipe.overrides"])


def template_name(facts: Facts, finding: Finding) -> str | None:
    value = _values(facts).get("template")
    return value if isinstance(value, str) else None
