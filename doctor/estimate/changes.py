"""The nearest changes that make a run fit, the cheapest in speed first. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from doctor.estimate import verdict
from doctor.estimate.settings import Settings, World
from doctor.estimate.shape import Shape
from doctor.estimate.states import Offload


class Change(msgspec.Struct, frozen=True):
    """`set` is what to set: recipe keys, `zero_optimization.…` of the DeepSpeed JSON, or `nodes`. `note` says what it
    costs, as a key of doctor/report/estimate_text.py."""

    set: dict[str, Any]
    gpu_bytes_per_rank: int
    host_bytes_per_node: int
    note: str


_Step = tuple[dict[str, Any], Settings, World, str]


def nearest(shape: Shape, use: Settings, world: World) -> list[Change]:
    """Single changes that fit; where none does, the changes one on top of the other until the run fits."""
    single: list[Change] = []
    for setting, changed, on, note in _steps(use, world):
        if any(found.note == note for found in single):
            continue  # a longer cutoff fits already
        if found := _tried(shape, changed, on, setting, note):
            single.append(found)
    return single or _together(shape, use, world)


def _tried(shape: Shape, use: Settings, world: World, setting: dict[str, Any], note: str) -> Change | None:
    judged = verdict.judge(shape, use, world)
    if judged.verdict != verdict.FITS:
        return None
    return Change(setting, judged.gpu, judged.host.expected, note)


def _together(shape: Shape, use: Settings, world: World) -> list[Change]:
    setting: dict[str, Any] = {}
    done: set[str] = set()
    while step := next((s for s in _steps(use, world) if s[3] not in done and s[3] != "nodes"), None):
        if step[3] != "cutoff":
            done.add(step[3])
        setting |= step[0]
        _, use, world, _ = step
        if found := _tried(shape, use, world, dict(setting), "together"):
            return [found]
    return []


def _steps(use: Settings, world: World) -> list[_Step]:
    """Changes that apply to these settings, in the order of what they cost in speed."""
    replace = msgspec.structs.replace
    steps: list[_Step] = []
    keys: dict[str, Any]
    if not use.liger:
        steps.append(({"enable_liger_kernel": True}, replace(use, liger=True), world, "liger"))
    if use.eager:
        steps.append(({"flash_attn": "sdpa"}, replace(use, eager=False, mask_bytes=0), world, "sdpa"))
    if use.batch > 1:
        same = use.accumulation * use.batch
        keys = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": same}
        steps.append((keys, replace(use, batch=1, accumulation=same, mask_bytes=use.mask_bytes // 2), world, "batch"))
    if use.deepspeed and use.zero.stage in (0, 1, 2) and world.size > 1 and use.bits == 16:
        zero = Offload(3, use.zero.optimizer, "none")
        steps.append(({"zero_optimization.stage": 3}, replace(use, zero=zero), world, "zero3"))
    if not use.checkpointing:
        steps.append(({"disable_gradient_checkpointing": False}, replace(use, checkpointing=True), world, "checkpoint"))
    more = replace(world, nnodes=2 * world.nnodes)
    if (use.deepspeed and use.zero.stage) or use.fsdp:
        steps.append(({"nodes": more.nnodes}, use, more, "nodes"))
    if use.deepspeed and use.zero.stage and use.zero.optimizer == "none" and use.finetuning == "full":
        zero = Offload(use.zero.stage, "cpu", "none")
        keys = {"zero_optimization.offload_optimizer.device": "cpu"}
        steps.append((keys, replace(use, zero=zero), world, "offload_optimizer"))
    if use.bits == 16 and use.zero.parameters == "none" and use.finetuning == "full":
        keys = {"deepspeed": "ZeRO-3 offload"}
        full = replace(use, deepspeed=True, precision="half", zero=Offload(3, "cpu", "cpu"), fsdp="", unmeasured="")
        steps.append((keys, full, world, "offload_all"))
    length = use.length // 2
    while length >= 1024:
        shorter = replace(use, length=length)
        steps.append(({"cutoff_len": length * use.parallel}, shorter, world, "cutoff"))
        length //= 2
    if use.finetuning == "lora" and use.bits == 16 and use.zero.stage < 3 and not use.fsdp:
        steps.append(({"quantization_bit": 4}, replace(use, bits=4), world, "qlora"))
    if use.finetuning == "full":
        lora = replace(use, finetuning="lora", precision="half")
        steps.append(({"finetuning_type": "lora"}, lora, world, "lora"))
    return steps
