"""The machine: memory, cgroup limits, disks, /dev/shm, ulimits."""

from __future__ import annotations

import os
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from doctor.facts import Facts, Unknown
from doctor.hub import settings
from doctor.machine import disks, judgements, leftovers, limits, limits_judged, processes_judged
from doctor.probes import whole
from doctor.target import Target

ID = "machine"
AFTER: tuple[str, ...] = ("recipe", "deepspeed")

SHM = Path("/dev/shm")
INFINIBAND = Path("/sys/class/infiniband")
_LIMITS = {
    "memlock": resource.RLIMIT_MEMLOCK,
    "nofile": resource.RLIMIT_NOFILE,
    "nproc": resource.RLIMIT_NPROC,
    "stack": resource.RLIMIT_STACK,
    "address_space": resource.RLIMIT_AS,
}
# Where clusters and rented machines keep their large disks.
_LARGE = ("/data", "/scratch", "/workspace", "/root/autodl-tmp", "/mnt")


def parts(target: Target, facts: Facts) -> Iterator[dict[str, Any]]:
    """Bytes; -1 among the limits is unlimited. `machine.disks`: what a folder is for -> disks.describe of it.

    What may wait for a dead mount comes last.
    """
    memory = limits.meminfo()
    limit, used = limits.cgroup_memory()
    shm: Any
    try:
        shm = disks.space(SHM)
    except OSError as error:
        shm = Unknown(f"{SHM}: {error}")
    lacking = Unknown(f"{limits.MEMINFO} cannot be read")
    yield {
        "machine.memory_total": memory.get("MemTotal", lacking),
        "machine.memory_available": memory.get("MemAvailable", lacking),
        "machine.swap_total": memory.get("SwapTotal", 0),
        "machine.cgroup_memory": limit,
        "machine.cgroup_memory_used": used,
        "machine.cpus": len(os.sched_getaffinity(0)),
        "machine.cgroup_cpus": limits.cgroup_cpus(),
        "machine.user": os.getuid(),
        "machine.infiniband": sorted(os.listdir(INFINIBAND)) if os.path.isdir(INFINIBAND) else [],
        "machine.shm": shm,
        "machine.shm_left": _left(shm),
        "machine.limits": {name: resource.getrlimit(number)[0] for name, number in _LIMITS.items()},
    }
    yield {"machine.disks": {name: disks.describe(path) for name, path in _folders(target, facts).items()}}
    yield {"machine.roomy": disks.roomy(_candidates(target))}


def _left(shm: Any) -> Any:
    """What ended runs have left in /dev/shm; asked for where there is much in it."""
    if isinstance(shm, Unknown) or shm["total"] - shm["free"] < leftovers.LOOKED_AT:
        return None
    try:
        return leftovers.left(SHM, os.getuid())
    except OSError as error:
        return Unknown(f"{SHM}: {error}")


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    return whole(parts(target, facts))


def _folders(target: Target, facts: Facts) -> dict[str, Path]:
    """Folders that the run writes to, by what they are for."""
    environ, values = target.environ, facts["recipe.values"]
    home = settings.home(environ)

    def given(name: str, default: Path) -> Path:
        return Path(os.path.expanduser(environ[name])) if environ.get(name) else default

    folders = {
        "hf_cache": settings.hub_cache(environ),
        "datasets_cache": settings.datasets_cache(environ),
        "tmp": given("TMPDIR", Path(tempfile.gettempdir())),
        "torch_extensions": given("TORCH_EXTENSIONS_DIR", home / ".cache" / "torch_extensions"),
    }
    cache = values.get("cache_dir")
    # A file in its place is told with the arguments.
    if isinstance(cache, str) and cache and not os.path.isfile(target.workdir / cache):
        folders["datasets_cache"] = target.workdir / cache
    output = values.get("output_dir")
    if isinstance(output, str) and output:
        folders["output_dir"] = target.workdir / os.path.expanduser(output)
    for name in _MONITORS:
        section = (facts.get("deepspeed.config") or {}).get(name)
        at = section.get("output_path") if isinstance(section, dict) and section.get("enabled") is True else None
        if isinstance(at, str) and at:
            folders["monitor"] = target.workdir / at
    return folders


_MONITORS = ("csv_monitor", "tensorboard")  # of DeepSpeed, which make their folders when the engine starts


def _candidates(target: Target) -> list[Path]:
    environ = target.environ
    named = [Path(environ[name]) for name in ("SCRATCH", "WORK", "TMPDIR") if environ.get(name)]
    mounted = sorted(Path("/mnt").glob("*"))[:8]
    return [target.workdir, settings.home(environ), *named, *map(Path, _LARGE), *mounted]


JUDGEMENTS = (*judgements.ALL, *limits_judged.ALL, *processes_judged.ALL)
