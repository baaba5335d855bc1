"""Whether the cards can hold what the recipe will train: the memory planner asked before the launch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from doctor.estimate import Estimate, World, from_facts, verdict
from doctor.facts import Facts
from doctor.findings import Evidence, Finding, Severity
from doctor.target import Target

ID = "memory"
AFTER: tuple[str, ...] = ("recipe", "model", "deepspeed", "gpu", "launch", "machine")
_GIB = 1 << 30


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    """Nothing of its own: the planner works from other probes' facts."""
    return {}


def too_large(facts: Facts) -> Iterator[Finding]:
    """Nothing where no GPU is seen. An error when tensors alone exceed the card, a warning within the margin."""
    if not facts["gpu.count"] or not facts["recipe.values"].get("do_train", False):
        return
    world = from_facts.world(facts)
    if world.gpu_bytes is None:
        return
    found = from_facts.of(facts, world)
    if found.reason.startswith("host memory"):
        yield from _host_too_small(facts, found, world)
    if found.verdict == verdict.FITS or not found.reason.startswith("GPU"):
        return
    surely = found.verdict == verdict.NOT
    need = f"{found.gpu_bytes_certain / _GIB:.1f}"
    what = f"the run needs about {need} GiB of each GPU at its peak, {world.gpu_bytes / _GIB:.1f} GiB can be used"
    line = facts["recipe.lines"].get("per_device_train_batch_size")
    where = f"{facts['recipe.path']}:{line}" if line else str(facts["recipe.path"])
    yield Finding(
        "cuda-oom",
        (Evidence(what, where),),
        severity=Severity.ERROR if surely else Severity.WARNING,
        confidence=0.9 if surely else 0.6,
        source=f"probe:{ID}",
        details=_details(facts, found),
    )


def _host_too_small(facts: Facts, found: Estimate, world: World) -> Iterator[Finding]:
    """Where loading, not an offload, is what the host cannot hold; of an offload the probe `machine` speaks."""
    if "loading" not in found.host_parts or not world.host_bytes:
        return
    surely = found.verdict == verdict.NOT
    need = found.host_bytes_certain if surely else found.host_bytes_loading
    what = (
        f"loading the weights on {world.nproc} ranks takes {'at least' if surely else 'up to'} {need / _GIB:.1f} GiB of "
        f"this node's {world.host_bytes / _GIB:.1f} GiB"
    )
    yield Finding(
        "mem-host-oom",
        (Evidence(what, str(facts["recipe.path"])),),
        severity=Severity.ERROR if surely else Severity.WARNING,
        confidence=0.9 if surely else 0.5,
        source=f"probe:{ID}",
    )


def _details(facts: Facts, found: Estimate) -> dict[str, Any]:
    """What the fixes of cuda-oom ask for, from the changes that the planner found to suffice."""
    values = facts["recipe.values"]
    config = facts["deepspeed.config"] or {}
    zero = config.get("zero_optimization") if isinstance(config, dict) else None
    details: dict[str, Any] = {
        "gradient_checkpointing_disabled": values.get("disable_gradient_checkpointing") is True,
        "zero3": isinstance(zero, dict) and zero.get("stage") == 3,
        "quantized": bool(values.get("quantization_bit")),
        "liger_available": "liger-kernel" in (facts.get("packages.versions") or {}),
        "fragmented": False,
    }
    for change in found.changes:
        if "gradient_accumulation_steps" in change.set:
            details["accumulation_for_same_batch"] = change.set["gradient_accumulation_steps"]
        if "cutoff_len" in change.set:
            details["shorter_cutoff_len"] = change.set["cutoff_len"]
        details["host_memory_suffices"] = details.get("host_memory_suffices", False) or change.note == "offload_all"
    return details


JUDGEMENTS = (too_large,)
