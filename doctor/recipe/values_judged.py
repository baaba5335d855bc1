"""Judgements of values that the parser takes and that end the run later, or make it do something else than was asked."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from doctor.facts import Facts
from doctor.findings import Finding, found, in_recipe, key_of_recipe
from doctor.recipe import source_tree
from doctor.recipe.value_types import nearest_choice
from knowledge_base.schema import Severity

_finding = partial(found, "arguments")

# accelerate's DynamoBackend, to which torch_compile_backend is turned, and the modes of torch.compile.
COMPILED = {
    "torch_compile_backend": ("no", "eager", "aot_eager", "inductor", "aot_ts_nvfuser", "nvprims_nvfuser", "cudagraphs",
                              "ofi", "fx2trt", "onnxrt", "tensorrt", "aot_torchxla_trace_once", "torchxla_trace_once",
                              "ipex", "tvm", "hpu_backend", "neuron"),
    "torch_compile_mode": ("default", "lite", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"),
}  # fmt: skip
_MAPPINGS = ("lr_scheduler_kwargs", "gradient_checkpointing_kwargs", "liger_kernel_config")
# Modules outside the layers that have no matrix, or a name of their own in some family.
_OUTSIDE = ("norm", "ln_f", "final_layernorm", "wpe", "wte", "embed_positions", "embedding_norm", "score", "v_head",
            "word_embeddings", "output_layer", "lm_head", "embed_tokens", "summary")  # fmt: skip


def tool_formats(package: Path) -> list[str]:
    """Names that `tool_format` may have in the installed release; none where its source has no such table."""
    return re.findall(
        r'^    "([\w.-]+)": \w+\(\),?$', source_tree.text(package / "data" / "tool_utils.py"), re.MULTILINE
    )


def attentions(package: Path) -> list[str]:
    """Values of `flash_attn` that the installed release does something with: its enumeration may have more."""
    text = source_tree.text(package / "model" / "model_utils" / "attention.py")
    asked = re.findall(r'\.flash_attn == (?:AttentionFunction\.(\w+)|"(\w+)")', text)
    return sorted({(member or name).lower() for member, name in asked})


def quantisers(package: Path) -> list[str]:
    """Values of `quantization_method` that the installed release quantises by: its enumeration has more."""
    text = source_tree.text(package / "model" / "model_utils" / "quantization.py")
    members = re.findall(r"\.quantization_method == QuantizationMethod\.(\w+)", text)
    written = text + source_tree.text(package / "extras" / "constants.py")
    values = dict(re.findall(r'^    (\w+) = "(\w+)"$', written.partition("class QuantizationMethod")[2], re.MULTILINE))
    return [values[member] for member in members if member in values]


def dequantised(package: Path) -> list[str]:
    """Methods of checkpoints that the installed release turns back into whole weights while loading."""
    text = source_tree.text(package / "model" / "model_utils" / "quantization.py")
    blocks = re.findall(r"if quant_method == QuantizationMethod\.(\w+):\n((?: {12}.*\n|\n)*)", text)
    return [member.lower() for member, block in blocks if "dequantize=True" in block]


def length_as_fraction(package: Path) -> bool:
    """Whether the length of a scaled model is multiplied by a float and left as one."""
    text = source_tree.text(package / "model" / "model_utils" / "rope.py")
    return re.search(r'"max_position_embeddings", old_max_length \* rope_factor\)', text) is not None


def loss_is_sigmoid(trl: Path | None) -> bool:
    """Whether dpo_loss of trl computes the sigmoid loss where the caller names none, as LLaMA-Factory does not."""
    text = source_tree.text(trl / "trainer" / "dpo_trainer.py") if trl else ""
    return re.search(r'def dpo_loss\([^)]*loss_type: str = "sigmoid"', text) is not None


def json_is_broken(package: Path) -> bool:
    """Whether the branch for .json recipes gives a path to json.load, which reads open files alone."""
    return "json.load(Path(" in source_tree.text(package / "hparams" / "parser.py")


def names(given: Any) -> list[str]:
    """A list, or names separated by commas, as LLaMA-Factory takes both."""
    parts = given if isinstance(given, list) else str(given).split(",") if isinstance(given, str) else []
    return [str(part).strip() for part in parts if str(part).strip()]


def names_known(facts: Facts) -> Iterator[Finding]:
    """Choices that no dataclass declares as they are: of torch.compile, of tool formats, of attentions that are made."""
    values = facts["recipe.values"]
    formats = tuple(facts.get("arguments.tool_formats") or ())
    misfits = {misfit["key"] for misfit in facts.get("arguments.misfits") or ()}
    attentions = tuple(facts.get("arguments.attentions") or ())
    for key, known in {**COMPILED, "tool_format": formats, "flash_attn": attentions}.items():
        given = values.get(key)
        if key in misfits or (key == "flash_attn" and (facts.get("model.config") or {}).get("model_type") == "gpt_oss"):
            continue  # that family brings an attention of its own
        if known and isinstance(given, str) and given.lower() not in known and key in facts["arguments.fields"]:
            near = nearest_choice(given, known)
            details = key_of_recipe(facts, key) | ({"nearest": near} if near else {})
            what = f'{key}: "{given}" is none of {", ".join(known)}'
            yield _finding("cfg-invalid-choice", what, in_recipe(facts, key), **details)


def quantiser_known(facts: Facts) -> Iterator[Finding]:
    """A method by which only checkpoints are quantised: the model is loaded as it is, in full size."""
    values, key = facts["recipe.values"], "quantization_method"
    given, known = values.get(key), facts.get("arguments.quantisers")
    misfits = {misfit["key"] for misfit in facts.get("arguments.misfits") or ()}
    if (
        values.get("quantization_bit")
        and isinstance(given, str)
        and known
        and given not in known
        and key not in misfits
    ):
        what = (
            f"{key}: {given} is none of {', '.join(known)}, by which a model is quantised while it is loaded: it is not"
        )
        details = key_of_recipe(facts, key) | {"nearest": known[0]}
        yield _finding("cfg-invalid-choice", what, in_recipe(facts, key), Severity.WARNING, **details)


def mappings_fit(facts: Facts) -> Iterator[Finding]:
    """Text that begins with a brace is read as JSON; other text goes where a mapping is unpacked."""
    for key in _MAPPINGS:
        given = facts["recipe.values"].get(key)
        used = key != "gradient_checkpointing_kwargs" or facts["recipe.values"].get("gradient_checkpointing")
        text = isinstance(given, str) and not given.startswith("{")
        other = key == "lr_scheduler_kwargs" and given and not isinstance(given, (str, Mapping))
        if used and (text or other) and key in facts["arguments.fields"]:
            what = f"{key}: {str(given)[:60]}; a mapping is needed, such as {{name: value}}"
            yield _finding(
                "cfg-bad-value-type", what, in_recipe(facts, key), **key_of_recipe(facts, key), wanted_type="mapping"
            )
    given = facts["recipe.values"].get("optim_args")
    if isinstance(given, str) and any(part.count("=") != 1 for part in given.replace(" ", "").split(",") if part):
        what = f"optim_args: {given[:60]}; it is read as key1=value1,key2=value2"
        details = key_of_recipe(facts, "optim_args") | {"wanted_type": "text of key=value pairs"}
        yield _finding("cfg-bad-value-type", what, in_recipe(facts, "optim_args"), **details)


def mixing_adds_up(facts: Facts) -> Iterator[Finding]:
    values, key = facts["recipe.values"], "interleave_probs"
    if (
        not str(values.get("mix_strategy", "concat")).startswith("interleave")
        or len(set(names(values.get("dataset")))) < 2
    ):
        return
    try:
        shares = [float(part) for part in names(values.get(key))]
    except ValueError:
        return  # the release's own check says so
    if shares and abs(sum(shares) - 1) > 1e-8:
        scaled = [round(share / sum(shares), 4) for share in shares[:-1]] if sum(shares) > 0 else []
        details = key_of_recipe(facts, key)
        if scaled:
            details["probable_value"] = ",".join(map(str, [*scaled, round(1 - sum(scaled), 4)]))
        what = f"{key}: {values[key]}; probabilities must add up to 1, these make {sum(shares):g}"
        yield _finding("cfg-bad-value-type", what, in_recipe(facts, key), **details)


def epochs_train(facts: Facts) -> Iterator[Finding]:
    values, key = facts["recipe.values"], "num_train_epochs"
    given, steps = values.get(key), values.get("max_steps", -1)
    limited = isinstance(steps, (int, float)) and steps > 0
    if values.get("do_train") and isinstance(given, (int, float)) and given <= 0 and not limited:
        what = f"{key}: {given} and no max_steps: the run ends before its first step"
        yield _finding("cfg-does-not-train", what, in_recipe(facts, key), why_not=f"{key} is {given}", key=key)


def best_model_known(facts: Facts) -> Iterator[Finding]:
    """What looks for the best checkpoint asks for the metric by name; load_best_model_at_end alone sets one."""
    values = facts["recipe.values"]
    stops = values.get("early_stopping_steps") is not None and "early_stopping_steps" in facts["arguments.fields"]
    best = values.get("save_strategy") == "best"
    key = "early_stopping_steps" if stops else "save_strategy"
    if not (stops or best) or values.get("metric_for_best_model") or values.get("load_best_model_at_end"):
        return
    what = f"{key}: {values[key]} needs metric_for_best_model"
    details: dict[str, Any] = {"metric_unmeasured": True, "key": "metric_for_best_model"}
    yield _finding("cfg-best-model-strategy", what, in_recipe(facts, key), **details)


def sorts_by_length(values: Mapping[str, Any]) -> str | None:
    """The key that makes the Trainer's sampler sort by length; transformers 5 has renamed it."""
    if values.get("train_sampling_strategy") == "group_by_length":
        return "train_sampling_strategy"
    return "group_by_length" if values.get("group_by_length") is True else None


