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
from doctor.estimate.timeline import optimizer_bytes, trained

__all__ = ["Estimate", "World", "estimate"]


class Estimate(msgspec.Struct, frozen=True):
    """The `estimate` of the JSON document; all in bytes. `reason` says what decides a verdict other than "fits"."""

    gpu_bytes_per_rank: int
    gpu_bytes_certain: int
    host_bytes_per_node: int
    host_bytes_certain: int
    checkpoint_bytes: int
    disk_bytes: int
    parts: dict[str, int]
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
    disk = states.disk_need(float(form.parameters), recipe, use.deepspeed, states.steps_of(recipe, records, world.size))
    near: list[changes.Change] = []
    modelled = not judged.reason.startswith("not modelled")
    if with_changes and modelled and judged.verdict != verdict.FITS and (world.gpu_bytes or world.host_bytes):
        near = changes.nearest(form, use, world)
    return Estimate(
        gpu_bytes_per_rank=judged.gpu,
        gpu_bytes_certain=judged.sure,
        host_bytes_per_node=judged.host.expected,
        host_bytes_certain=judged.host.least,
        checkpoint_bytes=disk.checkpoint,
        disk_bytes=disk.at_least if disk.planned is None else disk.planned,
        parts=_parts(form, use, world, judged),
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


def _parts(form: shape.Shape, use: settings.Settings, world: World, judged: verdict.Judged) -> dict[str, int]:
    """What the card holds, in bytes: states by what they are, logits and loss, other activations with the buffers of
    ZeRO, the allocator's slack and the context. They add up to the card's figure."""
    elements, split = trained(form, use), world.size if use.deepspeed else 1
    stage = use.zero.stage if use.deepspeed else 0
    wide = 4.0 if use.precision != "half" and use.finetuning == "full" else 2.0
    base = {4: 0.52, 8: 1.02}.get(use.bits, wide)
    on_host = use.zero.optimizer in ("cpu", "nvme")
    weights = base * form.parameters / (split if stage == 3 else 1)
    if stage == 3 and use.zero.parameters in ("cpu", "nvme"):
        weights = min(2.0 * form.parameters, 2.0 * use.live)
    gradients = (2.0 if use.deepspeed else wide) * elements / (split if stage >= 2 else 1)
    each = optimizer_bytes(use.optimizer) + (4.0 if use.deepspeed else 0.0)
    states_ = each * elements / (split if stage else 1)
    logits = 0.0 if use.liger else 12.0 * use.tokens * form.vocabulary
    found = {
        "weights": weights,
        "gradients": 0.0 if on_host else gradients,
        "optimizer": 0.0 if on_host else states_,
        "logits_and_loss": logits,
    }
    # what is not held at the peak's moment (gradients, at the loss) does not count there
    excess = sum(found.values()) - judged.allocated
    for name in ("gradients", "logits_and_loss"):
        if excess > 0:
            taken = min(excess, found[name])
            found[name] -= taken
            excess -= taken
    rest = max(0.0, judged.allocated - sum(found.values()))
    parts = {name: int(size) for name, size in found.items()}
    parts["activations_and_buffers"] = int(rest)
    parts["allocator_slack"] = judged.gpu - judged.sure
    parts["context"] = judged.context
    return parts
