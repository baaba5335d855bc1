"""Judgements of the sections of a DeepSpeed JSON that are asked for keys, and of what must agree with the recipe in them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from doctor.facts import Facts
from doctor.findings import Finding, Severity, found
from doctor.recipe.deepspeed_judged import BLOCKS

# Sections that DeepSpeed, accelerate or transformers ask for keys; those with a class of their own are judged by it.
_SECTIONS = ("amp", "aio", "autotuning", "comms_logger", "comet", "compression_training", "csv_monitor",
             "curriculum_learning", "data_efficiency", "elasticity", "flops_profiler", "hybrid_engine", "nebula",
             "progressive_layer_drop", "tensor_parallel", "tensorboard", "torch_autocast", "wandb",
             "weight_quantization")  # fmt: skip
_ASKED_FOR_KEYS = (*BLOCKS, *_SECTIONS, "optimizer.params", "scheduler.params")
# What transformers and accelerate fill in (HfTrainerDeepSpeedConfig, DeepSpeedPlugin); any other "auto" accelerate refuses,
# whoever reads the key.
_FILLED = {
    "": ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping",
         "steps_per_print"),
    "zero_optimization.": ("stage", "reduce_bucket_size", "stage3_prefetch_bucket_size",
                           "stage3_param_persistence_threshold", "stage3_gather_16bit_weights_on_model_save",
                           "stage3_gather_fp16_weights_on_model_save"),
    "zero_optimization.offload_optimizer.": ("device", "nvme_path"),
    "zero_optimization.offload_param.": ("device", "nvme_path"),
    "optimizer.params.": ("lr", "betas", "eps", "weight_decay"),
    "scheduler.params.": ("warmup_min_lr", "warmup_max_lr", "warmup_num_steps", "total_num_steps"),
    "bf16.": ("enabled",), "fp16.": ("enabled",),
}  # fmt: skip
_OLDER_FILLED = {"amp.": ("enabled", "opt_level")}  # by transformers before 5
_DEEPEST = 20
# Scheduler -> parameters without a default. transformers fills in total_num_steps only where it is "auto".
_REQUIRED = {"OneCycle": ("cycle_min_lr", "cycle_max_lr"), "WarmupDecayLR": ("total_num_steps",),
             "WarmupCosineLR": ("total_num_steps",)}  # fmt: skip
_ABOVE_ZERO = ("lr_range_test_step_size", "cycle_first_step_size")


def _said(facts: Facts, what: str, severity: Severity | None = None) -> Finding:
    path = facts["deepspeed.config_path"]
    return found("deepspeed", "ds-config-invalid", what, path, severity, file=path, ds_config=path)


def _config(facts: Facts) -> Mapping[str, Any]:
    return facts["deepspeed.config"] or {}


def _object(facts: Facts, *names: str) -> Mapping[str, Any]:
    part: Any = _config(facts)
    for name in names:
        part = part.get(name) if isinstance(part, Mapping) else None
    return part if isinstance(part, Mapping) else {}


def sections_are_objects(facts: Facts) -> Iterator[Finding]:
    for name, given in _config(facts).items():
        if name in _SECTIONS and not isinstance(given, Mapping) and given is not None:
            yield _said(facts, f"{name} is {json.dumps(given)[:40]}; an object is needed")
    for part in ("optimizer", "scheduler"):
        params = _object(facts, part).get("params", {})
        if isinstance(params, (list, str, int, float)) or (params is None and part == "scheduler"):
            yield _said(facts, f"{part}.params is {json.dumps(params)[:40]}; an object is needed")


def auto_is_filled(facts: Facts) -> Iterator[Finding]:
    major = str(facts["packages.versions"].get("transformers")).partition(".")[0]
    filled = _FILLED if major.isdecimal() and int(major) >= 5 else {**_FILLED, **_OLDER_FILLED}
    odd = [path for path in _autos(_config(facts), "") if not _is_filled(path, filled)]
    if odd:
        path = facts["deepspeed.config_path"]
        what = f'{", ".join(odd[:6])}: "auto", which nothing fills in there; write a value, or leave it out'
        off = {one: False for one in odd if one.endswith(".enabled")}  # some blocks are not read without it
        gone = [one for one in odd if one not in off]
        words = [f"{one} = false" for one in off] + [f"−{one}" for one in gone]
        details: dict[str, Any] = {"file": path, "ds_config": path, "corrected_values": off, "removed_keys": gone}
        details |= {"corrected": ", ".join(words), "corrects": True}
        yield found("deepspeed", "ds-config-invalid", what, path, None, **details)


def _autos(part: Mapping[str, Any], above: str) -> Iterator[str]:
    """Dotted paths of "auto"; a block that is "auto" itself is said by itself, and lists are not looked into."""
    for key, value in part.items():
        if isinstance(value, Mapping) and above.count(".") < _DEEPEST:
            yield from _autos(value, f"{above}{key}.")
        elif value == "auto" and f"{above}{key}" not in _ASKED_FOR_KEYS:
            yield f"{above}{key}"


def is_filled(path: str) -> bool:
    """Whether "auto" may stand there under every release."""
    return _is_filled(path, _FILLED)


def _is_filled(path: str, filled: Mapping[str, tuple[str, ...]]) -> bool:
    above, dot, key = path.rpartition(".")
    return key in filled.get(above + dot, ())


def scheduler_complete(facts: Facts) -> Iterator[Finding]:
    scheduler, params = _object(facts, "scheduler"), _object(facts, "scheduler", "params")
    kind = scheduler.get("type")
    if isinstance(kind, str) and "params" not in scheduler:
        yield _said(facts, f"scheduler of type {kind} has no params, which may be empty")
        return
    for name in _REQUIRED.get(kind, ()) if isinstance(kind, str) else ():
        if name not in params:
            yield _said(facts, f"scheduler.params of {kind} lacks {name}")
    for name, given in params.items():
        if name.endswith(("_lr", "_steps", "_ratio", "_rate", "_size")) and isinstance(given, str) and given != "auto":
            yield _said(facts, f"scheduler.params.{name} is {json.dumps(given)}; a number is needed")
        elif name in _ABOVE_ZERO and given == 0:
            yield _said(facts, f"scheduler.params.{name} is 0; it is divided by")
    if params.get("warmup_type", "log") not in ("log", "linear", "auto"):
        yield _said(
            facts, f"scheduler.params.warmup_type is {json.dumps(params['warmup_type'])[:40]}; log or linear is known"
        )


def optimizer_complete(facts: Facts) -> Iterator[Finding]:
    if _config(facts).get("optimizer") == {}:
        yield _said(facts, "optimizer is an empty object; name a type, or leave it out")


def single_settings(facts: Facts) -> Iterator[Finding]:
    config, zero = _config(facts), _object(facts, "zero_optimization")
    if "gradient_clipping" in config and config["gradient_clipping"] is None:
        yield _said(facts, 'gradient_clipping is null; a number or "auto" is needed')
    if "gradient_accumulation_steps" in config and config["gradient_accumulation_steps"] is None:
        yield _said(facts, 'gradient_accumulation_steps is null; a number or "auto" is needed')
    for name in ("offload_optimizer", "offload_param"):
        if name in zero and zero[name] is None:
            yield _said(facts, f"zero_optimization.{name} is null; an object is needed, or nothing")
    least = {"offload_optimizer": 1, "offload_param": 3}
    for name, stage in least.items():
        device = _object(facts, "zero_optimization", name).get("device", "none")
        if device != "none" and type(zero.get("stage", 0)) is int and 0 <= zero.get("stage", 0) < stage:
            what = f"zero_optimization.{name} is not used below stage {stage}; stage is {zero.get('stage', 0)}"
            yield _said(facts, what, Severity.WARNING)
    if isinstance(config.get("amp"), Mapping) and "enabled" not in _object(facts, "amp"):
        yield _said(facts, "amp has no enabled, which DeepSpeed takes out of it")
    divided = config.get("gradient_predivide_factor", 1.0)
    if divided != 1.0 and zero.get("stage") == 2 and zero.get("reduce_scatter", True):
        yield _said(
            facts, f"gradient_predivide_factor is {json.dumps(divided)}; ZeRO-2 with reduce_scatter takes 1.0 alone"
        )
    bucket = zero.get("reduce_bucket_size")
    if isinstance(bucket, (int, float)) and 2**63 <= bucket < float("inf"):
        yield _said(facts, f"zero_optimization.reduce_bucket_size is {str(bucket)[:24]}, more than 64 bits hold")
    shards = zero.get("mics_shard_size")
    if isinstance(shards, int) and shards > 0 and zero.get("stage") == 3:
        yield _said(
            facts, f"zero_optimization.mics_shard_size is {shards}; transformers makes the model without MiCS groups"
        )
    staged = _object(facts, "checkpoint", "parallel_write").get("pipeline_stage", False)
    if not isinstance(staged, bool):
        yield _said(
            facts, f"checkpoint.parallel_write.pipeline_stage is {json.dumps(staged)[:40]}; true or false is needed"
        )


def _finite(value: Any) -> bool:
    """A number that arithmetic can be done with."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -1e18 < value < 1e18


