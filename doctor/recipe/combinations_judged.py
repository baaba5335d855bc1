"""Judgements of arguments that no parser refuses and that the Trainer, PEFT or accelerate refuse when they start."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from doctor.facts import Facts
from doctor.findings import Finding, found, in_recipe, key_of_recipe
from doctor.recipe.looked_at import generates
from doctor.recipe.model_values import at_least
from doctor.recipe.values_judged import sorts_by_length
from knowledge_base.schema import Severity

_finding = partial(found, "arguments")

# What torch.utils.checkpoint.checkpoint takes by name.
_CHECKPOINTING = ("use_reentrant", "context_fn", "determinism_check", "debug", "early_stop", "preserve_rng_state")


def _conflict(facts: Facts, what: str, key: str, other: str | None = None) -> Finding:
    details: dict[str, Any] = {"key": key} | ({"other_key": other} if other else {})
    return _finding("cfg-conflicting-args", what, in_recipe(facts, key), **details)


def _known(facts: Facts, key: str) -> bool:
    return key in facts["arguments.fields"]


def evaluates_at_start(facts: Facts) -> Iterator[Finding]:
    values = facts["recipe.values"]
    if values.get("eval_on_start") is True and not values.get("eval_dataset") and not values.get("val_size"):
        what = "eval_on_start: true, and neither eval_dataset nor val_size gives anything to evaluate"
        yield _finding("cfg-eval-without-val", what, in_recipe(facts, "eval_on_start"), key="eval_on_start")


def deepspeed_allows(facts: Facts) -> Iterator[Finding]:
    values = facts["recipe.values"]
    if not values.get("deepspeed"):
        return
    config = facts.get("deepspeed.config") or {}
    zero = config.get("zero_optimization")
    stage = zero.get("stage") if isinstance(zero, Mapping) else None
    measures = [key for key in ("do_eval", "do_predict") if values.get(key) is True]
    if config and measures and not values.get("do_train") and stage != 3:
        what = f"{measures[0]} without do_train, and the DeepSpeed JSON has ZeRO-{stage or 0}; it takes ZeRO-3 then"
        yield _finding("ds-inference-stage", what, in_recipe(facts, "deepspeed"), key="deepspeed")
    if values.get("fsdp"):
        yield _conflict(
            facts, "fsdp and deepspeed both shard the model; the Trainer takes one of them", "fsdp", "deepspeed"
        )
    if values.get("save_only_model") is True and values.get("load_best_model_at_end") is True:
        what = "save_only_model leaves DeepSpeed nothing that load_best_model_at_end can load"
        yield _conflict(facts, what, "save_only_model", "load_best_model_at_end")
    if values.get("use_muon") is True and _known(facts, "use_muon"):
        yield _conflict(
            facts, "use_muon sorts the parameters itself, and DeepSpeed's ZeRO sorts them anew", "use_muon", "deepspeed"
        )
    if values.get("auto_find_batch_size") is True and isinstance(zero, Mapping) and zero.get("stage") == 3:
        yield _conflict(
            facts, "auto_find_batch_size is not supported under ZeRO-3", "auto_find_batch_size", "deepspeed"
        )


def accumulation_once(facts: Facts) -> Iterator[Finding]:
    """The Trainer counts the steps itself and refuses to be told another number by accelerate's settings."""
    values = facts["recipe.values"]
    config, steps = values.get("accelerator_config"), values.get("gradient_accumulation_steps", 1)
    kwargs = config.get("gradient_accumulation_kwargs") if isinstance(config, Mapping) else None
    if isinstance(kwargs, Mapping) and "num_steps" in kwargs and isinstance(steps, int) and steps > 1:
        what = f"accelerator_config sets num_steps, and gradient_accumulation_steps is {steps}"
        yield _conflict(facts, what, "accelerator_config", "gradient_accumulation_steps")


def devices_there(facts: Facts) -> Iterator[Finding]:
    values, packages = facts["recipe.values"], facts.get("packages.versions", {})
    if values.get("use_ipex") is True and _known(facts, "use_ipex") and "intel-extension-for-pytorch" not in packages:
        what = "use_ipex: true, and intel-extension-for-pytorch is not installed"
        details: dict[str, Any] = {"module": "intel_extension_for_pytorch", "key": "use_ipex"}
        details["distribution"] = "intel-extension-for-pytorch"
        yield _finding("pkg-missing", what, in_recipe(facts, "use_ipex"), **details)
    if values.get("use_mps_device") is True and _known(facts, "use_mps_device"):
        what = "use_mps_device: true asks for a Mac's GPU, which no machine with Linux has"
        yield _conflict(facts, what, "use_mps_device")


