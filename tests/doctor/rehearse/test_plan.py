"""The recipe of a rehearsal: what is changed, what stays, what is said not to be rehearsed."""

import pytest

from doctor.rehearse import plan
from doctor.rehearse.data import Data

SKY = {
    "stage": "sft", "do_train": True, "finetuning_type": "full", "deepspeed": "ds.json", "dataset": "Sky-T1",
    "template": "qwen", "cutoff_len": 16384, "output_dir": "saves/x", "save_steps": 100, "logging_steps": 1,
    "gradient_accumulation_steps": 12, "per_device_train_batch_size": 1, "num_train_epochs": 3.0, "bf16": True,
    "report_to": "wandb", "learning_rate": 1e-5,
}  # fmt: skip
LAPTOP = plan.Machine(gpus=0, real=8, nodes=1, bf16_on_cpu=True)
EIGHT = plan.Machine(gpus=8, real=8, nodes=1, bf16_on_cpu=False)


def made(values, machine=LAPTOP, deepspeed=None, data=None):
    return plan.make(values, machine, data or Data(records=48, total=17000), 152064, deepspeed)


def said(result):
    return " ".join(note.en for note in result.notes)


def test_only_what_must_change_changes():
    result = made(SKY)
    assert result.values.keys() == {"cutoff_len", "max_steps", "save_steps", "logging_steps", "report_to"}
    assert result.unset == []
    assert "wandb" in said(result)
    assert result.values["report_to"] == "none"
    assert 64 <= result.values["cutoff_len"] < 1024
    assert "cutoff_len: 16384 was made" in said(result)
    assert "gradient_accumulation_steps" not in result.limits
    assert result.processes == 2
    assert "no GPU" in said(result)
    assert all(note.zh for note in result.notes)


def test_gpus_keep_lengths_and_kernels():
    result = made({**SKY, "flash_attn": "fa2", "cutoff_len": 4096}, EIGHT)
    assert "cutoff_len" not in result.values
    assert "flash_attn" not in result.unset
    assert result.processes == 2


def test_one_gpu_is_one_process():
    assert made(SKY, plan.Machine(gpus=1, real=1, nodes=1, bf16_on_cpu=False)).processes == 1


def test_what_needs_a_gpu_is_taken_out_and_named():
    values = {
        **SKY,
        "flash_attn": "fa2",
        "enable_liger_kernel": True,
        "quantization_bit": 4,
        "optim": "adamw_8bit",
        "finetuning_type": "lora",
    }
    result = made(values)
    for key in ("flash_attn", "enable_liger_kernel", "quantization_bit", "optim"):
        assert key in result.unset
        assert key in said(result)
    assert "flash_attn" not in made({**SKY, "flash_attn": "sdpa"}).unset


def test_bf16_where_it_is_refused_without_a_gpu():
    machine = plan.Machine(gpus=0, real=1, nodes=1, bf16_on_cpu=False)
    fixed = {"bf16": {"enabled": True}, "zero_optimization": {"stage": 3}}
    result = made(SKY, machine, fixed)
    assert "bf16" in result.unset
    assert result.deepspeed == {"bf16": {"enabled": "auto"}, "zero_optimization": {"stage": 3}}
    assert made(SKY, machine, {"bf16": {"enabled": "auto"}}).deepspeed is None
    assert made(SKY, LAPTOP, fixed).deepspeed is None


def test_evaluation_only_where_the_recipe_evaluates():
    assert "evaluate" in made(SKY).skips
    old = made({**SKY, "evaluation_strategy": "epoch", "val_size": 500})
    assert old.values["evaluation_strategy"] == "steps"
    assert old.values["eval_steps"] == 1
    assert old.values["val_size"] == 8
    assert "evaluate" not in old.skips
    assert made({**SKY, "eval_strategy": "steps", "val_size": 0.1}).values.get("val_size") is None


def test_a_validation_set_larger_than_the_data_stays_for_the_run_to_refuse():
    assert "val_size" not in made({**SKY, "val_size": 500}, data=Data(records=48, total=100)).values


def test_no_checkpoints_no_resume():
    assert "resume" in made({**SKY, "save_strategy": "no"}).skips
    assert "save_strategy" not in made({**SKY, "save_strategy": "no"}).values
    assert "resume" in made({**SKY, "save_only_model": True}).skips
    assert made({**SKY, "save_strategy": "epoch"}).values["save_strategy"] == "steps"
    assert "resume" not in made(SKY).skips


def test_endless_accumulation_is_cut_and_said():
    result = made({**SKY, "gradient_accumulation_steps": 512})
    assert result.limits["gradient_accumulation_steps"] == [512, 64]
    assert "512" in said(result)


def test_two_processes_prepare_the_data_where_more_are_asked_for():
    result = made({**SKY, "preprocessing_num_workers": 16})
    assert result.values["preprocessing_num_workers"] == 2
    assert result.limits["preprocessing_num_workers"] == [16, 2]
    for few in ({"preprocessing_num_workers": 1}, {"preprocessing_num_workers": None}, {}):
        assert "preprocessing_num_workers" not in made({**SKY, **few}).values


@pytest.mark.parametrize(
    "refused",
    [
        {"cutoff_len": "long"}, {"gradient_accumulation_steps": "12"}, {"max_steps": "100"}, {"save_steps": "100"},
        {"save_strategy": "stepps"}, {"eval_strategy": "sometimes"}, {"report_to": "wandbb"}, {"logging_steps": "1"},
        {"quantization_bit": 4}, {"fp16": True},
    ],
)  # fmt: skip
def test_values_that_llamafactory_would_refuse_stay(refused):
    result = made({**SKY, **refused})
    for key in refused:
        assert key not in result.values
        assert key not in result.unset


def test_a_precision_that_only_the_json_fixes_stays_for_the_run_to_refuse():
    values = {key: value for key, value in SKY.items() if key != "bf16"}
    assert made(values, deepspeed={"bf16": {"enabled": True}}).deepspeed is None


def test_what_cannot_be_rehearsed_at_all():
    assert plan.refused(SKY, {}) is None
    assert plan.refused({**SKY, "stage": "ppo"}, {})
    assert plan.refused({**SKY, "do_train": False}, {})
    assert plan.refused(SKY, {"USE_RAY": "1"})
