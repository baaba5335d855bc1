"""Faults of the recipe: keys, types, choices, and combinations that LLaMA-Factory refuses."""

from __future__ import annotations

from typing import Any

from tests.faults.fault import Fault, Inject, together
from tests.faults.workspace import Workspace

MODEL, DATA = ("--model", "{model}"), ("--dataset", "{data}")
VALIDATED = {"val_size": 0.25, "eval_strategy": "steps", "eval_steps": 1, "per_device_eval_batch_size": 1}


def values(**changed: Any) -> Inject:
    return lambda place: place.set_recipe(**changed)


def line(text: str) -> Inject:
    return lambda place: place.add_line(text)


def second_line(text: str) -> Inject:
    """A key that is given again."""
    return lambda place: _append(place, text)


def _append(place: Workspace, text: str) -> None:
    place.recipe.write_text(place.recipe.read_text() + text + "\n")


def renamed_file(suffix: str) -> Inject:
    def inject(place: Workspace) -> None:
        place.recipe = place.recipe.rename(place.recipe.with_suffix(suffix))

    return inject


def in_gbk(place: Workspace) -> None:
    """A comment in Chinese, saved by an editor of another code page."""
    place.recipe.write_bytes("# 全量微调\n".encode("gbk") + place.recipe.read_bytes())


def broken_tokenized(place: Workspace) -> None:
    """A folder of tokenised data whose writing was broken off."""
    (place.root / "tokenized").mkdir()
    (place.root / "tokenized/data-00000-of-00001.arrow").write_bytes(b"")
    place.set_recipe(tokenized_path="tokenized")