def checkpointing_arguments(facts: Facts) -> Iterator[Finding]:
    values, key = facts["recipe.values"], "gradient_checkpointing_kwargs"
    given = values.get(key)
    if not isinstance(given, Mapping) or not values.get("gradient_checkpointing") or not _known(facts, key):
        return
    foreign = [str(name) for name in given if name not in _CHECKPOINTING]
    if foreign:
        what = f"{key}: {', '.join(foreign)} is not taken by torch.utils.checkpoint, which takes {', '.join(_CHECKPOINTING)}"
        yield _conflict(facts, what, key)


def orthogonal_size(facts: Facts) -> Iterator[Finding]:
    """PEFT's OFT cuts a layer into blocks by their number or by their size, and LLaMA-Factory names a size."""
    values, rank, block = facts["recipe.values"], "oft_rank", "oft_block_size"
    if values.get("finetuning_type") != "oft" or not _known(facts, rank):
        return
    by_number, by_size = values.get(rank, 0), values.get(block, _OFT_BLOCK)
    if by_number and by_size:
        yield _conflict(facts, f"{rank}: {by_number} with {block}: {by_size}; one of them has to be 0", rank, block)
    elif by_number == 0 and by_size == 0:
        what = f"{rank} and {block} are both 0"
        yield _finding("cfg-bad-value-type", what, in_recipe(facts, block), key=block, probable_value=_OFT_BLOCK)


def system_is_no_setting(facts: Facts) -> Iterator[Finding]:
    """Until 0.9.3 default_system was among the settings of generation, all of which are handed to the model."""
    values, release = facts["recipe.values"], facts.get("llamafactory.version")
    measures = any(values.get(key) is True for key in ("do_eval", "do_predict"))
    older = isinstance(release, str) and not at_least(release, "0.9.3")
    if values.get("default_system") and measures and generates(values) and older:
        what = f"default_system with predict_with_generate: LLaMA-Factory {release} hands it to the model, which refuses it"
        yield _conflict(facts, what, "default_system", "predict_with_generate")


_OFT_BLOCK = 32  # hparams/finetuning_args.py


def past_is_taken(facts: Facts) -> Iterator[Finding]:
    """Outputs are read at that place of a tuple, which causal models do not have; the first one is the loss."""
    given = facts["recipe.values"].get("past_index")
    if isinstance(given, int) and not isinstance(given, bool) and given > 0 and _known(facts, "past_index"):
        yield _conflict(facts, f"past_index: {given} is for models that hand on a memory; leave it out", "past_index")


def quantised_by_bits(facts: Facts) -> Iterator[Finding]:
    values, key = facts["recipe.values"], "quantization_bit"
    given, method = values.get(key), str(values.get("quantization_method", "bitsandbytes")).lower()
    if (
        isinstance(given, int)
        and not isinstance(given, bool)
        and given not in (4, 8)
        and method in ("bitsandbytes", "bnb")
    ):
        details = key_of_recipe(facts, key)
        what = f"{key}: {given}; bitsandbytes quantises to 4 or 8 bits"
        yield _finding("cfg-bad-value-type", what, in_recipe(facts, key), **details)


def shares_not_negative(facts: Facts) -> Iterator[Finding]:
    values, key = facts["recipe.values"], "interleave_probs"
    given = values.get(key)
    parts = given.split(",") if isinstance(given, str) else given if isinstance(given, list) else []
    negative = [str(part).strip() for part in parts if str(part).strip().startswith("-")]
    if negative and str(values.get("mix_strategy", "concat")).startswith("interleave"):
        details = key_of_recipe(facts, key)
        what = f"{key}: {', '.join(negative)}; a probability is not negative"
        yield _finding("cfg-bad-value-type", what, in_recipe(facts, key), **details)


def _is_vector(told: Mapping[str, Any]) -> bool:
    shapes = told.get("shapes") or []
    return bool(shapes) and all(len(shape) == 1 for shape in shapes)


