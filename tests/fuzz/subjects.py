"""What is fuzzed: a workspace, its files, seeds for each of them, and the probes that read it.

Some seeds hold what would run code in a careless reader: YAML tags of Python objects, a pickle, `auto_map` with the
model's own code, a dataset script. Each would make a folder, the canary.
"""

from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path
from typing import Any

import msgspec

from doctor import redact
from doctor.facts import Facts, UnknownFact
from doctor.probes import (
    Probe,
    adapter,
    architecture,
    arguments,
    dataset,
    deepspeed,
    launch,
    llamafactory,
    memory,
    model,
    recipe,
    records,
    template,
)
from doctor.target import Target
from tests.doctor.recipe import standin

CANARY = "canary"


class Subject(msgspec.Struct):
    """A file of the workspace that is mutated; `share`: how many of a hundred inputs; `probes`: those that read it."""

    name: str
    file: str
    share: int
    seeds: list[bytes]
    probes: tuple[Any, ...]


class _Evil:
    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        import os

        return os.mkdir, (self.folder,)


_RECIPE = """
### model
model_name_or_path: m
adapter_name_or_path: a
trust_remote_code: true
stage: sft
do_train: true
finetuning_type: full
deepspeed: ds.json
dataset: sky,lines
template: toy
output_dir: out
learning_rate: 1.0e-5
eval_strategy: steps
save_steps: 500
val_size: 0.1
bf16: true
"""
# The same in JSON, which is YAML too, with what else probes read of a recipe: its values are mutated one by one.
_SETTINGS = {
    "model_name_or_path": "m", "stage": "sft", "do_train": True, "finetuning_type": "lora", "deepspeed": "ds.json",
    "dataset": "sky,lines", "eval_dataset": "pairs", "dataset_dir": "data", "media_dir": "data", "template": "toy",
    "output_dir": "out", "tokenized_path": "tok", "resume_from_checkpoint": "out", "adapter_name_or_path": "a",
    "quantization_bit": 4, "quantization_method": "bnb", "packing": True, "streaming": False, "val_size": 0.1,
    "cutoff_len": 64, "max_samples": 10, "mix_strategy": "concat", "interleave_probs": "0.5,0.5", "flash_attn": "fa2",
    "lora_target": "all", "freeze_trainable_layers": 2, "freeze_trainable_modules": "all", "learning_rate": 1e-5,
    "lr_scheduler_type": "cosine", "lr_scheduler_kwargs": {"min_lr": 0.1}, "report_to": ["none"], "optim": "adamw_torch",
    "num_train_epochs": 3, "max_steps": 5, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 2,
    "preprocessing_num_workers": 2, "save_steps": 5, "eval_steps": 5, "eval_strategy": "steps", "save_strategy": "steps",
    "load_best_model_at_end": True, "ddp_timeout": 1, "use_unsloth": True, "enable_liger_kernel": True, "bf16": True,
    "image_max_pixels": 1, "cache_dir": "cache", "model_revision": "main", "resize_vocab": True, "reward_model": "m",
}  # fmt: skip
# And one of LLaMA-Factory's new launcher.
_NEW_SETTINGS = {
    "model": "m", "model_class": "llm", "template": "toy", "train_dataset": "d.yaml", "micro_batch_size": 1,
    "dist_config": {"name": "fsdp2"}, "peft_config": {"name": "lora", "export_dir": "x"}, "learning_rate": 1e-5,
}  # fmt: skip
_INFO = {
    "sky": {
        "file_name": "d.json", "formatting": "sharegpt", "columns": {"messages": "conversations", "system": "system"},
        "tags": {"role_tag": "from", "content_tag": "value", "user_tag": "user", "assistant_tag": "assistant"},
    },
    "lines": {"file_name": "d.jsonl", "columns": {"prompt": "instruction", "query": "input", "response": "output"}},
    "script": {"script_url": "evil.py"}, "hub": {"hf_hub_url": "a/b", "num_samples": 3},
    "pairs": {"file_name": "d.json", "ranking": True, "columns": {"chosen": "chosen", "rejected": "rejected"}},
}  # fmt: skip
_TALK = [
    {"system": "s", "conversations": [{"from": "user", "value": "q"}, {"from": "assistant", "value": "答案\n"}]},
    {"system": "", "conversations": [{"from": "user", "value": "q<image>"}, {"from": "assistant", "value": ""}]},
    {"conversations": [{"from": "assistant", "value": "x"}], "chosen": {"from": "a", "value": "b"}, "n": 1.5},
]
_LINES = [{"instruction": "i", "input": "", "output": "o", "history": [["a", "b"]]}, {"instruction": "j", "output": 3}]
_DEEPSPEED = {
    "train_batch_size": "auto", "train_micro_batch_size_per_gpu": "auto", "gradient_accumulation_steps": "auto",
    "zero_optimization": {
        "stage": 3, "offload_optimizer": {"device": "cpu", "pin_memory": True}, "offload_param": {"device": "cpu"},
        "sub_group_size": 1e9, "stage3_gather_16bit_weights_on_model_save": True, "reduce_bucket_size": "auto",
    },
    "bf16": {"enabled": "auto"}, "fp16": {"enabled": False, "loss_scale": 0}, "optimizer": {"type": "AdamW", "params": {}},
}  # fmt: skip
_ADAPTER = {"base_model_name_or_path": "m", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"], "peft_type": "LORA"}


def _safetensors() -> list[bytes]:
    header = {
        "model.embed_tokens.weight": {"dtype": "F32", "shape": [4, 2], "data_offsets": [0, 32]},
        "model.layers.0.self_attn.q_proj.weight": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [32, 40]},
        "__metadata__": {"format": "pt"},
    }
    raw = json.dumps(header).encode()
    return [
        struct.pack("<Q", len(raw)) + raw + b"\0" * 40,
        raw,
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    ]