def loader_fits(facts: Facts) -> Iterator[Finding]:
    values = facts["recipe.values"]
    key = "dataloader_persistent_workers"
    if values.get(key) is True and not values.get("dataloader_num_workers") and key in facts["arguments.fields"]:
        what = f"{key}: true with dataloader_num_workers: 0"
        yield _finding("cfg-conflicting-args", what, in_recipe(facts, key), key=key, other_key="dataloader_num_workers")
    sorts = sorts_by_length(values)
    if sorts and values.get("streaming") is True:
        what = f"{sorts} sorts by length, which streamed data have not"
        yield _finding("cfg-streaming-args", what, in_recipe(facts, sorts), key=sorts)


def batches_left(facts: Facts) -> Iterator[Finding]:
    """dataloader_drop_last with fewer records than one step takes."""
    values, scans = facts["recipe.values"], facts["records.scans"].values()
    batch = values.get("per_device_train_batch_size", 8)
    if values.get("dataloader_drop_last") is not True or values.get("streaming") or not isinstance(batch, int):
        return
    taken = batch * (facts.get("launch.world_size") or 1)
    there = sum(scan["read"] for scan in scans)
    if scans and all(scan["complete"] for scan in scans) and 0 < there < taken and not values.get("packing"):
        what = f"dataloader_drop_last: {there} records do not fill one batch of {taken}: no step is left"
        details: dict[str, Any] = {"key": "dataloader_drop_last", "other_key": "per_device_train_batch_size"}
        yield _finding("cfg-conflicting-args", what, in_recipe(facts, "dataloader_drop_last"), **details)