def agrees_with_recipe(facts: Facts) -> Iterator[Finding]:
    """What transformers compares beside the rates and the batch: betas, eps, weight_decay, the steps of the scheduler."""
    values, params = facts["recipe.values"], _object(facts, "optimizer", "params")
    steps = values.get("max_steps", -1)
    pairs: list[tuple[str, Any, Any]] = [
        (
            "optimizer.params.betas",
            params.get("betas"),
            [values.get("adam_beta1", 0.9), values.get("adam_beta2", 0.999)],
        ),
        ("optimizer.params.eps", params.get("eps"), values.get("adam_epsilon", 1e-8)),
        ("optimizer.params.weight_decay", params.get("weight_decay"), values.get("weight_decay", 0.0)),
    ]
    params = _object(facts, "scheduler", "params")
    if _finite(steps) and steps > 0:
        warmup, ratio = values.get("warmup_steps", 0), values.get("warmup_ratio", 0.0)
        if _finite(warmup) and _finite(ratio):
            warmup = warmup if warmup >= 1 else math.ceil(steps * (warmup or ratio))
            pairs.append(("scheduler.params.warmup_num_steps", params.get("warmup_num_steps"), warmup))
        pairs.append(("scheduler.params.total_num_steps", params.get("total_num_steps"), steps))
    path = facts["deepspeed.config_path"]
    for name, written, wanted in pairs:
        if written is None or written == "auto" or written == wanted or isinstance(wanted, str):
            continue
        what = f"{name} is {json.dumps(written)[:60]} in the JSON, and the recipe makes it {json.dumps(wanted)[:60]}"
        yield found("deepspeed", "ds-config-hf-mismatch", what, path, None, ds_config=path, auto_values={name: "auto"})


ALL = (
    sections_are_objects, auto_is_filled, scheduler_complete, optimizer_complete, single_settings, agrees_with_recipe,
)  # fmt: skip
