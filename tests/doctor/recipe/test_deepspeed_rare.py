"""Sections of the DeepSpeed JSON that few write, and the optimizers that torch makes."""

from __future__ import annotations

from typing import Any

import pytest

from doctor.facts import Facts
from doctor.recipe import deepspeed_optimizer, deepspeed_rare

ODD = (None, True, 5, -1, 10**400, float("inf"), float("nan"), "auto", "", [], [[1]], {}, {"a": {}}, {"enabled": []})
CURRICULUM = {
    "enabled": True, "min_difficulty": 8, "max_difficulty": 64, "schedule_type": "fixed_linear",
    "schedule_config": {"total_curriculum_step": 10, "difficulty_step": 8},
}  # fmt: skip
GROUPS = {"g": {"params": {"start_bits": 8, "target_bits": 8}, "modules": ["mlp"]}}
QUANTISED = {"shared_parameters": {"enabled": True, "quantize_weight_in_forward": True}, "different_groups": GROUPS}
ELASTIC = {"enabled": True, "ignore_non_elastic_batch_info": True, "max_train_batch_size": 16, "micro_batch_sizes": [1]}
HEALTHY: dict[str, Any] = {
    "curriculum_learning": CURRICULUM,
    "progressive_layer_drop": {"enabled": True, "theta": 0.5, "gamma": 0.001},
    "data_efficiency": {"enabled": True, "data_sampling": {"enabled": False}, "data_routing": {"random_ltd": {}}},
    "compression_training": {"weight_quantization": QUANTISED, "layer_reduction": {"enabled": True}},
    "sparse_attention": {"mode": "fixed"},
    "elasticity": ELASTIC,
    "zero_optimization": {"stage": 2, "legacy_stage1": False},
    "optimizer": {"type": "RMSprop", "params": {"lr": "auto", "alpha": 0.9}},
}
MORE: dict[str, Any] = {
    "flops_profiler": {"enabled": True, "profile_step": 1}, "autotuning": {"results_dir": "x", "exps_dir": "y"},
    "bf16": {"bf16_optimizer_states": True, "bf16_master_weights_and_grads": True}, "vocabulary_size": {},
    "checkpoint": {"writer": {"type": "python"}}, "data_efficiency": {"data_sampling": {"dynamic_batching": {}}},
}  # fmt: skip
RMSPROP = ["lr", "alpha", "eps", "weight_decay", "momentum"]


def said(config: Any, **facts: Any) -> list[str]:
    given = Facts({
        "deepspeed.config": config, "deepspeed.config_path": "ds.json", "recipe.values": {"weight_decay": -0.1},
        "packages.versions": {"deepspeed": "0.18.4"}, "launch.world_size": 1, "deepspeed.optimizer_takes": RMSPROP,
        **facts,
    })  # fmt: skip
    judgements = (*deepspeed_rare.ALL, *deepspeed_optimizer.ALL)
    return [finding.evidence[0].what for judgement in judgements for finding in judgement(given)]