def layers_divide(facts: Facts) -> Iterator[Finding]:
    """LLaMA Pro spreads the layers that it trains evenly (model_utils and adapter.py of LLaMA-Factory)."""
    values, key = facts["recipe.values"], "freeze_trainable_layers"
    layers, trained = facts["model.config"].get("num_hidden_layers"), values.get(key, 2)
    if values.get("use_llama_pro") is not True or not isinstance(layers, int) or not isinstance(trained, int):
        return
    if values.get("finetuning_type", "lora") in ("lora", "freeze") and trained > 0 and layers % trained:
        what = f"use_llama_pro: the model has {layers} layers, which {key}: {trained} does not divide"
        yield _finding("cfg-conflicting-args", what, in_recipe(facts, key), key=key, other_key="use_llama_pro")


def modules_there(facts: Facts) -> Iterator[Finding]:
    """freeze_extra_modules is refused when unknown; additional_target and a part of lora_target are passed over."""
    values, there = facts["recipe.values"], facts["model.weights"].get("modules")
    how = values.get("finetuning_type", "lora")
    if not there or not facts["model.local"]:
        return
    asked = {"freeze": ("freeze_extra_modules",), "lora": ("additional_target", "lora_target")}.get(str(how), ())
    for key in asked:
        given = names(values.get(key))
        unknown = [n for n in given if n not in there and n not in _OUTSIDE and "." not in n and n != "all"]
        if not unknown or (key == "lora_target" and len(unknown) == len(given)):
            continue  # lora_target with nothing left is an error of its own
        severity = None if how == "freeze" else Severity.WARNING
        what = f"{key}: {', '.join(unknown)} is no module of the model; it has {', '.join(there[:15])}"
        what += "" if how == "freeze" else "; it is passed over without a word"
        details: dict[str, Any] = {"key": key, "modules": there[:50], "other_target": key != "lora_target"}
        yield _finding("peft-target-modules-missing", what, in_recipe(facts, key), severity, **details)


