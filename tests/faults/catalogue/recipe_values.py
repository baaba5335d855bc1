"""Faults of the recipe that the parser takes: values that end the run later, or that do something else than was asked."""

from __future__ import annotations

import json

from tests.faults.catalogue.deepspeed import environ
from tests.faults.catalogue.recipe import VALIDATED, line, values
from tests.faults.fault import COPY, Fault, together
from tests.faults.workspace import Workspace

BEST = {"load_best_model_at_end": True, "save_strategy": "steps", "save_steps": 1}
FREEZE = {"finetuning_type": "freeze", "freeze_trainable_layers": 1}
TORCHRUN = environ(FORCE_TORCHRUN="1", MASTER_PORT="29573")
GPU = {"healable": False}  # a GPU, or a package that is built for one


def two_sets(place: Workspace) -> None:
    """The data under two names, mixed by shares that do not add up."""
    info = json.loads(place.info.read_text())
    place.info.write_text(json.dumps({**info, "more": info["Sky-T1"]}, indent=2))
    place.set_recipe(dataset="Sky-T1,more", mix_strategy="interleave_under", interleave_probs="0.5,0.6")


CHOICES = [
    Fault("backend-misspelt", "cfg-invalid-choice", "ddp_backend: ncll",
          together(values(ddp_backend="ncll"), TORCHRUN), fresh=True),
    Fault("backend-misspelt-current", "cfg-invalid-choice", "ddp_backend: ncll",
          together(values(ddp_backend="ncll"), TORCHRUN), "current full", fresh=True),
    Fault("backend-of-gpus", "cuda-unavailable", "ddp_backend: nccl on a machine without GPU",
          together(values(ddp_backend="nccl"), TORCHRUN), fresh=True, healable=False),
    Fault("backend-without-torchrun", "launch-torchrun-missing", "ddp_backend: gloo with FORCE_TORCHRUN=0",
          together(values(ddp_backend="gloo"), environ(MASTER_PORT="29573"))),
    Fault("backend-without-torchrun-current", "launch-torchrun-missing", "ddp_backend: gloo with FORCE_TORCHRUN=0",
          together(values(ddp_backend="gloo"), environ(MASTER_PORT="29573")), "current lora"),
    Fault("log-level-unknown", "cfg-invalid-choice", "log_level: warn", values(log_level="warn")),
    Fault("log-level-of-replicas", "cfg-invalid-choice", "log_level_replica: errors", values(log_level_replica="errors"),
          "current lora"),
    Fault("compiler-unknown", "cfg-invalid-choice", "torch_compile_backend: inductr",
          values(torch_compile_backend="inductr"), healable=False),  # the right one does not compile the toy model
    Fault("compile-mode-unknown", "cfg-invalid-choice", "torch_compile_mode: fastest",
          values(torch_compile=True, torch_compile_mode="fastest"), "current full", healable=False),
    Fault("tool-format-unknown", "cfg-invalid-choice", "tool_format: qwenn", values(tool_format="qwenn"), healable=False),
    Fault("tool-format-unknown-current", "cfg-invalid-choice", "tool_format: qwenn", values(tool_format="qwenn"),
          "current full"),
]  # fmt: skip
VALUES = [
    Fault("seed-negative", "cfg-bad-value-type", "seed: -1", values(seed=-1)),
    Fault("seed-too-large", "cfg-bad-value-type", "seed: 12345678901", values(seed=12345678901), "current full"),
    Fault("trackers-left-empty", "cfg-bad-value-type", "report_to: null with transformers 5", line("report_to: null"),
          "current full"),
    Fault("data-seed-too-early", "pkg-accelerate-mismatch", "data_seed with an accelerate before 1.1",
          values(data_seed=42)),
    Fault("evaluation-batch-zero", "cfg-bad-value-type", "per_device_eval_batch_size: 0",
          values(**VALIDATED | {"per_device_eval_batch_size": 0})),
    Fault("cache-emptied-never", "cfg-bad-value-type", "torch_empty_cache_steps: 0", values(torch_empty_cache_steps=0),
          healable=False),
    Fault("noise-negative", "cfg-bad-value-type", "neftune_noise_alpha: -5", values(neftune_noise_alpha=-5), "current lora"),
    Fault("buffer-empty", "cfg-bad-value-type", "buffer_size: 0", values(streaming=True, buffer_size=0)),
    Fault("shares-beyond-one", "cfg-bad-value-type", "interleave_probs: 0.5,0.6", two_sets),
    Fault("samples-broken", "cfg-bad-value-type", "max_samples: 8.0", line("max_samples: 8.0")),
    Fault("samples-broken-current", "cfg-bad-value-type", "max_samples: 8.0", line("max_samples: 8.0"), "current full"),
    Fault("samples-broken-and-many", "cfg-bad-value-type", "max_samples: 1000.0, of 16 records",
          line("max_samples: 1000.0"), warns=True),
    Fault("cutoff-broken", "cfg-bad-value-type", "cutoff_len: 32.0", line("cutoff_len: 32.0")),
    Fault("cutoff-broken-current", "cfg-bad-value-type", "cutoff_len: 32.0", line("cutoff_len: 32.0"), "current lora"),
    Fault("rank-broken", "cfg-bad-value-type", "lora_rank: 2.0", line("lora_rank: 2.0"), "sky-t1 lora"),
    Fault("output-is-a-number", "cfg-bad-value-type", "output_dir: 123", values(output_dir=123),
          healable=False),  # it is, and the run is then not looked for in that folder
    Fault("template-is-a-number", "cfg-bad-value-type", "template: 5", values(template=5), healable=False),
    Fault("dataset-is-a-mapping", "cfg-bad-value-type", "dataset: {Sky-T1: 1}", values(dataset={"Sky-T1": 1}),
          "current full", healable=False),
    Fault("scheduler-arguments-as-text", "cfg-bad-value-type", "lr_scheduler_kwargs: min_lr=1e-6",
          values(lr_scheduler_type="cosine_with_min_lr", lr_scheduler_kwargs="min_lr=1e-6"), healable=False),
    Fault("checkpointing-as-text", "cfg-bad-value-type", "gradient_checkpointing_kwargs: reentrant",
          values(gradient_checkpointing=True, gradient_checkpointing_kwargs="reentrant"), "current full", healable=False),
    Fault("optimizer-arguments-bare", "cfg-bad-value-type", "optim_args: betas", values(optim_args="betas"),
          "current full", healable=False),
    Fault("rate-without-minus", "cfg-bad-value-type", "learning_rate: 1.0e+5", line("learning_rate: 1.0e+5"), warns=True,
          healable=False),
    Fault("epochs-none", "cfg-does-not-train", "num_train_epochs: 0", values(max_steps=None, num_train_epochs=0),
          shows=r"train_loss +=? +0\.0\b", healable=False),
    Fault("cache-dir-is-a-file", "disk-readonly", "cache_dir: data/dataset_info.json",
          values(cache_dir="data/dataset_info.json"), healable=False),
    Fault("tokenized-path-is-a-file", "disk-readonly", "tokenized_path: data/dataset_info.json",
          values(tokenized_path="data/dataset_info.json"), "current full", healable=False),
]  # fmt: skip
CONFLICTS = [
    Fault("pro-does-not-divide", "cfg-conflicting-args", "use_llama_pro with 3 of 2 layers",
          values(**FREEZE | {"freeze_trainable_layers": 3}, use_llama_pro=True)),
    Fault("pro-does-not-divide-current", "cfg-conflicting-args", "use_llama_pro with 3 of 2 layers",
          values(use_llama_pro=True, freeze_trainable_layers=3), "current lora"),
    Fault("extra-module-unknown", "peft-target-modules-missing", "freeze_extra_modules: lm_headd",
          values(**FREEZE, freeze_extra_modules="lm_headd"), healable=False),
    Fault("additional-target-unknown", "peft-target-modules-missing", "additional_target: embed, passed over",
          values(additional_target="embed"), "sky-t1 lora", warns=True, healable=False),
    Fault("lora-target-partly-unknown", "peft-target-modules-missing", "lora_target: q_proj,W_pack, half passed over",
          values(lora_target="q_proj,W_pack"), "current lora", warns=True, healable=False),
    Fault("metric-misspelt", "cfg-best-model-strategy", "metric_for_best_model: eval_los",
          values(**VALIDATED, **BEST, metric_for_best_model="eval_los")),
    Fault("metric-of-training", "cfg-best-model-strategy", "metric_for_best_model: train_loss",
          values(**VALIDATED, **BEST, metric_for_best_model="train_loss"), "current full"),
    Fault("stops-by-nothing", "cfg-best-model-strategy", "early_stopping_steps without a metric",
          values(early_stopping_steps=3), "current full", healable=False),
    Fault("saves-the-best-of-nothing", "cfg-best-model-strategy", "save_strategy: best without a metric",
          values(**VALIDATED, save_strategy="best"), "current lora"),
    Fault("workers-persist-without-any", "cfg-conflicting-args", "dataloader_persistent_workers without workers",
          values(dataloader_persistent_workers=True)),
    Fault("batch-never-full", "cfg-conflicting-args", "dataloader_drop_last with a batch of 32 of 16 records",
          values(dataloader_drop_last=True, per_device_train_batch_size=32)),
    Fault("stream-sorted-by-length", "cfg-streaming-args", "group_by_length with streaming",
          values(streaming=True, group_by_length=True), healable=False),
    Fault("reward-model-absent", "peft-adapter-path-wrong", "reward_model: a folder that is not there",
          values(stage="ppo", reward_model="saves/reward"), "sky-t1 lora", healable=False),
    Fault("one-adapter-absent", "peft-adapter-path-wrong", "adapter_name_or_path: first,second",
          values(adapter_name_or_path="first,second"), "sky-t1 lora", healable=False),
    Fault("attention-shifted-nowhere", "attn-not-supported-by-model", "shift_attn with qwen2", values(shift_attn=True),
          warns=True, healable=False),
    Fault("fsdp-without-gpu", "cuda-unavailable", "fsdp: full_shard on a machine without GPU", values(fsdp="full_shard"),
          **GPU),
    Fault("fsdp-without-gpu-current", "cuda-unavailable", "fsdp: full_shard on a machine without GPU",
          values(fsdp="full_shard"), "current full", **GPU),
]  # fmt: skip
NEEDS = [
    Fault("apex-not-installed", "pkg-missing", "optim: adamw_apex_fused", values(optim="adamw_apex_fused"), **GPU),
    Fault("apex-for-fp16", "pkg-missing", "half_precision_backend: apex",
          together(values(half_precision_backend="apex"), values(fp16=True)), **GPU),
    Fault("lomo-not-installed", "pkg-missing", "optim: lomo", values(optim="lomo"), packages=COPY, healable=False),
    Fault("schedulefree-not-installed", "pkg-missing", "optim: schedule_free_adamw", values(optim="schedule_free_adamw"),
          "current full", packages=COPY, healable=False),
    Fault("torchao-not-installed", "pkg-missing", "optim: adamw_torch_4bit", values(optim="adamw_torch_4bit"),
          "current lora", packages=COPY, healable=False),
    Fault("xla-not-installed", "pkg-missing", "optim: adamw_torch_xla", values(optim="adamw_torch_xla"), **GPU),
    Fault("galore-by-optim", "pkg-missing", "optim: galore_adamw", values(optim="galore_adamw"), healable=False),
    Fault("ademamix-without-bitsandbytes", "quant-backend-missing", "optim: ademamix", values(optim="ademamix"), **GPU),
    Fault("liger-by-the-trainer", "pkg-missing", "use_liger_kernel", values(use_liger_kernel=True), healable=False),
]  # fmt: skip
FAULTS = [*CHOICES, *VALUES, *CONFLICTS, *NEEDS]
