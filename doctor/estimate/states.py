"""Model states: what weights, gradients and optimizer take in host memory and in checkpoints. Pure arithmetic.

Host memory follows DeepSpeed's own estimators, `estimate_zero3_model_states_mem_needs` (runtime/zero/stage3.py) and
`estimate_zero2_model_states_mem_needs` (runtime/zero/stage_1_and_2.py) of 0.15 to 0.18. They count states, no
activations. Their factor 1.5 for buffers is kept apart, because runs have survived with less: 885 GB with it and
590 GB without it for 32.76e9 parameters under full offload.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

BUFFERS = 1.5  # additional_buffer_factor of DeepSpeed's estimators
BF16 = 2  # bytes of a 16-bit weight
FP32 = 4
ADAM_FP32 = 12  # master weight and two moments in 32 bits, as DeepSpeed's bf16/fp16 optimizer saves them


class Offload(msgspec.Struct, frozen=True):
    """The ZeRO stage of a DeepSpeed JSON and where it keeps the optimizer and the parameters: none, cpu, nvme."""

    stage: int = 0
    optimizer: str = "none"
    parameters: str = "none"


def offload(config: Mapping[str, Any] | None) -> Offload:
    """Read from a DeepSpeed JSON as transformers does (HfTrainerDeepSpeedConfig.is_offload); None is no DeepSpeed."""
    zero = (config or {}).get("zero_optimization")
    if not isinstance(zero, Mapping):
        return Offload()
    stage = zero.get("stage", 0)

    def device(key: str) -> str:
        part = zero.get(key)
        return str(part.get("device", "none")).lower() if isinstance(part, Mapping) else "none"

    return Offload(stage if isinstance(stage, int) else 0, device("offload_optimizer"), device("offload_param"))


class HostNeed(msgspec.Struct, frozen=True):
    """Bytes of host memory on one node: `least` without the buffer factor, `usual` with it; `terms` is the arithmetic."""

    least: int
    usual: int
    terms: str


def host_need(parameters: float, zero: Offload, nproc: int, nnodes: int, on_cpu: bool = False) -> HostNeed:
    """What the states of full fine-tuning take of one node's memory.

    `on_cpu`: training runs on the CPU. What is not offloaded lies in host memory all the same: 2 + 2 + 12 bytes for each
    parameter, under ZeRO-3 once over all ranks, else for every rank (under ZeRO-1 and 2 with one set of optimizer states).
    """
    nproc, nnodes = max(1, nproc), max(1, nnodes)
    nodes = f" / {nnodes} nodes" if nnodes > 1 else ""
    if zero.stage == 3 and zero.optimizer == "cpu":
        share = 18 if zero.parameters == "cpu" else 16
        least = parameters * share / nnodes
        return HostNeed(int(least), int(least * BUFFERS), f"{_count(parameters)} × {share} bytes{nodes}")
    if zero.stage in (1, 2) and zero.optimizer == "cpu":
        least = parameters * 16 / nnodes
        usual = parameters * max(4 * nproc * nnodes, 16) * BUFFERS
        return HostNeed(int(least), int(usual), f"{_count(parameters)} × 16 bytes{nodes}")
    if on_cpu:
        if zero.stage == 3:
            each, copies = 16.0 / nnodes, 1
        elif zero.stage in (1, 2):
            each, copies = 4.0 * nproc + 12.0 / nnodes, nproc
        else:
            each, copies = 16.0 * nproc, nproc
        least = parameters * each
        ranks = f", {copies} ranks" if copies > 1 else ""
        return HostNeed(int(least), int(least * BUFFERS), f"{_count(parameters)} × {each:g} bytes on the CPU{ranks}")
    return HostNeed(0, 0, "nothing is offloaded to the host")


def swap_bytes(parameters: float, zero: Offload) -> int:
    """What an offload to NVMe keeps on the disks of all nodes: 32-bit weights and moments, and 16-bit weights."""
    return int(
        parameters * ((ADAM_FP32 if zero.optimizer == "nvme" else 0) + (BF16 if zero.parameters == "nvme" else 0))
    )


def gpu_share(parameters: float, world_size: int) -> int:
    """Bytes of states on each GPU under ZeRO-3 without offload: 18 for each parameter, divided (same source)."""
    return int(parameters * 18 / max(1, world_size))


def checkpoint_bytes(
    parameters: float,
    deepspeed: bool,
    finetuning: str = "full",
    only_model: bool = False,
    pure_bf16: bool = False,
    learnt: float | None = None,
) -> int:
    """One `checkpoint-N` folder: the weights, and unless `only_model` the optimizer states.

    DeepSpeed: 2 bytes of weight and 12 of master weight and moments, 14 in all as measured. Without it LLaMA-Factory
    trains weights in 32 bits (model/adapter.py, `cast_trainable_params_to_fp32`) and saves 4 and 8 bytes; with pure_bf16
    2 and 4. `learnt`: how many elements are trained; else 1 % of the parameters stands for adapters and thawed layers.
    Freeze tuning saves the frozen weights too, in 16 bits.
    """
    trained = parameters if finetuning == "full" else parameters * 0.01 if learnt is None else learnt
    frozen = BF16 * max(0.0, parameters - trained) if finetuning == "freeze" else 0.0
    if deepspeed:
        weights, moments = BF16, ADAM_FP32
    elif pure_bf16:
        weights, moments = BF16, 2 * BF16
    else:
        weights, moments = FP32, 2 * FP32
    return int(frozen + trained * (weights if only_model else weights + moments))


class Disk(msgspec.Struct, frozen=True):
    """Bytes that a run writes into output_dir. `at_least` is one checkpoint and the final model, `planned` the whole run
    (None where the number of steps is not known); `saves` counts the checkpoints kept."""

    at_least: int
    planned: int | None
    checkpoint: int
    saves: int | None


def disk_need(
    parameters: float,
    values: Mapping[str, Any],
    deepspeed: bool,
    steps: int | None,
    learnt: float | None = None,
) -> Disk:
    """Disk for the checkpoints of a recipe, by its save_strategy, save_steps, save_total_limit and save_only_model."""
    finetuning, pure = str(values.get("finetuning_type", "lora")), values.get("pure_bf16") is True
    only = values.get("save_only_model") is True
    one = checkpoint_bytes(parameters, deepspeed, finetuning, only, pure, learnt)
    final = checkpoint_bytes(parameters, deepspeed, finetuning, True, pure, learnt)
    saves = _saves(values, steps)
    if saves == 0:
        return Disk(final, final, one, 0)
    limit = values.get("save_total_limit")
    kept = saves
    if isinstance(limit, int) and limit > 0:  # the new one is written before the oldest is deleted
        kept = limit + 1 if saves is None else min(saves, limit + 1)
    return Disk(one + final, None if kept is None else kept * one + final, one, kept)


def _saves(values: Mapping[str, Any], steps: int | None) -> int | None:
    """How many checkpoints a run writes: 0 for none, None where the number of steps is not known."""
    strategy = str(values.get("save_strategy", "steps"))
    if strategy in ("no", "False"):
        return 0
    if strategy == "epoch":
        epochs = values.get("num_train_epochs", 3.0)
        return max(1, int(epochs)) if _usable(epochs) else None
    if steps is None:
        return None
    every = values.get("save_steps", 500)
    if not _usable(every) or every <= 0:
        return None
    # below 1 it is a share of all steps; a run also saves after its last step (since transformers 4.43)
    return max(1, int(-(-1 // every))) if every < 1 else max(1, -(-steps // int(every)))


def steps_of(values: Mapping[str, Any], records: int | None, world_size: int) -> int | None:
    """Optimizer steps of a run, None where the number of records is not known and max_steps does not say."""
    most = values.get("max_steps", -1)
    if isinstance(most, int) and most > 0:
        return most
    numbers = [values.get("per_device_train_batch_size", 8), values.get("gradient_accumulation_steps", 1),
               values.get("num_train_epochs", 3.0)]  # fmt: skip
    if records is None or not all(_usable(n) and n > 0 for n in numbers):
        return None
    batch, accumulation, epochs = numbers
    limit = values.get("max_samples")
    used = min(records, limit) if isinstance(limit, int) and limit > 0 else records
    per_epoch = max(1, used // max(1, int(batch * accumulation * max(1, world_size))))
    return max(1, int(per_epoch * epochs))


def _usable(value: Any) -> bool:
    """A number that a run could have; neither nan nor infinite."""
    return isinstance(value, (int, float)) and abs(value) < 1e15


def _count(parameters: float) -> str:
    return f"{parameters / 1e9:.2f}e9 parameters" if parameters >= 1e8 else f"{parameters:.0f} parameters"