def _laughs(levels: int = 12) -> bytes:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels)]
    return "\n".join(lines).encode()


def subjects(folder: Path) -> list[Subject]:
    """The workspace in `folder`, written anew, and what is mutated in it."""
    canary = str(folder / CANARY)
    run = f"import os; os.mkdir({canary!r})"
    yaml_tags = [
        f'model_name_or_path: !!python/object/apply:os.mkdir ["{canary}"]\n'.encode(),
        f'- !!python/object/new:os.system ["mkdir {canary}"]\n'.encode(),
        f"deepspeed: !!python/object/apply:eval [\"__import__('os').mkdir('{canary}')\"]\n".encode(),
    ]
    config = {
        **standin.QWEN2,
        "auto_map": {"AutoModelForCausalLM": "modeling_evil.EvilModel", "AutoConfig": "modeling_evil.C"},
    }
    tokenizer = {
        "added_tokens": [standin.added_token(2, "<|im_end|>")],
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 3}, "merges": [["a", "b"]]},
    }
    names = {"tokenizer_class": "Qwen2Tokenizer", "eos_token": {"content": "<|im_end|>"}, "chat_template": "{{ x }}",
             "auto_map": {"AutoTokenizer": ["modeling_evil.T", None]}}  # fmt: skip
    index = {
        "metadata": {"total_size": 40},
        "weight_map": {"model.embed_tokens.weight": "model-00001-of-00001.safetensors"},
    }
    model_folder, data = folder / "m", folder / "data"
    standin.model(model_folder, config)
    data.mkdir(exist_ok=True)
    (folder / "a").mkdir(exist_ok=True)
    for path in (model_folder / "modeling_evil.py", model_folder / "tokenization_evil.py", data / "evil.py"):
        path.write_text(run, encoding="utf-8")
    of_model: tuple[Any, ...] = (model, adapter, template, architecture, memory)
    of_data: tuple[Any, ...] = (dataset, records)
    talk, lines = json.dumps(_TALK, indent=1).encode(), b"\n".join(json.dumps(r).encode() for r in _LINES)
    made = [
        Subject("recipe", "recipe.yaml", 8, [_RECIPE.encode(), _laughs(), *yaml_tags], (
            recipe, llamafactory, launch, deepspeed, *of_model, *of_data, arguments)),
        Subject("recipe_values", "recipe.yaml", 6, [json.dumps(_SETTINGS, indent=1).encode()] * 3
                + [json.dumps(_NEW_SETTINGS).encode()], (
            recipe, llamafactory, launch, deepspeed, *of_model, *of_data, arguments)),
        Subject("dataset_info", "data/dataset_info.json", 12, [json.dumps(_INFO, indent=2).encode()], of_data),
        Subject("json", "data/d.json", 14, [talk, json.dumps(_LINES).encode()], (records,)),
        Subject("jsonl", "data/d.jsonl", 14, [lines, lines + b"\n" + b"\n".join(json.dumps(r).encode() for r in _TALK)],
                (records,)),
        Subject("deepspeed", "ds.json", 10, [json.dumps(_DEEPSPEED, indent=1).encode()], (deepspeed, memory, launch)),
        Subject("safetensors", "m/model.safetensors", 16, _safetensors(), of_model),
        Subject("config", "m/config.json", 8, [json.dumps(config).encode()], of_model),
        Subject("tokenizer", "m/tokenizer.json", 6, [json.dumps(tokenizer).encode()], of_model),
        Subject("tokenizer_config", "m/tokenizer_config.json", 4, [json.dumps(names).encode()], of_model),
        Subject("index", "m/model.safetensors.index.json", 4, [json.dumps(index).encode()], of_model),
        Subject("bin", "m/pytorch_model.bin", 2, [pickle.dumps(_Evil(canary)), b"PK\x03\x04" + pickle.dumps(_Evil(canary))],
                of_model),
        Subject("adapter", "a/adapter_config.json", 2, [json.dumps(_ADAPTER).encode()], (adapter,)),
    ]  # fmt: skip
    for subject in made:
        (folder / subject.file).write_bytes(subject.seeds[0])
    return made