def test_healthy_ones() -> None:
    assert said(HEALTHY) == []
    assert said(None) == []
    off = {name: {**part, "enabled": False} for name, part in HEALTHY.items() if "enabled" in part}
    assert said(off) == []


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"curriculum_learning": {"min_difficulty": 8}}, "has no enabled"),
        ({"curriculum_learning": {**CURRICULUM, "schedule_type": "linear"}}, 'schedule_type is "linear"'),
        ({"curriculum_learning": {**CURRICULUM, "schedule_type": "custom"}}, "asks for a function"),
        ({"curriculum_learning": {**CURRICULUM, "schedule_config": {}}}, "lacks total_curriculum_step"),
        ({"curriculum_learning": {**CURRICULUM, "min_difficulty": "8"}}, 'min_difficulty is "8"'),
        ({"curriculum_learning": {"enabled": True}}, "lacks max_difficulty"),
        ({"curriculum_learning": {**CURRICULUM, "schedule_type": "fixed_discrete",
                                  "schedule_config": {"difficulty": [1, 2], "max_step": [5, 9]}}}, "one less"),
        ({"progressive_layer_drop": {"enabled": True}}, "theta is missing"),
        ({"data_efficiency": {"data_sampling": [1]}}, "data_sampling is [1]"),
        ({"data_efficiency": {"data_sampling": {"curriculum_learning": {"enabled": True}}}}, "curriculum_metrics"),
        ({"data_efficiency": {"data_sampling": {"dynamic_batching": {"enabled": True}}}}, "lacks max_tokens"),
        ({"data_efficiency": {"enabled": True, "data_routing": {"enabled": True, "random_ltd": {"enabled": True}}}},
         "lacks total_layer_num"),
        ({"compression_training": {"weight_quantization": {}}}, "lacks different_groups"),
        ({"compression_training": {"row_pruning": {"shared_parameters": {"method": "l2"}, "different_groups": {}}}},
         "known: l1, topk"),
        ({"compression_training": {"weight_quantization": {**QUANTISED, "shared_parameters": {"enabled": True}}}},
         "works in fp16 alone"),
        ({"compression_training": {"activation_quantization": {"different_groups": {"g": {}}}}}, "lacks params.bits"),
        ({"sparse_attention": {"mode": "foo"}}, 'mode is "foo"'),
        ({"pipeline": None}, "pipeline is null"),
        ({"zero_optimization": {"legacy_stage1": True}}, "legacy_stage1"),
        ({"elasticity": {"enabled": True}}, "refuses those that are given"),
        ({"elasticity": {**ELASTIC, "micro_batch_sizes": 2}}, "list of whole numbers"),
        ({"elasticity": {**ELASTIC, "min_gpus": 4}}, "for 4 to 10000 GPUs"),
        ({"elasticity": {**ELASTIC, "version": 3}}, "0.2 is the highest"),
        ({"flops_profiler": {"enabled": "true"}}, "flops_profiler.enabled"),
        ({"flops_profiler": {"enabled": True, "profile_step": "one"}}, "profile_step"),
        ({"autotuning": {"exps_dir": None}}, "exps_dir"),
        ({"vocabulary_size": "x"}, "vocabulary_size"),
        ({"checkpoint": {"writer": {"type": "foo"}}}, "known: MOCK"),
        ({"bf16": {"bf16_optimizer_states": True}}, "needs bf16_master"),
        ({"bf16": {"bf16_master_weights_and_grads": True}}, "needs offload_optimizer"),
        ({"torch_autocast": {"lower_precision_safe_modules": [1]}}, "a list of names"),
        ({"optimizer": {"type": "RMSprop", "params": {"betas": "auto"}}}, "not taken by RMSprop"),
        ({"optimizer": {"type": "AdamW", "params": {"max_grad_norm": 1}}}, "gradient_clipping is its place"),
        ({"optimizer": {"type": "MuAdam"}}, "package mup"),
        ({"optimizer": {"type": "LBFGS"}}, "closure"),
        ({"optimizer": {"type": "SGD", "params": {"nesterov": True}}}, "momentum above 0"),
        ({"optimizer": {"type": "AdamW", "params": {"weight_decay": "auto"}}}, "weight_decay: -0.1"),
    ],
)  # fmt: skip
def test_what_ends_a_run(changed: dict[str, Any], word: str) -> None:
    assert any(word in one for one in said({**HEALTHY, **changed})), said({**HEALTHY, **changed})


def test_lamb_in_bf16() -> None:
    config = {"optimizer": {"type": "Lamb"}}
    fixed = {**config, "fp16": {"loss_scale": 128}}
    for facts in ({"recipe.values": {"bf16": True}, "deepspeed.bf16_scales": True}, {"recipe.values": {}}):
        assert said(config, **facts) == []
    assert said(config, **{"recipe.values": {"bf16": True}, "deepspeed.bf16_scales": False})
    assert said(fixed, **{"recipe.values": {"fp16": True}})


def test_what_torch_takes(tmp_path: Any) -> None:
    (tmp_path / "optim").mkdir()
    source = "class SparseAdam(Optimizer):\n    def __init__(self, params, lr=1e-3, *, maximize=False): ...\n"
    (tmp_path / "optim/sparse_adam.py").write_text(source)
    (tmp_path / "optim/adagrad.py").write_text("class Adagrad:\n    def __init__(self, params, lr): ...\n")
    assert deepspeed_optimizer.taken({"type": "SparseAdam"}, tmp_path) == ["lr", "maximize"]
    assert deepspeed_optimizer.taken({"type": "AdaGrad"}, tmp_path) == ["lr"]
    for other in ({"type": "AdamW"}, {"type": "../x"}, {"type": 5}, {}, None, [], {"type": "ASGD"}):
        assert deepspeed_optimizer.taken(other, tmp_path) is None


@pytest.mark.parametrize("odd", ODD)
def test_any_value_is_survived(odd: Any) -> None:
    said(odd if isinstance(odd, dict) else {})
    for name, part in {**HEALTHY, "torch_autocast": {"lower_precision_safe_modules": []}, "fp16": {}, **MORE}.items():
        said({**HEALTHY, name: odd})
        for key, value in {**part, "mode": 1, "version": 1, "min_gpus": 1, "loss_scale": 0}.items():
            said({**HEALTHY, name: {**part, key: odd}})
            for inner in value if isinstance(value, dict) else ():
                said({**HEALTHY, name: {**part, key: {**value, inner: odd}}})
    said(HEALTHY, **{"recipe.values": {"weight_decay": odd, "bf16": odd, "fp16": odd}})
