"""Judgements of sections of a DeepSpeed JSON that few write: what each must hold, or the engine is not made.

deepspeed/runtime/config.py, runtime/data_pipeline, compression/config.py; the same in 0.15.4 and 0.18.4.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from doctor.facts import Facts
from doctor.findings import Finding, found
from doctor.recipe.model_values import at_least

_POPPED = ("curriculum_learning", "progressive_layer_drop")  # "enabled" is taken out of them whatever it is
_SPARSE = ("dense", "fixed", "variable", "bigbird", "bslongformer")
# Schedule of curriculum learning -> what its schedule_config must hold.
_LINEAR = ("total_curriculum_step", "difficulty_step")
_SCHEDULES: dict[str, tuple[str, ...]] = {
    "fixed_linear": _LINEAR,
    "fixed_root": (*_LINEAR, "root_degree"),
    "fixed_discrete": ("difficulty", "max_step"),
    "custom": (),
}
_ELASTIC = 0.2  # the latest version of DeepSpeed's elasticity
_WRITERS = ("MOCK", "PYTHON", "FAST")
_PRUNED = ("l1", "topk")
# Technique of compression -> {key of shared_parameters: what is known}, what each group's params must hold.
_COMPRESSED: dict[str, tuple[dict[str, tuple[str, ...]], tuple[str, ...]]] = {
    "weight_quantization": (
        {"quantization_type": ("symmetric", "asymmetric"), "rounding": ("nearest", "stochastic")},
        ("start_bits", "target_bits"),
    ),
    "activation_quantization": (
        {"quantization_type": ("symmetric", "asymmetric"), "range_calibration": ("dynamic", "static")},
        ("bits",),
    ),
    "sparse_pruning": ({"method": (*_PRUNED, "snip_momentum")}, ("dense_ratio",)),
    "row_pruning": ({"method": _PRUNED}, ("dense_ratio",)),
    "head_pruning": ({"method": _PRUNED}, ("dense_ratio",)),
    "channel_pruning": ({"method": _PRUNED}, ("dense_ratio",)),
}


def _config(facts: Facts) -> Mapping[str, Any]:
    return facts["deepspeed.config"] or {}


def _said(facts: Facts, what: str) -> Finding:
    path = facts["deepspeed.config_path"]
    return found("deepspeed", "ds-config-invalid", what, path, None, file=path, ds_config=path)


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)[:40]


def _odd(section: Mapping[str, Any], at: str, *names: str) -> Iterator[str]:
    """Of parts that must be objects: the sentence about one that is none."""
    for name in names:
        if name in section and not isinstance(section[name], Mapping):
            yield f"{at}.{name} is {_shown(section[name])}; an object is needed"


def _part(section: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = section.get(name)
    return part if isinstance(part, Mapping) else {}


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def objects(facts: Facts) -> Iterator[Finding]:
    """Read whether they are enabled or not."""
    config = _config(facts)
    for name in ("sparse_attention", "pipeline"):
        if name in config and not isinstance(config[name], Mapping):
            yield _said(facts, f"{name} is {_shown(config[name])}; an object is needed")
    for name in _POPPED:
        if isinstance(config.get(name), Mapping) and "enabled" not in config[name]:
            yield _said(facts, f"{name} has no enabled, which DeepSpeed takes out of it")
    mode = _part(config, "sparse_attention").get("mode", "fixed")
    if mode not in _SPARSE:
        yield _said(facts, f"sparse_attention.mode is {_shown(mode)}; known: {', '.join(_SPARSE)}")
    legacy = _part(config, "zero_optimization").get("legacy_stage1")
    if legacy is True or str(legacy).lower() in ("1", "true", "on", "yes"):
        yield _said(facts, "zero_optimization.legacy_stage1 is true; DeepSpeed has not had that stage since 0.5.9")


def curriculum(facts: Facts) -> Iterator[Finding]:
    """`enabled` of a section that is enabled is taken as any value that counts as true."""
    name = "curriculum_learning"
    given = _part(_config(facts), name)
    if not given.get("enabled"):
        return
    for key in ("min_difficulty", "max_difficulty"):
        if key not in given:
            yield _said(facts, f"{name} is enabled and lacks {key}")
        elif not _number(given[key]):
            yield _said(facts, f"{name}.{key} is {_shown(given[key])}; a number is needed")
    kind = given.get("schedule_type")
    if not isinstance(kind, str) or kind not in _SCHEDULES:
        yield _said(facts, f"{name}.schedule_type is {_shown(kind)}; known: {', '.join(_SCHEDULES)}")
        return
    if kind == "custom":
        yield _said(facts, f"{name}.schedule_type custom asks for a function, which LLaMA-Factory does not give")
        return
    settings = _part(given, "schedule_config")
    lacking = [key for key in _SCHEDULES[kind] if key not in settings]
    if lacking:
        yield _said(facts, f"{name}.schedule_config of {kind} lacks {', '.join(lacking)}")
        return
    for key in _SCHEDULES[kind]:
        listed = isinstance(settings[key], list) and bool(settings[key])
        if kind == "fixed_discrete" and not listed:
            yield _said(facts, f"{name}.schedule_config.{key} is {_shown(settings[key])}; a list is needed")
        elif kind != "fixed_discrete" and (not _number(settings[key]) or settings[key] == 0):
            yield _said(facts, f"{name}.schedule_config.{key} is {_shown(settings[key])}; a number above 0 is needed")
    pair = [settings[key] for key in _SCHEDULES["fixed_discrete"]] if kind == "fixed_discrete" else []
    if pair and all(isinstance(one, list) for one in pair) and len(pair[0]) != len(pair[1]) + 1:
        yield _said(
            facts,
            f"{name}.schedule_config has {len(pair[0])} of difficulty, {len(pair[1])} of max_step; one less is needed",
        )


def layer_drop(facts: Facts) -> Iterator[Finding]:
    given = _part(_config(facts), "progressive_layer_drop")
    for key in ("theta", "gamma") if given.get("enabled") else ():
        if not _number(given.get(key)):
            stands = f"is {_shown(given[key])}; a number is needed" if key in given else "is missing"
            yield _said(facts, f"progressive_layer_drop.{key} {stands}")


def data_efficiency(facts: Facts) -> Iterator[Finding]:
    given, at = _part(_config(facts), "data_efficiency"), "data_efficiency"
    yield from (_said(facts, what) for what in _odd(given, at, "data_sampling", "data_routing"))
    sampling, routing = _part(given, "data_sampling"), _part(given, "data_routing")
    yield from (
        _said(facts, what) for what in _odd(sampling, f"{at}.data_sampling", "curriculum_learning", "dynamic_batching")
    )
    yield from (_said(facts, what) for what in _odd(routing, f"{at}.data_routing", "random_ltd"))
    if (
        _part(sampling, "curriculum_learning").get("enabled")
        and "curriculum_metrics" not in sampling["curriculum_learning"]
    ):
        yield _said(facts, f"{at}.data_sampling.curriculum_learning is enabled and lacks curriculum_metrics")
    batched = _part(sampling, "dynamic_batching")
    if batched.get("enabled") and "max_tokens" not in batched and _knows_dynamic_batching(facts):
        yield _said(facts, f"{at}.data_sampling.dynamic_batching is enabled and lacks max_tokens")
    dropped = _part(routing, "random_ltd")
    if given.get("enabled") and routing.get("enabled") and dropped.get("enabled"):
        needed = ("total_layer_num", "random_ltd_layer_num", "random_ltd_schedule", "global_batch_size")
        lacking = [key for key in needed if key not in dropped]
        if lacking:
            yield _said(facts, f"{at}.data_routing.random_ltd is enabled and lacks {', '.join(lacking)}")


def _knows_dynamic_batching(facts: Facts) -> bool:
    return at_least(str(facts["packages.versions"].get("deepspeed", "0")), "0.16.4")


def compression(facts: Facts) -> Iterator[Finding]:
    """different_groups is read whether a technique is enabled or not."""
    whole, at = _part(_config(facts), "compression_training"), "compression_training"
    yield from (_said(facts, what) for what in _odd(whole, at, "layer_reduction", *_COMPRESSED))
    for name, (choices, needed) in _COMPRESSED.items():
        given, here = _part(whole, name), f"{at}.{name}"
        if not isinstance(whole.get(name), Mapping):
            continue
        odd = list(_odd(given, here, "shared_parameters", "different_groups"))
        yield from (_said(facts, what) for what in odd)
        if "different_groups" not in given:
            yield _said(facts, f"{here} lacks different_groups, which may be empty")
        shared = _part(given, "shared_parameters")
        for key, known in choices.items():
            if key in shared and shared[key] not in known:
                yield _said(
                    facts, f"{here}.shared_parameters.{key} is {_shown(shared[key])}; known: {', '.join(known)}"
                )
        if name == "head_pruning" and shared.get("enabled") and "num_heads" not in shared:
            yield _said(facts, f"{here} is enabled and lacks num_heads in shared_parameters")
        in_step = shared.get("enabled") and not shared.get("quantize_weight_in_forward")
        if name == "weight_quantization" and in_step and facts["recipe.values"].get("fp16") is not True:
            yield _said(
                facts, f"{here} in the optimizer's step works in fp16 alone; quantize_weight_in_forward does not"
            )
        for group, held in _part(given, "different_groups").items():
            params = _part(held, "params") if isinstance(held, Mapping) else {}
            lacking = [key for key in needed if key not in params]
            if lacking:
                yield _said(facts, f"{here}.different_groups.{group} lacks params.{', params.'.join(lacking)}")


def elasticity(facts: Facts) -> Iterator[Finding]:
    """deepspeed/elasticity: it computes the batch from what it is told, for the number of GPUs there is."""
    given, at = _part(_config(facts), "elasticity"), "elasticity"
    if not given.get("enabled"):
        return
    if given.get("ignore_non_elastic_batch_info") is not True:
        yield _said(facts, "elasticity sets the batch sizes itself and refuses those that are given as well")
    sizes = given.get("micro_batch_sizes")
    for key in ("max_train_batch_size", "micro_batch_sizes"):
        if key not in given:
            yield _said(facts, f"{at} is enabled and lacks {key}")
    whole = isinstance(sizes, list) and all(isinstance(one, int) and one > 0 for one in sizes)
    if "micro_batch_sizes" in given and not whole:
        yield _said(facts, f"{at}.micro_batch_sizes is {_shown(sizes)}; a list of whole numbers above 0 is needed")
    if _number(given.get("version")) and given["version"] > _ELASTIC:
        yield _said(facts, f"{at}.version is {_shown(given['version'])}; {_ELASTIC} is the highest there is")
    least, most, ranks = given.get("min_gpus", 1), given.get("max_gpus", 10000), facts["launch.world_size"]
    if _number(least) and _number(most) and not least <= ranks <= most:
        yield _said(facts, f"{at} is for {_shown(least)} to {_shown(most)} GPUs, and {ranks} processes are started")


def autocast(facts: Facts) -> Iterator[Finding]:
    name, section = "lower_precision_safe_modules", _part(_config(facts), "torch_autocast")
    given = section.get(name, [])
    if not at_least(str(facts["packages.versions"].get("deepspeed", "0")), "0.17.2"):
        return  # which pass over it
    if isinstance(given, list) and section.get("enabled") is True:
        bare = [one for one in given if isinstance(one, str) and not all(one.rpartition(".")[::2])]
        if bare:
            yield _said(facts, f"torch_autocast.{name} has {_shown(bare[0])}; module.Class is needed")
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        yield _said(facts, f"torch_autocast.{name} is {_shown(given)}; a list of names is needed")


def single(facts: Facts) -> Iterator[Finding]:
    """Values of other sections that are used as they stand, without a class that reads them."""
    config = _config(facts)
    profiler, tuning, half = _part(config, "flops_profiler"), _part(config, "autotuning"), _part(config, "bf16")
    if isinstance(profiler.get("enabled", False), str):
        yield _said(facts, f"flops_profiler.enabled is {_shown(profiler['enabled'])}; true or false is needed")
    if profiler.get("enabled") is True and not _number(profiler.get("profile_step", 1)):
        yield _said(facts, f"flops_profiler.profile_step is {_shown(profiler['profile_step'])}; a number is needed")
    for key in ("results_dir", "exps_dir"):
        if key in tuning and not tuning[key]:
            yield _said(facts, f"autotuning.{key} is {_shown(tuning[key])}; a folder is needed, or nothing")
    if isinstance(config.get("vocabulary_size"), (str, list, dict)) and config["vocabulary_size"]:
        yield _said(facts, f"vocabulary_size is {_shown(config['vocabulary_size'])}; a number is needed")
    writer = _part(_part(config, "checkpoint"), "writer").get("type", "PYTHON")
    if str(writer).upper() not in _WRITERS and at_least(
        str(facts["packages.versions"].get("deepspeed", "0")), "0.17.2"
    ):
        yield _said(facts, f"checkpoint.writer.type is {_shown(writer)}; known: {', '.join(_WRITERS)}")
    master, offloads = (
        half.get("bf16_master_weights_and_grads"),
        _part(config, "zero_optimization").get("offload_optimizer"),
    )
    if half.get("bf16_optimizer_states") is True and master is not True:
        yield _said(facts, "bf16.bf16_optimizer_states needs bf16_master_weights_and_grads")
    elif master is True and not offloads:
        yield _said(facts, "bf16.bf16_master_weights_and_grads needs offload_optimizer, to the CPU")


ALL = (objects, curriculum, layer_drop, data_efficiency, compression, elasticity, autocast, single)
