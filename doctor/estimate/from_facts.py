"""An estimate from what the probes found. Pure; reading an unknown fact that is needed raises UnknownFact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from doctor.estimate import Estimate, World, estimate
from doctor.estimate.names import parameters_in_name
from doctor.facts import Facts, UnknownFact

USABLE = 0.994  # of NVML's total: the driver keeps some for itself (480 of 81,559 MiB of an H100)


def world(facts: Facts) -> World:
    """Ranks by the launch settings (one where no GPU is seen), the smallest card or part of one that the launch sees,
    the host's limit."""
    sizes = list(_card_sizes(facts))
    host, limit = facts.get("machine.memory_total"), facts.get("machine.cgroup_memory")
    return World(
        nproc=max(1, facts.get("launch.nproc") or 1),
        nnodes=max(1, facts.get("launch.nnodes") or 1),
        gpu_bytes=int(min(sizes) * USABLE) if sizes else None,
        host_bytes=min(host, limit) if host and limit else host,
    )


def _card_sizes(facts: Facts) -> Iterator[int]:
    names = facts.get("gpu.visible")
    for device in facts.get("gpu.devices") or ():
        if names is None or str(device.get("index")) in names:
            parts = [device]
        else:  # a card in parts is seen as them
            parts = [part for part in device.get("mig_devices") or () if str(part.get("uuid")) in names]
        yield from (part["memory_total"] for part in parts if part.get("memory_total"))


def model(facts: Facts) -> Mapping[str, Any] | float | None:
    """The config of the recipe's model, else its size by its name."""
    config = facts.get("model.config")
    if isinstance(config, Mapping):
        return config
    return facts.get("model.parameters") or parameters_in_name(str(facts.get("model.name") or ""))


def deepspeed(facts: Facts) -> Mapping[str, Any] | None:
    """The DeepSpeed JSON; raises UnknownFact where the recipe names one that cannot be read."""
    config = facts["deepspeed.config"]
    return config if isinstance(config, Mapping) else None


def records(facts: Facts) -> int | None:
    """Samples of all data sets, None where one was not counted to its end."""
    total = 0
    scans = (facts.get("records.scans") or {}).values()
    for scan in scans:
        count = scan["rows"] if scan.get("rows") is not None else scan["read"] if scan["complete"] else None
        if count is None:
            return None
        total += count
    return total if scans else None


def of(facts: Facts, on: World | None = None, with_changes: bool = True) -> Estimate:
    """Raises UnknownFact where the recipe, its DeepSpeed JSON or the model's size is not known."""
    size = model(facts)
    found = None
    if size is not None:
        found = estimate(
            facts["recipe.values"], size, deepspeed(facts), on or world(facts), records(facts), with_changes
        )
        if found is None and facts.get("model.parameters"):
            found = estimate(
                facts["recipe.values"], float(facts["model.parameters"]), deepspeed(facts), on or world(facts),
                records(facts), with_changes,
            )  # fmt: skip
    if found is None:
        raise UnknownFact("model.config", "neither a config.json nor the model's name tells its size")
    return found


def document(found: Estimate) -> dict[str, Any]:
    """The `estimate` of the JSON document."""
    shown: dict[str, Any] = msgspec.to_builtins(found)
    return shown
