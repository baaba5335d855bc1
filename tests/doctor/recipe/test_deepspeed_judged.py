import pytest

from doctor.facts import Facts
from doctor.recipe import deepspeed_judged
from knowledge_base.schema import Severity

ZERO = {"zero_optimization": {"stage": 2}}


def found(config, values=None, **more):
    facts = Facts({
        "deepspeed.config": config, "deepspeed.config_path": "ds.json", "packages.versions": {}, "recipe.path": "r.yaml",
        "recipe.values": values or {}, "launch.world_size": 1, "gpu.count": 0, "gpu.devices": [], **more,
    })  # fmt: skip
    return [f for judgement in deepspeed_judged.ALL for f in judgement(facts)]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"bf16": True}, "bf16 is true; an object"),
        ({"optimizer": "AdamW"}, 'optimizer is "AdamW"; an object'),
        ({"bf16": [1]}, "bf16 is [1]; an object"),
        ({"fp16": "auto"}, 'fp16 is "auto"; an object'),
        ({"scheduler": "auto"}, 'scheduler is "auto"; an object'),
        ({"optimizer": {"type": "AdamW", "params": {"lr": None}}}, "optimizer.params.lr is null"),
        ({"optimizer": {"params": {}}}, "names no type"),
        ({"optimizer": {"type": "AdamW", "params": {"learning_rate": 1}}}, "optimizer.params.learning_rate"),
        ({"optimizer": {"type": "OneBitAdam"}}, "not compatible with ZeRO"),
        ({"scheduler": {"type": "CosineLR"}}, "is none of LRRangeTest"),
        ({"scheduler": {"params": {}}}, "names no type"),
        ({"scheduler": {"type": "WarmupLR", "params": {"warmup_steps": 1}}}, "scheduler.params.warmup_steps"),
        ({"communication_data_type": "float32"}, "no dtype; known: fp16, bf16, fp32"),
        ({"data_types": {"grad_accum_dtype": "fp23"}}, "no dtype"),
        ({"checkpoint": {"tag_validation": "Maybe"}}, "tag_validation"),
        ({"wall_clock_breakdown": "yes"}, "true or false"),
        ({"prescale_gradients": True}, "prescale_gradients"),
        ({"tensor_parallel": {"autotp_size": 4}}, "autotp_size is 4 with 1"),
    ],
)
def test_what_ends_the_run(changed, says):
    (finding,) = found({**ZERO, **changed})
    assert finding.cause == "ds-config-invalid"
    assert finding.severity is None
    assert says in finding.evidence[0].what


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"bf16": {"enabled": "auto"}, "fp16": {"enabled": False, "loss_scale": 0}},
        {"optimizer": {"type": "AdamW", "params": {"lr": "auto", "betas": "auto", "torch_adam": True}}},
        {"optimizer": {"type": "SGD", "params": {"lr": "auto", "momentum": 0.9}}},
        {"scheduler": {"type": "WarmupDecayLR", "params": {"total_num_steps": "auto", "warmup_num_steps": "auto"}}},
        {"communication_data_type": "bf16", "data_types": {"grad_accum_dtype": "fp32"}},
        {"checkpoint": {"tag_validation": "Ignore"}, "wall_clock_breakdown": False, "train_batch_size": "auto"},
        {"tensorboard": {"enabled": False}, "amp": {"enabled": False}, "_comment": "ours"},
    ],
)
def test_what_is_right(changed):
    assert not found({**ZERO, **changed})


def test_zero_is_needed():
    (finding,) = found({"zero_optimisation": {"stage": 2}})
    assert 'is "zero_optimisation" meant' in finding.evidence[0].what


def test_keys_that_nobody_reads():
    for changed in ({"gradient_acumulation_steps": 2}, {"bf16": {"enable": True}}):
        (finding,) = found({**ZERO, **changed})
        assert finding.severity is Severity.WARNING


def test_true_is_made_an_object():
    (finding,) = found({**ZERO, "bf16": True})
    assert finding.details["corrected_values"] == {"bf16": {"enabled": True}}


def test_auto_is_made_an_object():
    (finding,) = found({**ZERO, "fp16": "auto"})
    assert finding.details["corrected_values"] == {"fp16": {"enabled": "auto"}}


@pytest.mark.parametrize("offload", [{}, {"offload_optimizer": {"device": "cpu"}}])
def test_optimizers_without_a_kernel_for_the_cpu(offload):
    config = {"zero_optimization": {"stage": 2, **offload}, "optimizer": {"type": "Lion", "params": {"lr": "auto"}}}
    (finding,) = found(config)
    assert finding.cause == "cuda-unavailable"
    assert not found(config, **{"gpu.count": 1})


def test_what_disagrees_with_the_recipe():
    assert [f.cause for f in found({**ZERO, "train_batch_size": "Auto"})] == ["ds-config-hf-mismatch"]
    amp = {**ZERO, "amp": {"enabled": True}}
    assert [f.cause for f in found(amp)] == ["ds-config-hf-mismatch"]
    assert not found(amp, {"fp16": True, "half_precision_backend": "apex"}, **{"gpu.count": 1})


def test_monitors_need_their_packages():
    config = {**ZERO, "tensorboard": {"enabled": True}, "wandb": {"enabled": True}}
    assert [f.cause for f in found(config)] == ["log-tensorboard-missing", "log-wandb-not-installed"]
    assert not found(config, **{"packages.versions": {"tensorboard": "2", "wandb": "1"}})


def test_fp16_without_a_gpu():
    (finding,) = found(ZERO, {"fp16": True})
    assert (finding.cause, finding.severity) == ("gpu-bf16-unsupported", Severity.WARNING)


def test_no_deepspeed_no_finding():
    assert not found(None)
