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


def said(config, transformers="5.6.0", **values):
    facts = Facts({
        "deepspeed.config": config, "deepspeed.config_path": "ds.json", "recipe.values": {"max_steps": 10, **values},
        "packages.versions": {"transformers": transformers},
    })  # fmt: skip
    return [finding.evidence[0].what for judgement in deepspeed_sections.ALL for finding in judgement(facts)]


def test_a_healthy_one():
    assert said(HEALTHY, warmup_steps=1) == []
    assert said(None) == []


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"comms_logger": True}, "comms_logger is true"),
        ({"fp16": {"enabled": "auto", "loss_scale": "auto"}}, 'fp16.loss_scale: "auto"'),
        ({"communication_data_type": "auto"}, "communication_data_type"),
        ({"ours": {"note": "auto"}}, "ours.note"),
        ({"amp": {"enabled": "auto"}}, "amp.enabled"),
        ({"amp": {"opt_level": "O1"}}, "amp has no enabled"),
        ({"gradient_clipping": None}, "gradient_clipping is null"),
        ({"gradient_predivide_factor": 2}, "takes 1.0 alone"),
        ({"zero_optimization": {"stage": 2, "overlap_comm": "auto"}}, "overlap_comm"),
        ({"zero_optimization": {"stage": 3, "mics_shard_size": 8}}, "mics_shard_size"),
        ({"scheduler": {"type": "OneCycle", "params": {}}}, "lacks cycle_min_lr"),
        ({"scheduler": {"type": "WarmupLR", "params": None}}, "scheduler.params is null"),
        ({"scheduler": {"type": "WarmupLR", "params": {"warmup_min_lr": "0"}}}, "a number is needed"),
        ({"scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": 7}}}, "the recipe makes it 1"),
        ({"scheduler": {"type": "WarmupLR"}}, "has no params"),
        ({"zero_optimization": {"stage": 2, "offload_optimizer": None}}, "offload_optimizer is null"),
        ({"zero_optimization": {"stage": 2, "reduce_bucket_size": 10**30}}, "more than 64 bits"),
        ({"gradient_accumulation_steps": None}, "gradient_accumulation_steps is null"),
        ({"optimizer": {"type": "AdamW", "params": {"eps": 1e-6}}}, "optimizer.params.eps"),
    ],
)
def test_what_ends_a_run(changed, word):
    assert any(word in one for one in said({**HEALTHY, **changed}, warmup_steps=1))


def test_auto_that_is_filled_in():
    zero = {"stage": 3, "stage3_prefetch_bucket_size": "auto", "offload_optimizer": {"device": "auto"}}
    filled = {
        "steps_per_print": "auto",
        "bf16": {"enabled": "auto"},
        "zero_optimization": zero,
        "ours": {"x": ["auto"]},
    }
    assert said({**HEALTHY, **filled}, warmup_steps=1) == []
    assert said({**HEALTHY, "amp": {"enabled": "auto"}}, "4.57.1", warmup_steps=1) == []


def test_auto_is_taken_out():
    facts = Facts({
        "deepspeed.config": {"fp16": {"loss_scale": "auto"}}, "deepspeed.config_path": "ds.json", "packages.versions": {},
    })  # fmt: skip
    (finding,) = deepspeed_sections.auto_is_filled(facts)
    assert finding.details["removed_keys"] == ["fp16.loss_scale"]


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


@pytest.mark.parametrize(
    ("zero", "word"),
    [
        ({"stage": 2, "offload_param": {"device": "cpu"}}, "offload_param is not used below stage 3"),
        ({"stage": 0, "offload_optimizer": {"device": "cpu"}}, "offload_optimizer is not used below stage 1"),
        ({"stage": 2, "offload_param": {"device": "none"}}, None),
        ({"stage": 2, "offload_optimizer": {"device": "cpu"}}, None),
        ({"stage": 3, "offload_param": {"device": "cpu"}}, None),
    ],
)
def test_offload_that_its_stage_does_not_use(zero, word):
    told = said({"zero_optimization": zero})
    assert len(told) == bool(word)
    assert not word or word in told[0]
