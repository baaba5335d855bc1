"""Locks that a build of DeepSpeed's operators left behind: torch waits for such a file without end and says nothing.

torch/utils/file_baton.py makes `lock` in the folder of each operator below TORCH_EXTENSIONS_DIR and takes it away at the
end of the build; a build that was killed does not come to that.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from doctor.estimate.states import offload
from doctor.facts import Facts
from doctor.findings import Finding, found
from doctor.target import Target

ID = "build_locks"
AFTER: tuple[str, ...] = ("surroundings",)

LEFT_BEHIND = 900.0  # seconds; the longest builds of one operator take a few minutes
# Folders of operators that DeepSpeed compiles when a run of this kind starts (deepspeed/ops, deepspeed/comm/torch.py).
ON_CPU, OFFLOADED, FUSED, NVME = "deepspeed_shm_comm", "cpu_adam", "fused_adam", "async_io"


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    """`build_locks.old`: [{path, operator, seconds}] of this Python, the oldest first."""
    if not (folder := facts["surroundings.extensions_dir"]):
        return {"build_locks.old": []}
    root = Path(folder)
    own = "py" + "".join(target.version.split(".")[:2]) + "_"  # py311_cu130; a folder that was given has no such level
    now, old = time.time(), []
    for lock in [*root.glob("*/lock"), *root.glob(f"{own}*/*/lock")]:
        try:
            seconds = now - lock.stat().st_mtime
        except OSError:  # taken away in between
            continue
        if seconds >= LEFT_BEHIND:
            old.append({"path": str(lock), "operator": lock.parent.name, "seconds": round(seconds)})
    return {"build_locks.old": sorted(old, key=lambda each: -each["seconds"])}


def waits(facts: Facts) -> Iterator[Finding]:
    needed = operators(facts)
    for lock in facts["build_locks.old"]:
        if lock["operator"] in needed:
            hours = lock["seconds"] / 3600
            what = f"{lock['path']} has been there for {hours:.1f} h; the run waits for a build that nobody makes"
            yield found(ID, "ds-op-build-lock", what, lock["path"], lock=lock["path"])


def operators(facts: Facts) -> set[str]:
    """The operators that this run compiles or loads at its start."""
    config: Any = facts["deepspeed.config"]
    if not isinstance(config, dict):
        return set()
    zero = offload(config)
    devices = {zero.optimizer, zero.parameters}
    section = config.get("zero_optimization")
    zero3 = isinstance(section, dict) and section.get("stage") == 3
    asked = {NVME} if "nvme" in devices and zero3 else set()  # the other stages offload to the CPU instead
    if devices & {"cpu", "nvme"}:
        asked.add(OFFLOADED)
    elif isinstance(config.get("optimizer"), dict):
        asked.add(FUSED)
    return asked | ({ON_CPU} if facts.get("gpu.count") == 0 else set())


JUDGEMENTS = (waits,)