def targets_are_linear(facts: Facts) -> Iterator[Finding]:
    """PEFT adapts matrices: a norm or a whole block is refused, and so is an empty name, which ends every path."""
    values, key = facts["recipe.values"], "lora_target"
    given = values.get(key)
    there = facts["model.weights"]
    if (
        values.get("finetuning_type", "lora") != "lora"
        or not there.get("modules")
        or not isinstance(given, (str, list))
    ):
        return
    names = [str(part).strip() for part in (given.split(",") if isinstance(given, str) else given)]
    if not any(names):
        what = f"{key} names no module; PEFT takes the empty name for the whole model, which it cannot adapt"
        yield _finding("peft-target-modules-empty", what, in_recipe(facts, key), lora_target=names, key=key)
        return
    if "all" in names:
        return
    outline = there.get("outline", {})
    blocks = {part for name in outline for part in name.split(".")[:-2]} - {"*"}
    blocks |= {name.split(".")[-2] for name, told in outline.items() if "." in name and _is_vector(told)}
    blocks -= set(there["modules"])
    wrong = [name for name in names if name in blocks or not name]
    dotted = [
        n
        for n in names
        if "." in n
        and not n.startswith(".")
        and n.rpartition(".")[2] not in {*there["modules"], *blocks, "lm_head", "embed_tokens"}
    ]
    patterns = [n for n in names if any(sign in n for sign in "*[](|)^$\\")]
    details: dict[str, Any] = {"lora_target": names, "modules": there["modules"][:50], "key": key}
    attention = [
        name for name in there["modules"] if name in ("q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "c_attn")
    ]
    details |= {"attention_modules": ",".join(attention)} if attention else {}
    if wrong:
        shown = ", ".join(name or repr(name) for name in wrong)
        what = f"{key}: {shown} is no single matrix that LoRA can adapt; there are {', '.join(there['modules'][:15])}"
        yield _finding("peft-target-modules-missing", what, in_recipe(facts, key), **details)
    elif (dotted or patterns) and len(dotted) + len(patterns) == len(names):
        what = f"{key}: {', '.join(dotted or patterns)} is no module of the model; names are compared, patterns are not read"
        yield _finding("peft-target-modules-missing", what, in_recipe(facts, key), **details)


def loss_is_the_one(facts: Facts) -> Iterator[Finding]:
    """trl came to take the loss as an argument of dpo_loss, and LLaMA-Factory goes on to name it once, when it starts."""
    values = facts["recipe.values"]
    asked = values.get("pref_loss", "sigmoid")
    if (
        values.get("stage") == "dpo"
        and facts.get("arguments.loss_is_sigmoid")
        and asked in ("hinge", "ipo", "kto_pair")
    ):
        version = facts["packages.versions"].get("trl")
        what = f"pref_loss: {asked}, and trl {version} computes the sigmoid loss unless it is told another at each step"
        yield _finding("pkg-trl-mismatch", what, in_recipe(facts, "pref_loss"), Severity.WARNING, key="pref_loss")


def sorted_by_length(facts: Facts) -> Iterator[Finding]:
    """The Trainer's sampler asks for the length of `input_ids`; a pair has those of its two answers instead."""
    values = facts["recipe.values"]
    key = sorts_by_length(values)
    if key and values.get("stage") in ("rm", "dpo"):
        what = f"{key} sorts by the length of input_ids, and a pair of stage {values['stage']} has none of its own"
        yield _conflict(facts, what, key, "stage")


def length_extended(facts: Facts) -> Iterator[Finding]:
    """The factor of a longer context is a float (model_utils/rope.py), and so is the length that is made of it; the strict
    classes of transformers 5 take whole numbers alone."""
    values, config = facts["recipe.values"], facts.get("model.config") or {}
    longest, cutoff = config.get("max_position_embeddings"), values.get("cutoff_len", 2048)
    if not values.get("rope_scaling") or not facts.get("arguments.length_as_fraction"):
        return
    version = str(facts["packages.versions"].get("transformers"))
    strict = (major := version.partition(".")[0]).isdecimal() and int(major) >= 5
    if strict and type(longest) is int and type(cutoff) is int and cutoff > longest:
        what = (
            f"rope_scaling for cutoff_len {cutoff} above max_position_embeddings {longest}: LLaMA-Factory makes the longer "
            f"length a fraction, which transformers {version} refuses"
        )
        yield _conflict(facts, what, "rope_scaling", "cutoff_len")


ALL = (
    evaluates_at_start, deepspeed_allows, accumulation_once, devices_there, checkpointing_arguments, past_is_taken,
    orthogonal_size, system_is_no_setting, quantised_by_bits, shares_not_negative, targets_are_linear, length_extended,
    loss_is_the_one, sorted_by_length,
)  # fmt: skip