KEYS = [
    Fault("key-misspelt", "cfg-unknown-key", "evalution_strategy", values(evalution_strategy="no")),
    Fault(
        "key-of-transformers-4",
        "cfg-unknown-key",
        "evaluation_strategy in a recipe for transformers 5",
        values(evaluation_strategy="no"),
        "current full",
    ),
    Fault("key-of-newer-release", "cfg-unknown-key", "enable_thinking with 0.9.1", values(enable_thinking=True)),
    Fault("key-with-dashes", "cfg-unknown-key", "learning-rate", line("learning-rate: 0.001"), "current lora"),
    Fault("key-capitalised", "cfg-unknown-key", "Learning_Rate", line("Learning_Rate: 0.001")),
    Fault(
        "key-cutoff-length",
        "cfg-unknown-key",
        "cutoff_length",
        values(cutoff_length=64, cutoff_len=None),
        "sky-t1 lora",
    ),
    Fault("key-of-deepspeed-cli", "cfg-unknown-key", "deepspeed_config", values(deepspeed_config="ds.json")),
    Fault("key-of-peft", "cfg-unknown-key", "target_modules", values(target_modules="q_proj"), "current lora"),
    Fault(
        "key-given-twice",
        "cfg-duplicate-key",
        "learning_rate twice: OmegaConf refuses it",
        second_line("learning_rate: 0.01"),
        "current full",
    ),
    Fault(
        "key-given-twice-pyyaml",
        "cfg-duplicate-key",
        "learning_rate twice: the last one counts",
        second_line("learning_rate: 0.01"),
        warns=True,
    ),
]
TYPES = [
    Fault("learning-rate-text", "cfg-lr-string", "learning_rate: 1e-3", line("learning_rate: 1e-3")),
    Fault("weight-decay-text", "cfg-bad-value-type", "weight_decay: 1e-2", line("weight_decay: 1e-2")),
    Fault("ratio-in-percent", "cfg-bad-value-type", "warmup_ratio: 10%", line("warmup_ratio: 10%")),
    Fault(
        "epochs-in-words",
        "cfg-bad-value-type",
        "num_train_epochs: three",
        together(values(max_steps=None), line("num_train_epochs: three")),
    ),
    Fault(
        "batch-size-broken",
        "cfg-bad-value-type",
        "per_device_train_batch_size: 1.5",
        values(per_device_train_batch_size=1.5),
        "current full",
    ),
    Fault(
        "batch-size-quoted",
        "cfg-bad-value-type",
        'per_device_train_batch_size: "2"',
        line('per_device_train_batch_size: "2"'),
    ),
    Fault("cutoff-with-unit", "cfg-bad-value-type", "cutoff_len: 16k", line("cutoff_len: 16k")),
    Fault(
        "accumulation-zero",
        "cfg-bad-value-type",
        "gradient_accumulation_steps: 0",
        values(gradient_accumulation_steps=0),
    ),
    Fault(
        "batch-size-zero",
        "cfg-bad-value-type",
        "per_device_train_batch_size: 0",
        values(per_device_train_batch_size=0),
        "current lora",
    ),
    Fault("lora-rank-zero", "cfg-bad-value-type", "lora_rank: 0", values(lora_rank=0), "sky-t1 lora"),
    Fault("logging-steps-zero", "cfg-conflicting-args", "logging_steps: 0", values(logging_steps=0)),
    Fault(
        "switch-in-quotes",
        "cfg-bad-value-type",
        'do_eval: "false", which counts as true',
        together(values(**VALIDATED | {"eval_strategy": "no", "eval_steps": None}), line('do_eval: "false"')),
        shows=r"eval_loss",
    ),
]
MORE = [
    Fault("learning-rate-with-comma", "cfg-bad-value-type", "learning_rate: 0,001", line("learning_rate: 0,001")),
    Fault("warmup-ratio-too-large", "cfg-bad-value-type", "warmup_ratio: 10", values(warmup_ratio=10)),
    Fault("max-samples-none", "cfg-bad-value-type", "max_samples: None", line("max_samples: None"), "current lora"),
    Fault("cutoff-zero", "cfg-bad-value-type", "cutoff_len: 0", values(cutoff_len=0)),
    Fault("dataset-trailing-comma", "data-entry-missing", "dataset: Sky-T1,", values(dataset="Sky-T1,"), "sky-t1 lora"),
    Fault("dataset-dir-is-a-file", "cli-wrong-workdir", "dataset_dir: data/dataset_info.json",
          values(dataset_dir="data/dataset_info.json")),
    Fault("lora-target-all-linear", "peft-target-modules-missing", "lora_target: all-linear, which is PEFT's word",
          values(lora_target="all-linear"), "sky-t1 lora"),
    Fault("scheduler-without-its-arguments", "cfg-missing-argument", "cosine_with_min_lr without lr_scheduler_kwargs",
          values(lr_scheduler_type="cosine_with_min_lr")),
    Fault("tokenized-path-broken", "data-cache-corrupt", "tokenized_path whose writing was broken off", broken_tokenized),
    Fault("key-indented", "cfg-yaml-syntax", "one key is indented", second_line("  warmup_ratio: 0.1"), healable=False),
]  # fmt: skip
BESIDE = [
    Fault("model-empty", "cfg-missing-argument", 'model_name_or_path: ""', values(model_name_or_path=""), arguments=MODEL),
    Fault("dataset-empty-list", "cfg-missing-argument", "dataset: []", values(dataset=[]), healable=False),
    Fault("output-empty", "cfg-missing-argument", 'output_dir: ""', values(output_dir=""), "sky-t1 lora"),
    Fault("template-empty", "tmpl-missing", 'template: ""', values(template="")),
    Fault("lora-dropout-too-high", "cfg-bad-value-type", "lora_dropout: 1.5", values(lora_dropout=1.5), "current lora"),
    Fault("loader-workers-negative", "cfg-bad-value-type", "dataloader_num_workers: -1", values(dataloader_num_workers=-1)),
    Fault("tokeniser-workers-zero", "cfg-bad-value-type", "preprocessing_num_workers: 0",
          values(preprocessing_num_workers=0)),
    Fault("samples-zero", "cfg-bad-value-type", "max_samples: 0", values(max_samples=0), healable=False),
    Fault("scheduler-foreign-arguments", "cfg-conflicting-args", "min_lr for the scheduler cosine",
          values(lr_scheduler_type="cosine", lr_scheduler_kwargs={"min_lr": 1e-06})),
    Fault("val-size-one", "data-val-split-too-large", "val_size: 1.0",
          values(**VALIDATED | {"val_size": 1.0}), "current full"),
    Fault("metric-unmeasured", "cfg-best-model-strategy", "metric_for_best_model: accuracy, which is not measured",
          values(**VALIDATED, load_best_model_at_end=True, save_strategy="steps", save_steps=1,
                 metric_for_best_model="accuracy")),
]  # fmt: skip
CHOICES = [
    Fault("scheduler-unknown", "cfg-invalid-choice", "lr_scheduler_type: cosin", values(lr_scheduler_type="cosin")),
    Fault(
        "method-unknown",
        "cfg-invalid-choice",
        "finetuning_type: qlora",
        values(finetuning_type="qlora"),
        "current full",
    ),
    Fault("stage-in-capitals", "cfg-invalid-choice", "stage: SFT", values(stage="SFT")),
    Fault("optimizer-unknown", "cfg-invalid-choice", "optim: adamw8bit", values(optim="adamw8bit"), "current lora"),
    Fault(
        "eval-strategy-unknown",
        "cfg-invalid-choice",
        "eval_strategy: step",
        values(**VALIDATED | {"eval_strategy": "step"}),
    ),
    Fault("attention-unknown", "cfg-invalid-choice", "flash_attn: flash2", values(flash_attn="flash2")),
    Fault("template-of-the-fork", "tmpl-unknown", "template: qwen25", values(template="qwen25")),
    Fault("template-in-capitals", "tmpl-unknown", "template: Qwen", values(template="Qwen"), "current full"),
    Fault("template-missing", "tmpl-missing", "no template", values(template=None)),
    Fault(
        "template-of-images",
        "tmpl-wrong-for-model",
        "template: qwen2_vl with a text model",
        values(template="qwen2_vl"),
    ),
]
MISSING = [
    Fault(
        "model-not-given",
        "cfg-missing-argument",
        "no model_name_or_path",
        values(model_name_or_path=None),
        arguments=MODEL,
    ),
    Fault("output-not-given", "cfg-missing-argument", "no output_dir", values(output_dir=None)),
    Fault(
        "dataset-not-given", "cfg-missing-argument", "no dataset", values(dataset=None), "current lora", arguments=DATA
    ),
    Fault(
        "reward-model-not-given",
        "cfg-missing-argument",
        "stage: ppo without reward_model",
        values(stage="ppo"),
        "sky-t1 lora",
        healable=False,
    ),
]
FILE = [
    Fault("tab-in-yaml", "cfg-yaml-syntax", "a tab before a key", second_line("\twarmup_ratio: 0.1"), healable=False),
    Fault("space-after-colon-missing", "cfg-yaml-syntax", "bf16:false", second_line("bf16:false"), healable=False),
    Fault("full-width-colon", "cfg-yaml-syntax", "seed：42", second_line("seed：42"), healable=False),
    Fault("recipe-called-txt", "cfg-file-suffix", "the recipe is called .txt", renamed_file(".txt")),
    Fault("recipe-in-gbk", "data-encoding", "a Chinese comment in GBK", in_gbk, "current full", healable=False),
]
FAULTS = [*KEYS, *TYPES, *MORE, *BESIDE, *CHOICES, *MISSING, *FILE]