def attention_shifts(facts: Facts) -> Iterator[Finding]:
    """S2-Attn is patched into Llama alone; for other models LLaMA-Factory warns and goes on without it."""
    kind = facts["model.config"].get("model_type")
    if facts["recipe.values"].get("shift_attn") is True and kind and kind != "llama":
        what = f"shift_attn: LLaMA-Factory has it for llama alone, the model is {kind}: it trains without"
        details: dict[str, Any] = {"key": "shift_attn", "shift_attn": True}
        yield _finding("attn-not-supported-by-model", what, in_recipe(facts, "shift_attn"), Severity.WARNING, **details)


def backend_has_group(facts: Facts) -> Iterator[Finding]:
    """With ddp_backend the process group is asked for; without torchrun nobody makes it, and NCCL makes it on GPUs alone."""
    values, key = facts["recipe.values"], "ddp_backend"
    torchrun = facts["launch.force_torchrun"] or facts["gpu.count"] not in (0, 1)
    if not values.get(key) or values.get("deepspeed"):
        return
    if not torchrun and not facts["launch.environ"].get("LOCAL_RANK"):
        what = f"{key}: {values[key]} in a launch without torchrun (FORCE_TORCHRUN): there is no process group"
        details: dict[str, Any] = {"key": key, "force_torchrun": "FORCE_TORCHRUN=1"}
        yield _finding("launch-torchrun-missing", what, in_recipe(facts, key), **details)
    elif torchrun and values[key] == "nccl" and facts["gpu.count"] == 0 and not facts["gpu.devices"]:
        what = f"{key}: nccl on a machine without GPU; gloo works there"
        yield _finding("cuda-unavailable", what, in_recipe(facts, key), key=key)


def folders_free(facts: Facts) -> Iterator[Finding]:
    """A file where `datasets` makes a folder."""
    for key, path in (facts.get("arguments.files_for_folders") or {}).items():
        what = f"{key}: {path} is a file; a folder is made there"
        yield _finding("disk-readonly", what, in_recipe(facts, key), key=key, path=path)


def files_for_folders(values: Mapping[str, Any], workdir: Path) -> dict[str, str]:
    given = {key: values.get(key) for key in ("cache_dir", "tokenized_path")}
    return {
        key: path for key, path in given.items() if isinstance(path, str) and path and os.path.isfile(workdir / path)
    }


ALL = (
    names_known, quantiser_known, mappings_fit, mixing_adds_up, epochs_train, best_model_known, loader_fits, batches_left,
    layers_divide, modules_there, attention_shifts, folders_free, backend_has_group,
)  # fmt: skip
