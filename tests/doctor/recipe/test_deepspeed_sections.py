import pytest

from doctor.facts import Facts
from doctor.recipe import deepspeed_sections

ODD = (None, True, 5, -1, 10**400, float("inf"), float("nan"), "auto", "", [], [[1]], {}, {"a": {}})
HEALTHY = {
    "gradient_clipping": "auto",
    "zero_optimization": {"stage": 2, "reduce_bucket_size": "auto"},
    "optimizer": {"type": "AdamW", "params": {"lr": "auto", "betas": [0.9, 0.999], "weight_decay": "auto"}},
    "scheduler": {"type": "WarmupDecayLR", "params": {"total_num_steps": "auto", "warmup_num_steps": 1}},
    "flops_profiler": {"enabled": False},
}


def said(config, **values):
    facts = Facts(
        {"deepspeed.config": config, "deepspeed.config_path": "ds.json", "recipe.values": {"max_steps": 10, **values}}
    )
    return [finding.evidence[0].what for judgement in deepspeed_sections.ALL for finding in judgement(facts)]


def test_a_healthy_one():
    assert said(HEALTHY, warmup_steps=1) == []
    assert said(None) == []


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"comms_logger": True}, "comms_logger is true"),
        ({"bf16": [True]}, "bf16 is [true]"),
        ({"gradient_clipping": None}, "gradient_clipping is null"),
        ({"gradient_predivide_factor": 2}, "takes 1.0 alone"),
        ({"zero_optimization": {"stage": 2, "overlap_comm": "auto"}}, "overlap_comm"),
        ({"zero_optimization": {"stage": 3, "mics_shard_size": 8}}, "mics_shard_size"),
        ({"scheduler": {"type": "OneCycle", "params": {}}}, "lacks cycle_min_lr"),
        ({"scheduler": {"type": "WarmupLR", "params": None}}, "scheduler.params is null"),
        ({"scheduler": {"type": "WarmupLR", "params": {"warmup_min_lr": "0"}}}, "a number is needed"),
        ({"scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": 7}}}, "the recipe makes it 1"),
        ({"optimizer": {"type": "SGD", "params": {"betas": "auto"}}}, "not taken by SGD"),
        ({"optimizer": {"type": "AdamW", "params": {"eps": 1e-6}}}, "optimizer.params.eps"),
    ],
)
def test_what_ends_a_run(changed, word):
    assert any(word in one for one in said({**HEALTHY, **changed}, warmup_steps=1))


@pytest.mark.parametrize("odd", ODD)
def test_any_value_is_survived(odd):
    for name in (*HEALTHY, "aio", "checkpoint", "gradient_predivide_factor"):
        said({**HEALTHY, name: odd})
    for name in ("optimizer", "scheduler", "zero_optimization"):
        for key in HEALTHY[name]:
            said({**HEALTHY, name: {**HEALTHY[name], key: odd}})
    for key in ("total_num_steps", "warmup_num_steps", "warmup_type", "x_lr"):
        said({**HEALTHY, "scheduler": {"type": "WarmupLR", "params": {key: odd}}})
    for key in ("max_steps", "warmup_steps", "warmup_ratio", "adam_epsilon", "weight_decay"):
        said(HEALTHY, **{key: odd})
