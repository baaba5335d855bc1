"""Faults of the recipe's keys together: what LLaMA-Factory refuses of them, and what they need."""

from __future__ import annotations

from typing import Any

from tests.faults.catalogue.recipe import VALIDATED, values
from tests.faults.fault import COPY, Fault, Inject, together
from tests.faults.workspace import Workspace
from tests.stack.reproductions.data import ranking_data_in_sft


def pairs(**changed: Any) -> Inject:
    """Pairs of answers for DPO, and further keys."""
    return together(ranking_data_in_sft, values(stage="dpo", **changed))


def weights_in_output(place: Workspace) -> None:
    """The model of an earlier run in the output directory, without a checkpoint to go on from."""
    out = place.root / "saves/toy"
    out.mkdir(parents=True)
    (out / "model.safetensors").write_bytes((place.model / "model.safetensors").read_bytes())


def empty_checkpoint(place: Workspace) -> None:
    """The output directory instead of the checkpoint in it."""
    (place.root / "saves/old").mkdir(parents=True)
    place.set_recipe(resume_from_checkpoint="saves/old")


def wandb_offline(place: Workspace) -> None:
    """So that nothing but the package is missing."""
    place.set_recipe(report_to="wandb")
    place.environ["WANDB_MODE"] = "offline"


CONFLICTS = [
    Fault("bf16-and-fp16", "cfg-bf16-fp16-conflict", "bf16 and fp16", values(bf16=True, fp16=True)),
    Fault(
        "val-size-and-eval-dataset",
        "cfg-conflicting-args",
        "val_size and eval_dataset",
        values(val_size=0.25, eval_dataset="Sky-T1"),
    ),
    Fault(
        "eval-without-data",
        "cfg-eval-without-val",
        "eval_strategy: steps and no validation data",
        values(eval_strategy="steps", eval_steps=1),
    ),
    Fault(
        "eval-without-data-current",
        "cfg-eval-without-val",
        "do_eval and no validation data",
        values(do_eval=True),
        "current full",
    ),
    Fault(
        "best-model-strategies",
        "cfg-best-model-strategy",
        "saves per epoch, evaluates per step",
        values(**VALIDATED, load_best_model_at_end=True, save_strategy="epoch"),
    ),
    Fault(
        "best-model-steps",
        "cfg-best-model-strategy",
        "save_steps is no multiple of eval_steps",
        values(**VALIDATED | {"eval_steps": 2}, load_best_model_at_end=True, save_strategy="steps", save_steps=3),
        "current lora",
    ),
    Fault(
        "streaming-without-steps",
        "cfg-streaming-args",
        "streaming without max_steps",
        values(streaming=True, max_steps=None),
    ),
    Fault(
        "streaming-with-fraction",
        "cfg-streaming-args",
        "streaming with val_size 0.1",
        values(streaming=True, val_size=0.1),
    ),
    Fault(
        "streaming-with-workers",
        "cfg-streaming-args",
        "streaming with max_samples",
        values(streaming=True, max_samples=8),
    ),
    Fault(
        "probabilities-without-mixing",
        "cfg-conflicting-args",
        "interleave_probs with concat",
        values(interleave_probs="0.5,0.5"),
    ),
    Fault(
        "quantisation-with-full",
        "quant-no-adapter",
        "full tuning with quantization_bit",
        values(quantization_bit=4),
        packages=COPY,
    ),
    Fault(
        "adapter-with-full",
        "peft-adapter-path-wrong",
        "full tuning with an adapter",
        values(adapter_name_or_path="saves/adapter"),
    ),
    Fault(
        "freeze-too-many",
        "cfg-bad-value-type",
        "freeze_trainable_layers: 0",
        values(finetuning_type="freeze", freeze_trainable_layers=0),
    ),
    Fault(
        "freeze-module-unknown",
        "peft-target-modules-missing",
        "freeze_trainable_modules: query",
        values(finetuning_type="freeze", freeze_trainable_layers=1, freeze_trainable_modules="query"),
    ),
    Fault(
        "lora-target-unknown",
        "peft-target-modules-missing",
        "lora_target: W_pack",
        values(lora_target="W_pack"),
        "sky-t1 lora",
    ),
    Fault(
        "lora-target-of-gpt",
        "peft-target-modules-missing",
        "lora_target: c_attn,c_proj",
        values(lora_target="c_attn,c_proj"),
        "current lora",
    ),
    Fault(
        "galore-with-deepspeed",
        "ds-zero3-unsupported",
        "GaLore under DeepSpeed",
        values(use_galore=True),
        "sky-t1 full zero2",
        packages=COPY,
    ),
    Fault(
        "pure-bf16-with-zero3",
        "cfg-conflicting-args",
        "BAdam by layer with LoRA",
        values(use_badam=True),
        "sky-t1 lora",
    ),
    Fault(
        "generate-under-zero3",
        "eval-generate-zero3",
        "predict_with_generate under ZeRO-3",
        values(**VALIDATED, predict_with_generate=True),
        "sky-t1 full zero3",
        packages=COPY,
    ),
    Fault(
        "pretraining-with-packing-off",
        "cfg-conflicting-args",
        "train_on_prompt with mask_history",
        values(train_on_prompt=True, mask_history=True),
    ),
    Fault(
        "validation-larger-than-data", "data-val-split-too-large", "val_size: 1000 of 16 records", values(val_size=1000)
    ),
    Fault(
        "output-holds-a-model", "cfg-output-dir-not-empty", "output_dir with the weights of a run", weights_in_output
    ),
    Fault(
        "resume-from-nothing",
        "ckpt-missing-optimizer-state",
        "resume_from_checkpoint without a checkpoint",
        empty_checkpoint,
    ),
    Fault(
        "resume-from-nowhere",
        "ckpt-missing-optimizer-state",
        "resume_from_checkpoint: a folder that is not there",
        values(resume_from_checkpoint="saves/toy/checkpoint-100"),
        "current lora",
    ),
]
NEEDS = [
    Fault(
        "pairs-by-length",
        "cfg-conflicting-args",
        "group_by_length with stage: dpo",
        pairs(group_by_length=True),
        "sky-t1 lora",
    ),
    Fault(
        "pairs-by-length-current",
        "cfg-conflicting-args",
        "train_sampling_strategy by length with stage: dpo",
        pairs(train_sampling_strategy="group_by_length"),
        "current lora",
    ),
    Fault("wandb-not-installed", "log-wandb-not-installed", "report_to: wandb", wandb_offline, packages=COPY),
    Fault(
        "tensorboard-not-installed",
        "log-tensorboard-missing",
        "report_to: tensorboard",
        values(report_to="tensorboard"),
        "sky-t1 lora",
        packages=COPY,
    ),
    Fault("tracker-unknown", "cfg-invalid-choice", "report_to: wandbb", values(report_to="wandbb"), "current full"),
    Fault(
        "swanlab-not-installed",
        "log-swanlab-not-installed",
        "use_swanlab",
        values(use_swanlab=True),
        "current lora",
        packages=COPY,
    ),
    Fault(
        "flash-attention-not-installed",
        "attn-flash-missing",
        "flash_attn: fa2",
        values(flash_attn="fa2", bf16=True),
        warns=True,
    ),
    Fault(
        "unsloth-not-installed",
        "attn-unsloth",
        "use_unsloth",
        values(use_unsloth=True),
        "sky-t1 lora",
        packages=COPY,
    ),
    Fault(
        "liger-not-installed",
        "pkg-missing",
        "enable_liger_kernel",
        values(enable_liger_kernel=True),
        "current full",
        packages=COPY,
    ),
    Fault("galore-not-installed", "pkg-missing", "use_galore", values(use_galore=True), packages=COPY),
    Fault(
        "bitsandbytes-not-installed",
        "quant-backend-missing",
        "quantization_bit: 4",
        values(quantization_bit=4),
        "sky-t1 lora",
        healable=False,
        packages=COPY,
    ),
    Fault(
        "bitsandbytes-for-adam",
        "quant-backend-missing",
        "optim: adamw_bnb_8bit",
        values(optim="adamw_bnb_8bit"),
        packages=COPY,
    ),
    Fault(
        "scores-not-installed",
        "pkg-missing",
        "predict_with_generate without jieba",
        values(eval_dataset="Sky-T1", eval_strategy="steps", eval_steps=1, predict_with_generate=True),
        packages=COPY,
    ),
]
FAULTS = [*CONFLICTS, *NEEDS]
