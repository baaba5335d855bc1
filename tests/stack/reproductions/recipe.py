"""Faults of the recipe's own keys and values, and of the template."""

from __future__ import annotations

from functools import partial
from typing import Any

from tests.stack.reproductions.place import Place
from tests.stack.reproductions.run import Inject, Reproduction


def values(**changed: Any) -> Inject:
    return partial(_values, changed=changed)


def _values(place: Place, changed: dict[str, Any]) -> None:
    place.set_recipe(**changed)


def line(text: str) -> Inject:
    return lambda place: place.add_line(text)


def trained_before(place: Place) -> None:
    """The model of an earlier run in the output directory, without a checkpoint to go on from."""
    out = place.root / "saves/toy"
    out.mkdir(parents=True)
    (out / "model.safetensors").write_bytes((place.model / "model.safetensors").read_bytes())


LORA = {"finetuning_type": "lora", "lora_rank": 2}
CASES = [
    Reproduction("tmpl-unknown", values(template="qwen25")),
    Reproduction("tmpl-missing", values(template=None)),
    Reproduction("cfg-unknown-key", values(evalution_strategy="no")),
    Reproduction("cfg-unknown-key", values(cutoff_length=64, cutoff_len=None), name="cfg-unknown-key-cutoff"),
    Reproduction("cfg-eval-without-val", values(eval_strategy="steps", eval_steps=1)),
    Reproduction("cfg-conflicting-args", values(val_size=0.1, eval_dataset="Sky-T1")),
    Reproduction(
        "cfg-best-model-strategy",
        values(load_best_model_at_end=True, val_size=0.25, save_strategy="epoch", eval_strategy="steps", eval_steps=1),
    ),
    Reproduction("cfg-bf16-fp16-conflict", values(bf16=True, fp16=True)),
    Reproduction("cfg-streaming-args", values(streaming=True, max_steps=None, preprocessing_num_workers=None)),
    Reproduction("cfg-output-dir-not-empty", trained_before),
    Reproduction("cfg-lr-string", line("learning_rate: 1e-5")),
    Reproduction("cfg-bad-value-type", line("per_device_train_batch_size: '1.0'")),
    Reproduction("cfg-invalid-choice", values(lr_scheduler_type="cosin")),
    Reproduction("cfg-missing-argument", values(model_name_or_path=None), arguments=("--model", "{model}")),
    Reproduction("peft-target-modules-missing", values(**LORA, lora_target="query_key_value"), packages=("peft",)),
    Reproduction("attn-flash-missing", values(flash_attn="fa2", bf16=True), survives=True),
]
