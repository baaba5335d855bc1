"""Faults of single DeepSpeed releases, judged from versions, the JSON and the model. Collects nothing of its own."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from packaging.version import Version

from doctor.facts import Facts
from doctor.findings import Finding, found, in_recipe
from doctor.probes import Judgement
from doctor.probes.deepspeed import stage
from doctor.probes.packages import version_of
from doctor.target import Target

ID = "deepspeed_releases"
AFTER: tuple[str, ...] = ()

_found = partial(found, ID)

_BUCKETS = ("reduce_bucket_size", "stage3_prefetch_bucket_size", "stage3_param_persistence_threshold")


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    return {}


def _between(facts: Facts, first: str, after: str) -> Version | None:
    """The installed DeepSpeed where a recipe uses it and it is one of `first` up to, not including, `after`."""
    have = version_of(facts, "deepspeed") if facts["deepspeed.config_path"] is not None else None
    return have if have and Version(first) <= have < Version(after) else None


def _auto(facts: Facts) -> list[str]:
    """The bucket sizes under ZeRO-3 that transformers is to fill."""
    zero = facts["deepspeed.config"].get("zero_optimization", {})
    return [key for key in _BUCKETS if stage(facts) == 3 and zero.get(key) == "auto"]


def zero2_gradients(facts: Facts) -> Iterator[Finding]:
    """ZeRO-2 with accumulation loses gradients in 0.17.6 to 0.18.2 (https://github.com/deepspeedai/DeepSpeed/issues/7718)."""
    have = _between(facts, "0.17.6", "0.18.3")
    steps = facts["recipe.values"].get("gradient_accumulation_steps", 1)
    if have and stage(facts) == 2 and isinstance(steps, int) and steps > 1 and facts["launch.world_size"] > 1:
        what = f"deepspeed {have} loses gradients under ZeRO-2 with gradient_accumulation_steps {steps}"
        yield _found("ds-zero2-gradient-bug", what, in_recipe(facts, "gradient_accumulation_steps"))


def checkpointing_memory(facts: Facts) -> Iterator[Finding]:
    """ZeRO-3 with gradient checkpointing keeps parameters too long in 0.16.4 to 0.16.7; of interest on GPUs only."""
    have = _between(facts, "0.16.4", "0.16.8")
    off = facts["recipe.values"].get("disable_gradient_checkpointing")
    if have and stage(facts) == 3 and facts["gpu.count"] > 0 and not off:
        what = f"deepspeed {have} with ZeRO-3 and gradient checkpointing keeps gathered parameters too long"
        yield _found("ds-grad-ckpt-memory-regression", what, "deepspeed")


def recomputes_frozen(facts: Facts) -> Iterator[Finding]:
    """A checkpoint without re-entrance recomputes a block whose frozen parameters ZeRO-3 partitions at its end: torch sees
    other shapes and stops. Tried with 0.18.4; 0.19.2 still has it (https://github.com/deepspeedai/DeepSpeed/pull/8148)."""
    values, have = facts["recipe.values"], _between(facts, "0", "0.19.3")
    kwargs = values.get("gradient_checkpointing_kwargs")
    asked = isinstance(kwargs, dict) and kwargs.get("use_reentrant") is False
    key = "gradient_checkpointing_kwargs" if asked else "use_reentrant_gc"
    frozen = values.get("finetuning_type", "lora") != "full"
    off = values.get("disable_gradient_checkpointing") is True
    if have and frozen and not off and stage(facts) == 3 and (asked or values.get(key) is False):
        what = (
            f"{key} asks for checkpoints without re-entrance, which ZeRO-3 cannot recompute where parameters are frozen"
        )
        yield _found("ds-zero3-recompute-frozen", what, in_recipe(facts, key), gradient_checkpointing_kwargs=asked)


def world_size_in_batch(facts: Facts) -> Iterator[Finding]:
    """0.9.0 to 0.9.2 multiply the batch with a world size of 1 under ZeRO-3."""
    have = _between(facts, "0.9.0", "0.9.3")
    if have and stage(facts) == 3 and (facts.get("launch.world_size") or 1) > 1:
        what = f"deepspeed {have} takes the world size for 1 when it checks the batch size under ZeRO-3"
        yield _found("ds-batch-world-size-one", what, "deepspeed")


def triton_at_import(facts: Facts) -> Iterator[Finding]:
    """Before 0.16.4 the import asks triton 3.2 and newer for a GPU driver."""
    have, triton = _between(facts, "0", "0.16.4"), version_of(facts, "triton")
    if have and triton and triton >= Version("3.2") and facts["gpu.count"] == 0:
        what = f"deepspeed {have} imports kernels with which triton {triton} asks for a GPU, and there is none"
        yield _found("ds-import-triton", what, "triton")


def hidden_size_nested(facts: Facts) -> Iterator[Finding]:
    """transformers before 4.46 looks for hidden_size at the top of config.json only."""
    transformers, config = version_of(facts, "transformers"), facts["model.config"] or {}
    if facts["deepspeed.config_path"] is None or not transformers or transformers >= Version("4.46"):
        return
    if not _auto(facts) or "hidden_size" in config or not isinstance(config.get("text_config"), dict):
        return
    what = (
        f"{', '.join(_auto(facts))}: auto, config.json has hidden_size only in text_config, transformers {transformers}"
    )
    yield _found("ds-hidden-size-auto", what, facts["deepspeed.config_path"])


def prefetch_bucket(facts: Facts) -> Iterator[Finding]:
    """transformers before 4.45 fills 0.9 · hidden_size², and DeepSpeed from 0.15 on refuses a fraction."""
    have, transformers = _between(facts, "0.15", "99"), version_of(facts, "transformers")
    size = (facts["model.config"] or {}).get("hidden_size")
    if not have or not transformers or transformers >= Version("4.45") or not isinstance(size, int):
        return
    if "stage3_prefetch_bucket_size" in _auto(facts) and size * size * 9 % 10:
        what = f"stage3_prefetch_bucket_size becomes {0.9 * size * size}, and deepspeed {have} takes whole numbers only"
        yield _found("ds-prefetch-bucket-float", what, facts["deepspeed.config_path"])


def torch_fits(facts: Facts) -> Iterator[Finding]:
    """torch 2.4 renamed what DeepSpeed up to 0.14.0 imports; DeepSpeed from 0.15 uses what torch before 2.2 lacks."""
    have, torch = _between(facts, "0", "99"), version_of(facts, "torch")
    if not have or not torch:
        return
    details: dict[str, Any] = {"package": "deepspeed", "torch_version": str(torch)}
    if torch >= Version("2.4") and have <= Version("0.14.0"):
        what = f"deepspeed {have} imports parts of torch that {torch} has renamed (first that fits: 0.14.1)"
        yield _found(
            "pkg-deepspeed-torch-mismatch", what, "deepspeed", **details, deepspeed_too_old=torch < Version("2.6")
        )
    elif torch < Version("2.2") and have >= Version("0.15"):
        what = f"deepspeed {have} uses functions of torch.compiler that torch {torch} lacks"
        yield _found("pkg-deepspeed-torch-mismatch", what, "deepspeed", **details, requirement="deepspeed==0.14.4")


JUDGEMENTS: tuple[Judgement, ...] = (
    zero2_gradients, checkpointing_memory, recomputes_frozen, world_size_in_batch, triton_at_import, hidden_size_nested,
    prefetch_bucket, torch_fits,
)  # fmt: skip