def target_of(folder: Path) -> Target:
    """The target of the workspace, with the stand-in packages; nothing of this machine's environment."""
    return standin.target(folder, _RECIPE, XDG_CACHE_HOME=str(folder / "cache"))


class World:
    """Facts of the healthy workspace, so that an input costs only the probes that read it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.subjects = subjects(folder)
        self.target = target_of(folder)
        first = {
            "packages.versions": {"transformers": "4.46.1", "deepspeed": "0.15.4"},
            "gpu.count": 0,
            "gpu.devices": [],
        }
        self.facts = Facts(first)
        for probe in self.subjects[0].probes:
            self.facts = self.facts.merged(collected(probe, self.target, self.facts))

    def examine(self, subject: Subject, raw: bytes) -> tuple[Facts, int]:
        """Write the file, collect and judge. The facts and the number of findings. Raises what the doctor raises."""
        (self.folder / subject.file).write_bytes(raw)
        before = self.folder / "m" / "model.safetensors"
        if subject.name in ("index", "bin") and before.exists():
            before.rename(before.with_suffix(".away"))  # else the single file is what would be loaded
        try:
            facts, count = self.facts, 0
            for probe in subject.probes:
                facts = facts.merged(collected(probe, self.target, facts))
            for probe in subject.probes:
                for judgement in probe.JUDGEMENTS:
                    try:
                        found = list(judgement(facts))
                    except UnknownFact:
                        continue
                    assert all(f.evidence for f in found), f"{judgement.__name__}: a finding without evidence"
                    count += len(found)
            try:
                msgspec.json.encode(facts.to_json())
            except UnicodeEncodeError:  # half a surrogate pair: what leaves the doctor is cleaned of it
                msgspec.json.encode(redact.document(facts.to_json()))
            return facts, count
        finally:
            (self.folder / subject.file).write_bytes(subject.seeds[0])
            if before.with_suffix(".away").exists():
                before.with_suffix(".away").rename(before)
            if subject.name in ("index", "bin"):
                (self.folder / subject.file).unlink()


def collected(probe: Probe, target: Target, facts: Facts) -> dict[str, Any]:
    """What a probe collects; nothing where it needs a fact that is not known."""
    try:
        return probe.collect(target, facts)
    except UnknownFact:
        return {}
