"""The recipe → the recipe of the rehearsal: what is set, what is taken out, and what is thereby not rehearsed.

Everything that is not named here stays as the user wrote it: template, learning rate, packing, DeepSpeed file,
accumulation, adapters' targets, workers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from doctor.recipe.value_types import TRACKERS
from doctor.rehearse.data import Data
from doctor.rehearse.notes import note
from knowledge_base.schema import Text

STEPS = 2  # optimizer steps: a checkpoint after the first, the end after the second
# Logits (tokens × vocabulary) that all micro-steps of a rehearsal on the CPU may compute, per process: they take
# most of its time, whatever the model.
CPU_LOGITS = 0.8e9
GPU_LENGTH, SHORTEST = 4096, 64
MOST_MICRO_STEPS = 64  # of one optimizer step
MOST_EVALUATED = 8  # records
WORKERS = 2  # processes that convert and tokenize: as with ranks, more show nothing further, and each takes a second
NEW_TOKENS = 8

# What only works with a GPU, and what a value of it means; taken out where there is none.
_NEEDS_GPU = {
    "flash_attn": ("fa2", "fa3"), "enable_liger_kernel": (True,), "use_unsloth": (True,), "use_unsloth_gc": (True,),
    "pure_bf16": (True,), "fp16": (True,), "tf32": (True,), "fp8": (True,), "torch_compile": (True,),
    "bf16_full_eval": (True,), "fp16_full_eval": (True,), "shift_attn": (True,),
}  # fmt: skip
_NEEDS_GPU_WITH_ANY = ("quantization_bit", "quantization_method", "fsdp", "fsdp_config", "torch_compile_backend",
                       "fp8_backend")  # fmt: skip
_GPU_OPTIMIZERS = re.compile(r"bnb|8bit|4bit|paged|fused|npu|apex|anyprecision|lomo")
_PUSHES = ("push_to_hub", "push_to_hub_model_id", "push_to_hub_token", "hub_model_id", "hub_strategy")
_STRATEGIES = ("steps", "epoch", "best")


class Machine(msgspec.Struct, frozen=True):
    """What the rehearsal runs on, and for what it stands. `real` processes will train on `nodes` nodes."""

    gpus: int
    real: int
    nodes: int
    bf16_on_cpu: bool

    @property
    def processes(self) -> int:
        """One or two: a second process shows what only several show, more show nothing further."""
        wanted = min(2, self.real)
        return min(wanted, self.gpus) if self.gpus else wanted


class Plan(msgspec.Struct):
    """`values` to set in the recipe, `unset` keys to take out, `deepspeed` the changed DeepSpeed settings or None.

    `skips`: stage -> why it is not run. `limits`: key -> [recipe's value, rehearsed value].
    """

    values: dict[str, Any]
    unset: list[str]
    skips: dict[str, Text]
    notes: list[Text]
    limits: dict[str, list[Any]]
    deepspeed: dict[str, Any] | None
    processes: int
    steps: int = STEPS

    @property
    def evaluates(self) -> bool:
        return "evaluate" not in self.skips


def refused(values: Mapping[str, Any], environ: Mapping[str, str]) -> Text | None:
    """Why a recipe cannot be rehearsed at all; None when it can."""
    from doctor.recipe.recipe_kind import other_program

    if other := other_program(environ):
        return note("program", reason=other)
    if str(environ.get("USE_RAY", "0")).lower() in ("1", "true"):
        return note("program", reason="USE_RAY=1 starts workers of a Ray cluster")
    if values.get("do_train") is not True:
        return note("not_training")
    if values.get("stage") == "ppo":
        return note("stage", stage="ppo")
    return None


def make(
    values: Mapping[str, Any], machine: Machine, data: Data, vocabulary: int, deepspeed: Mapping[str, Any] | None
) -> Plan:
    """`data` is the sample that there is to train on, `vocabulary` the model's; `deepspeed` the recipe's JSON."""
    plan = Plan({}, [], {}, [], {}, None, machine.processes)
    _machine(values, machine, plan)
    _length(values, machine, vocabulary, plan)
    _workers(values, plan)
    _steps(values, plan)
    _evaluation(values, data, plan)
    _models(values, plan)
    if machine.gpus == 0:
        _without_gpu(values, machine, deepspeed, plan)
    _outside(values, plan)
    # A value that LLaMA-Factory would refuse stays, so that the rehearsal is refused as well.
    plan.values = {key: new for key, new in plan.values.items() if _same_kind(values.get(key), new)}
    return plan


def _same_kind(old: Any, new: Any) -> bool:
    """Whether `new` may stand for `old`: both numbers, or both not."""
    if old is None or isinstance(new, str):
        return True
    return isinstance(old, (int, float)) and not isinstance(old, bool)


def _outside(values: Mapping[str, Any], plan: Plan) -> None:
    """What a run tells the world: trackers, hubs, an earlier run's checkpoint."""
    plan.values["logging_steps"] = 1
    named = values.get("report_to")
    trackers = [str(name) for name in (named if isinstance(named, list) else [named]) if name is not None]
    if all(name in TRACKERS for name in trackers):
        plan.values["report_to"] = "none"
        plan.notes += [note("tracker", name=name) for name in trackers if name not in ("none", "all")]
    if values.get("use_swanlab") is True:
        plan.unset.append("use_swanlab")
        plan.notes.append(note("tracker", name="swanlab"))
    if values.get("push_to_hub") is True:
        plan.unset += [key for key in _PUSHES if key in values]
        plan.notes.append(note("push"))
    if values.get("resume_from_checkpoint"):
        plan.unset.append("resume_from_checkpoint")
        plan.notes.append(note("earlier_checkpoint"))


def _machine(values: Mapping[str, Any], machine: Machine, plan: Plan) -> None:
    if machine.gpus == 0:
        plan.notes.append(note("no_gpu"))
    if machine.real > machine.processes:
        plan.notes.append(note("processes", real=machine.real, rehearsed=machine.processes))
    if machine.nodes > 1:
        plan.notes.append(note("nodes", nodes=machine.nodes))


def _number(value: Any, default: float) -> float:
    """A number as LLaMA-Factory may read it; one that it would refuse is not ours to mend."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else default


def _limit(plan: Plan, key: str, real: Any, rehearsed: Any) -> None:
    plan.values[key] = rehearsed
    plan.limits[key] = [real, rehearsed]
    plan.notes.append(note("capped", key=key, real=real, rehearsed=rehearsed))


def _length(values: Mapping[str, Any], machine: Machine, vocabulary: int, plan: Plan) -> None:
    """Accumulation and length of sequences, so that the steps end in time."""
    given = values.get("gradient_accumulation_steps")
    accumulation = _number(given, 1)
    batch = max(1.0, _number(values.get("per_device_train_batch_size"), 1))
    most = max(2, int(MOST_MICRO_STEPS // batch))
    if accumulation > most:
        _limit(plan, "gradient_accumulation_steps", given, most)
        accumulation = most
    length = values.get("cutoff_len", 2048)
    longest: float = GPU_LENGTH
    if machine.gpus == 0:
        micro_steps = max(1.0, accumulation) * batch * (STEPS + 1)  # and one more step after the resume
        longest = max(SHORTEST, 64 * math.floor(CPU_LOGITS / max(1, vocabulary) / micro_steps / 64))
        longest = min(longest, 1024)
    if isinstance(length, int) and length > longest:
        _limit(plan, "cutoff_len", length, int(longest))


def _workers(values: Mapping[str, Any], plan: Plan) -> None:
    key = "preprocessing_num_workers"
    given = values.get(key)
    if _number(given, 0) > WORKERS:
        plan.values[key] = WORKERS
        plan.limits[key] = [given, WORKERS]


def _steps(values: Mapping[str, Any], plan: Plan) -> None:
    plan.values["max_steps"] = STEPS
    strategy = values.get("save_strategy", "steps")
    stage, kind = values.get("stage", "sft"), values.get("finetuning_type", "lora")
    if strategy in _STRATEGIES:
        plan.values |= {"save_steps": 1} if strategy == "steps" else {"save_strategy": "steps", "save_steps": 1}
        if values.get("save_only_model"):
            plan.skips["resume"] = note("model_only")
        elif stage == "rm" and kind in ("full", "freeze"):
            plan.skips["resume"] = note("no_resume", stage=stage)
    else:
        plan.skips["resume"] = note("no_saving")
    warmup = values.get("warmup_steps")
    if isinstance(warmup, int) and warmup > STEPS:
        plan.values["warmup_steps"] = 1


def _evaluation(values: Mapping[str, Any], data: Data, plan: Plan) -> None:
    key = "evaluation_strategy" if "evaluation_strategy" in values else "eval_strategy"
    during = values.get(key) in _STRATEGIES
    if not during and not values.get("do_eval") and not values.get("do_predict"):
        plan.skips["evaluate"] = note("no_evaluation")
    if during:
        plan.values |= {key: "steps", "eval_steps": 1}
    size = values.get("val_size")
    possible = data.total is None or _number(size, 0) < data.total  # else the run is to say that it is not
    if isinstance(size, (int, float)) and not isinstance(size, bool) and size > 1 and possible:
        kept = max(1, min(int(size), MOST_EVALUATED, data.records // 4))
        if kept < size:
            plan.values["val_size"] = kept
    if "max_new_tokens" in values or values.get("predict_with_generate"):
        plan.values["max_new_tokens"] = NEW_TOKENS
    if _number(values.get("eval_delay"), 0) > 0:
        plan.unset.append("eval_delay")


def _models(values: Mapping[str, Any], plan: Plan) -> None:
    """Other models than the one that is trained: adapters do not fit its twin, a reference model is the twin."""
    if values.get("adapter_name_or_path"):
        plan.unset += [key for key in ("adapter_name_or_path", "create_new_adapter") if key in values]
        plan.notes.append(note("adapter"))
    for key in ("ref_model", "reward_model"):
        if values.get(key):
            plan.unset += [name for name in (key, f"{key}_adapters", f"{key}_quantization_bit") if name in values]
            plan.notes.append(note("second_model", key=key))
    for key in ("freeze_trainable_layers", "badam_start_block"):
        if isinstance(values.get(key), int) and abs(values[key]) > 1:
            plan.values[key] = 1
    if values.get("pissa_init") and _number(values.get("lora_rank"), 8) > 8:
        plan.values["lora_rank"] = 8


def _without_gpu(values: Mapping[str, Any], machine: Machine, deepspeed: Mapping[str, Any] | None, plan: Plan) -> None:
    def drop(key: str) -> None:
        plan.unset.append(key)
        plan.notes.append(note("dropped", key=key, value=values[key]))

    both = bool(values.get("bf16")) and bool(values.get("fp16"))  # refused everywhere
    for key, needing in _NEEDS_GPU.items():
        if key in values and values[key] in needing and not (both and key == "fp16"):
            drop(key)
    for key in _NEEDS_GPU_WITH_ANY:
        if values.get(key) and not (key == "quantization_bit" and _refuses_quantisation(values)):
            drop(key)
    if isinstance(values.get("optim"), str) and _GPU_OPTIMIZERS.search(values["optim"]):
        drop("optim")
    if values.get("bf16") is True and not machine.bf16_on_cpu and not both:
        plan.unset.append("bf16")
        plan.notes.append(note("bf16"))
    if deepspeed is not None:
        _precision(deepspeed, plan)


def _refuses_quantisation(values: Mapping[str, Any]) -> bool:
    """LLaMA-Factory does, wherever it runs: only adapters can be trained on a quantised model."""
    return values.get("finetuning_type", "lora") not in ("lora", "oft") or bool(values.get("resize_vocab"))


def _precision(deepspeed: Mapping[str, Any], plan: Plan) -> None:
    """A DeepSpeed file that fixes a precision which was taken out of the recipe is made to follow the recipe."""
    changed: dict[str, Any] = {}
    for name in ("bf16", "fp16"):
        section = deepspeed.get(name)
        if name in plan.unset and isinstance(section, dict) and section.get("enabled") is True:
            changed[name] = {**section, "enabled": "auto"}
    if changed:
        plan.deepspeed = {**deepspeed, **changed}
