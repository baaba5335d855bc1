"""Judgements of a DeepSpeed JSON beyond DeepSpeed's own classes: what the readers without a class take amiss.

accelerate and transformers read the JSON before DeepSpeed does; deepspeed/runtime/config.py reads most keys by `get`.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from doctor.facts import Facts
from doctor.findings import Finding, Severity, found, in_recipe
from doctor.recipe.model_values import at_least

_found = partial(found, "deepspeed")

BLOCKS = ("zero_optimization", "bf16", "fp16", "optimizer", "scheduler", "activation_checkpointing", "data_types",
            "checkpoint")  # fmt: skip
# Keys of the top level; what is none of them is read by nobody.
_KEYS = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping",
         "zero_optimization", "zero_allow_untested_optimizer", "zero_force_ds_cpu_optimizer", "bf16", "bfloat16", "fp16",
         "amp", "optimizer", "scheduler", "steps_per_print", "wall_clock_breakdown", "activation_checkpointing",
         "communication_data_type", "prescale_gradients", "gradient_predivide_factor", "sparse_gradients", "data_types",
         "dump_state", "disable_allgather", "checkpoint", "memory_breakdown", "comms_logger", "flops_profiler", "aio",
         "tensorboard", "wandb", "csv_monitor", "comet", "elasticity", "autotuning", "compression_training",
         "data_efficiency", "curriculum_learning", "progressive_layer_drop", "eigenvalue", "sparse_attention",
         "pipeline", "compile", "torch_autocast", "tensor_parallel", "sequence_parallel_size", "nebula",
         "hybrid_engine", "weight_quantization", "graph_harvesting", "timers", "dataloader_drop_last",
         "use_data_before_expert_parallel_parallelism", "load_universal_checkpoint", "checkpoint_config",
         "seq_parallel_communication_data_type", "gradient_accumulation_dtype", "zenflow")  # fmt: skip
_SWITCHED = ("enabled", "auto_cast", "loss_scale", "initial_scale_power", "loss_scale_window", "hysteresis",
             "consecutive_hysteresis", "min_loss_scale", "fp16_master_weights_and_grads", "immediate_grad_update",
             "check_grad_overflow", "bf16_master_weights_and_grads", "bf16_optimizer_states", "opt_level")  # fmt: skip
# Schedulers of deepspeed/runtime/lr_schedules.py and what their constructors take.
_WARMUP = ("warmup_min_lr", "warmup_max_lr", "warmup_num_steps", "warmup_type", "last_batch_iteration")
_SCHEDULERS = {
    "LRRangeTest": ("lr_range_test_min_lr", "lr_range_test_step_size", "lr_range_test_step_rate",
                    "lr_range_test_staircase", "last_batch_iteration"),
    "OneCycle": ("cycle_min_lr", "cycle_max_lr", "decay_lr_rate", "cycle_first_step_size", "cycle_second_step_size",
                 "cycle_first_stair_count", "cycle_second_stair_count", "decay_step_size", "cycle_momentum",
                 "cycle_min_mom", "cycle_max_mom", "decay_mom_rate", "last_batch_iteration"),
    "WarmupLR": _WARMUP,
    "WarmupDecayLR": ("total_num_steps", *_WARMUP),
    "WarmupCosineLR": ("total_num_steps", "warmup_min_ratio", "warmup_num_steps", "cos_min_ratio", "warmup_type",
                       "last_batch_iteration"),
}  # fmt: skip
_ADAM = ("lr", "betas", "eps", "weight_decay", "torch_adam", "adam_w_mode", "bias_correction", "amsgrad", "set_grad_none",
         "fp32_optimizer_states", "fused", "foreach", "maximize", "capturable", "differentiable", "adamw_mode",
         "max_grad_norm")  # fmt: skip
_DTYPES = ("fp16", "float16", "half", "bf16", "bfloat16", "fp32", "float32", "float", "int8")
# Monitor -> its package and the cause that says it is missing.
_MONITORS = {"tensorboard": ("tensorboard", "log-tensorboard-missing"), "wandb": ("wandb", "log-wandb-not-installed"),
             "comet": ("comet-ml", "pkg-missing")}  # fmt: skip


def _invalid(
    facts: Facts, what: str, severity: Severity | None = None, corrected: Mapping[str, Any] | None = None
) -> Finding:
    """`corrected`: dotted path -> the value that is meant."""
    path = facts["deepspeed.config_path"]
    details: dict[str, Any] = {"file": path, "ds_config": path}
    if corrected:
        words = ", ".join(f"{name} = {json.dumps(value)}" for name, value in corrected.items())
        details |= {"corrected_values": dict(corrected), "removed_keys": [], "corrected": words, "corrects": True}
    return _found("ds-config-invalid", what, path, severity, **details)


def _config(facts: Facts) -> Mapping[str, Any]:
    return facts["deepspeed.config"] or {}


def _part(facts: Facts, name: str) -> Mapping[str, Any]:
    part = _config(facts).get(name)
    return part if isinstance(part, Mapping) else {}


def _near(word: str, known: tuple[str, ...]) -> str | None:
    return next(iter(difflib.get_close_matches(word, known, n=1, cutoff=0.8)), None)


def objects_given(facts: Facts) -> Iterator[Finding]:
    """true, false, null and words were ways to write these once; transformers and accelerate ask them for keys."""
    for name in BLOCKS:
        given = _config(facts).get(name, {})
        by_class = name == "zero_optimization" and not isinstance(given, bool) and given is not None
        if isinstance(given, Mapping) or by_class:
            continue  # what the class of ZeRO refuses is said where it is read
        switched = (isinstance(given, bool) or given == "auto") and name in ("bf16", "fp16")
        what = f"{name} is {json.dumps(given)}; an object is needed"
        yield _invalid(facts, what, corrected={name: {"enabled": given}} if switched else None)


def zero_named(facts: Facts) -> Iterator[Finding]:
    config = _config(facts)
    if facts["deepspeed.config"] is not None and "zero_optimization" not in config:
        near = _near_key(config, "zero_optimization")
        hint = f'; is "{near}" meant to be it?' if near else ""
        yield _invalid(facts, f"zero_optimization is missing, without which accelerate refuses the JSON{hint}")


def _near_key(config: Mapping[str, Any], wanted: str) -> str | None:
    return next(iter(difflib.get_close_matches(wanted, list(config), n=1, cutoff=0.8)), None)


def keys_read(facts: Facts) -> Iterator[Finding]:
    """A key of the top level that nobody reads, and that is spelt almost as one that is."""
    config = _config(facts)
    for key in config:
        near = None if key in _KEYS else _near(key, _KEYS)
        if near and near != "zero_optimization":
            yield _invalid(facts, f'"{key}" is read by nobody; "{near}" is', Severity.WARNING)
    for part in ("bf16", "fp16"):
        for key in _part(facts, part):
            near = None if key in _SWITCHED else _near(key, _SWITCHED)
            if near and f"{part}.{key}" not in str(facts.get("deepspeed.refused", "")):
                yield _invalid(facts, f'"{part}.{key}" is read by nobody; "{part}.{near}" is', Severity.WARNING)


def scheduler_fits(facts: Facts) -> Iterator[Finding]:
    scheduler = _part(facts, "scheduler")
    if not scheduler:
        return
    kind = scheduler.get("type")
    if not isinstance(kind, str) or kind not in _SCHEDULERS:
        near = _near(str(kind), tuple(_SCHEDULERS))
        said = f'scheduler.type "{kind}" is none of' if kind else "scheduler names no type, which must be one of"
        yield _invalid(facts, f"{said} {', '.join(_SCHEDULERS)}", corrected={"scheduler.type": near} if near else None)
        return
    given = scheduler.get("params")
    for key in given if isinstance(given, Mapping) else ():
        if key not in _SCHEDULERS[kind]:
            yield _invalid(
                facts, f"scheduler.params.{key} is not taken by {kind}, which takes {', '.join(_SCHEDULERS[kind])}"
            )


def optimizer_fits(facts: Facts) -> Iterator[Finding]:
    """The type is looked at by `optimizer_known`; here that it is named, fits ZeRO, and takes its parameters."""
    optimizer = _part(facts, "optimizer")
    if not optimizer:
        return
    kind, zero = optimizer.get("type"), _part(facts, "zero_optimization").get("stage")
    if not isinstance(kind, str):
        yield _invalid(facts, "optimizer names no type")
        return
    if kind.lower() in ("onebitadam", "onebitlamb", "zerooneadam") and zero in (1, 2, 3):
        yield _invalid(facts, f"optimizer.type {kind} is not compatible with ZeRO, and the stage is {zero}")
    given = optimizer.get("params")
    if isinstance(given, Mapping) and "lr" in given and given["lr"] is None:
        meant = {"optimizer.params.lr": "auto"}
        yield _invalid(facts, 'optimizer.params.lr is null; a number or "auto" is needed', corrected=meant)
    if kind.lower() in ("adam", "adamw") and isinstance(given, Mapping):
        for key in given:
            if key not in _ADAM:
                near = _near(key, _ADAM)
                yield _invalid(
                    facts, f"optimizer.params.{key} is not taken by {kind}" + (f"; {near} is" if near else "")
                )


def dtypes_known(facts: Facts) -> Iterator[Finding]:
    named = {
        "communication_data_type": _config(facts).get("communication_data_type"),
        "seq_parallel_communication_data_type": _config(facts).get("seq_parallel_communication_data_type"),
        "data_types.grad_accum_dtype": _part(facts, "data_types").get("grad_accum_dtype"),
    }
    if at_least(str(facts["packages.versions"].get("deepspeed", "0")), "0.17.2"):  # earlier ones pass over it
        named["torch_autocast.dtype"] = _part(facts, "torch_autocast").get("dtype")
    for path, given in named.items():
        known = ("fp16", "bf16", "fp32") if path.endswith("communication_data_type") else _DTYPES
        if given is not None and given != "auto" and str(given).removeprefix("torch.") not in known:
            yield _invalid(facts, f'{path} "{given}" is no dtype; known: {", ".join(known)}')


def options_fit(facts: Facts) -> Iterator[Finding]:
    """Single settings that DeepSpeed asserts on while the engine is made."""
    config, zero = _config(facts), _part(facts, "zero_optimization")
    tag = _part(facts, "checkpoint").get("tag_validation")
    if tag is not None and str(tag).upper() not in ("WARN", "IGNORE", "FAIL"):
        yield _invalid(facts, f'checkpoint.tag_validation is "{tag}"; Warn, Ignore or Fail are known')
    for name in ("wall_clock_breakdown", "prescale_gradients"):
        if isinstance(config.get(name), str) or (name == "wall_clock_breakdown" and config.get(name, 0) is None):
            yield _invalid(facts, f"{name} is {json.dumps(config[name])}; true or false is needed")
    if config.get("prescale_gradients") is True and zero.get("stage") == 2 and zero.get("reduce_scatter", True):
        yield _invalid(
            facts,
            "prescale_gradients is not supported with ZeRO-2 and reduce_scatter",
            corrected={"prescale_gradients": False},
        )
    size = _part(facts, "tensor_parallel").get("autotp_size")
    if isinstance(size, int) and size > facts["launch.world_size"]:
        yield _invalid(facts, f"tensor_parallel.autotp_size is {size} with {facts['launch.world_size']} processes")
    size = config.get("sequence_parallel_size")
    if isinstance(size, int) and size > facts["launch.world_size"]:
        yield _invalid(facts, f"sequence_parallel_size is {size} with {facts['launch.world_size']} processes")


def amp_agrees(facts: Facts) -> Iterator[Finding]:
    """transformers allows it only for fp16 by apex."""
    values = facts["recipe.values"]
    by_apex = values.get("fp16") is True and "apex" in (
        values.get("half_precision_backend"),
        values.get("fp16_backend"),
    )
    if _part(facts, "amp").get("enabled") is True and not by_apex:
        path = facts["deepspeed.config_path"]
        what = "amp is enabled in the JSON, and the recipe does not train in fp16 by apex"
        yield _found("ds-config-hf-mismatch", what, path, ds_config=path, auto_values={"amp.enabled": False})


def fp16_has_gpu(facts: Facts) -> Iterator[Finding]:
    """The CPU accelerator of DeepSpeed has fp16 on few processors, and says so when the engine is made."""
    config, values = _config(facts), facts["recipe.values"]
    if config and values.get("fp16") is True and facts["gpu.count"] == 0 and not facts["gpu.devices"]:
        what = "fp16: true with DeepSpeed, and this machine has no GPU"
        yield _found(
            "gpu-bf16-unsupported", what, in_recipe(facts, "fp16"), Severity.WARNING, no_gpu=True, has_fp16=True
        )


def kernels_there(facts: Facts) -> Iterator[Finding]:
    """Optimizers that DeepSpeed has for the GPU alone, offloaded or not: deepspeed/ops/op_builder/cpu lists the others."""
    kind = str(_part(facts, "optimizer").get("type")).lower()
    if facts["gpu.count"] != 0 or facts["gpu.devices"]:
        return
    zero = _part(facts, "zero_optimization")
    for key in ("zero_quantized_weights", "zero_quantized_nontrainable_weights"):
        if zero.get(key) is True and zero.get("stage") == 3:
            what = f"zero_optimization.{key} has no kernel for the CPU, and this machine has no GPU"
            yield _found("cuda-unavailable", what, facts["deepspeed.config_path"], no_gpu=True)
    if kind in ("lion", "lamb"):
        what = f"optimizer.type {kind.capitalize()} has no kernel for the CPU, and this machine has no GPU"
        yield _found("cuda-unavailable", what, facts["deepspeed.config_path"], no_gpu=True)


def batch_is_number(facts: Facts) -> Iterator[Finding]:
    given = _config(facts).get("train_batch_size")
    if isinstance(given, (str, list, dict)) and given != "auto":
        path = facts["deepspeed.config_path"]
        what = f'train_batch_size is {json.dumps(given)[:60]}; a number or "auto" is needed'
        details: dict[str, Any] = {"ds_config": path, "auto_values": {"train_batch_size": "auto"}}
        yield _found("ds-config-hf-mismatch", what, path, **details)


def monitors_there(facts: Facts) -> Iterator[Finding]:
    for name, (package, cause) in _MONITORS.items():
        if _part(facts, name).get("enabled") is True and package not in facts["packages.versions"]:
            what = f"{name} is enabled in the DeepSpeed JSON, and {package} is not installed"
            details: dict[str, Any] = {"module": package, "distribution": package, "in_deepspeed": True}
            yield _found(cause, what, facts["deepspeed.config_path"], **details)


ALL = (
    objects_given, zero_named, keys_read, scheduler_fits, optimizer_fits, dtypes_known, options_fit, batch_is_number,
    monitors_there, amp_agrees, fp16_has_gpu, kernels_there,
)  # fmt: skip
