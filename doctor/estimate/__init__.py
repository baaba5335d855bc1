"""Will it fit: memory of the cards and of the host, checkpoints and disk of a recipe, before it runs.

`estimate` is pure: a recipe's values, the model's config.json (or a number of parameters), the DeepSpeed JSON, and the
world of ranks go in, an `Estimate` comes out. It needs no torch and takes some 0.1 s.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from doctor.estimate import changes, settings, shape, states, verdict
from doctor.estimate.settings import World
from doctor.estimate.timeline import trained

__all__ = ["Estimate", "World", "estimate"]

PARTS = (
    "weights", "gradients", "optimizer", "gathered", "buckets", "offload_buffers", "casts", "layer_inputs", "attention",
    "attention_mask", "feed_forward", "norms", "logits_and_loss", "step", "workspace",
)  # fmt: skip


class Estimate(msgspec.Struct, frozen=True):
    """The `estimate` of the JSON document; all in bytes. `reason` says what decides a verdict other than "fits".

    `parts` add up to `gpu_bytes_per_rank`, `host_parts` to `host_bytes_per_node`. `gpu_bytes_certain` is what tensors and
    the context hold. `steps` is None where the number of records is not known; `swap_bytes` is what an offload to NVMe
    keeps on that disk of one node.
    """

    gpu_bytes_per_rank: int
    gpu_bytes_certain: int
    host_bytes_per_node: int
    host_bytes_certain: int
    host_bytes_loading: int
    host_bytes_saving: int
    checkpoint_bytes: int
    disk_bytes: int
    swap_bytes: int
    steps: int | None
    parts: dict[str, int]
    host_parts: dict[str, int]
    verdict: str
    reason: str
    changes: list[changes.Change]


def estimate(
    recipe: Mapping[str, Any],
    model: Mapping[str, Any] | float,
    deepspeed: Mapping[str, Any] | None,
    world: World,
    records: int | None = None,
    with_changes: bool = True,
) -> Estimate | None:
    """What a run needs. `model` is its config.json or its number of parameters; `deepspeed` the JSON that the recipe
    names; `records` the samples of the data set, for the disk of the whole run. None: the config does not say enough.
    """
    form = shape.from_config(model) if isinstance(model, Mapping) else shape.from_parameters(model)
    if form is None:
        return None
    use = settings.read(recipe, deepspeed)
    judged = _with_doubts(verdict.judge(form, use, world), recipe, model, world)
    steps = states.steps_of(recipe, records, max(1, world.size // use.parallel))
    learnt = None if use.finetuning == "full" else trained(form, use)
    disk = states.disk_need(float(form.parameters + form.vision), recipe, use.deepspeed, steps, learnt)
    near: list[changes.Change] = []
    modelled = not judged.reason.startswith("not modelled")
    if with_changes and modelled and judged.verdict != verdict.FITS and (world.gpu_bytes or world.host_bytes):
        near = changes.nearest(form, use, world)
    return Estimate(
        gpu_bytes_per_rank=judged.gpu,
        gpu_bytes_certain=judged.sure,
        host_bytes_per_node=judged.host.expected,
        host_bytes_certain=judged.host.least,
        host_bytes_loading=judged.host.loading,
        host_bytes_saving=judged.host.saving,
        checkpoint_bytes=disk.checkpoint,
        disk_bytes=disk.at_least if disk.planned is None else disk.planned,
        swap_bytes=states.swap_bytes(float(form.parameters), use.zero) // max(1, world.nnodes),
        steps=steps,
        parts=_parts(judged),
        host_parts=judged.host.parts,
        verdict=judged.verdict,
        reason=judged.reason,
        changes=near,
    )


def _with_doubts(
    judged: verdict.Judged, recipe: Mapping[str, Any], model: Mapping[str, Any] | float, world: World
) -> verdict.Judged:
    """No verdict on what is not modelled; where only the model's size is known, none that is near the card's size."""
    unknown = settings.not_modelled(recipe, model)
    if unknown:
        return msgspec.structs.replace(judged, verdict=verdict.UNKNOWN, reason=f"not modelled: {unknown}")
    if isinstance(model, Mapping) or not world.gpu_bytes or judged.verdict == verdict.UNKNOWN:
        return judged
    near = (
        judged.gpu > world.gpu_bytes * 0.8 if judged.verdict == verdict.FITS else judged.sure < world.gpu_bytes * 1.25
    )
    if near and judged.reason != "host memory":
        reason = "GPU memory is within the margin"
        return msgspec.structs.replace(judged, verdict=verdict.UNKNOWN, reason=reason)
    return judged


def _parts(judged: verdict.Judged) -> dict[str, int]:
    """What the card holds at its peak: tensors by what they are, the allocator's slack, the context."""
    parts = {name: judged.held[name] for name in PARTS if judged.held.get(name)}
    return {**parts, "allocator_slack": judged.gpu - judged.sure, "context": judged.context}
