"""The machine: memory, cgroup limits, disks, /dev/shm, ulimits — against what the recipe's true size needs."""

from __future__ import annotations

import errno
import os
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from doctor.deadline import within
from doctor.estimate import states
from doctor.estimate.names import parameters_in_name
from doctor.facts import Facts, Unknown
from doctor.findings import Evidence, Finding, Severity
from doctor.hub import settings
from doctor.target import Target

ID = "machine"
AFTER: tuple[str, ...] = ("recipe",)

DISK_SECONDS = 1.0  # a local disk answers in a millisecond, a dead network mount never
SHM_SMALL = 128 << 20  # Docker gives 64 MiB unless told otherwise
DATASETS_SHARE = 4  # a tokenised cache against the data files, roughly
_PROBE_BYTES = 1 << 16
CGROUP = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")
SHM = Path("/dev/shm")
_UNLIMITED = 1 << 60  # cgroup v1 says "no limit" with a number near 2^63


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    memory = _meminfo()
    limit, used = _cgroup_memory()
    return {
        "machine.memory_total": memory.get("MemTotal", Unknown("/proc/meminfo is not there")),
        "machine.memory_available": memory.get("MemAvailable", Unknown("/proc/meminfo is not there")),
        "machine.swap_total": memory.get("SwapTotal", 0),
        "machine.cgroup_memory": limit,
        "machine.cgroup_memory_used": used,
        "machine.cpus": len(os.sched_getaffinity(0)),
        "machine.cgroup_cpus": _cgroup_cpus(),
        "machine.shm": _space(SHM),
        "machine.limits": {
            name: resource.getrlimit(number)[0]
            for name, number in {
                "memlock": resource.RLIMIT_MEMLOCK,
                "nofile": resource.RLIMIT_NOFILE,
                "nproc": resource.RLIMIT_NPROC,
                "stack": resource.RLIMIT_STACK,
                "address_space": resource.RLIMIT_AS,
            }.items()
        },
        "machine.disks": {name: _disk(target, path) for name, path in _folders(target, facts).items()},
    }


def _meminfo() -> dict[str, int]:
    """/proc/meminfo in bytes; empty where there is none."""
    try:
        lines = MEMINFO.read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    fields = (line.split() for line in lines)
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in fields if len(words) == 3 and words[2] == "kB"}


def _own_groups(controller: str) -> list[Path]:
    """Folders of the cgroup that this process is in, and of its parents, for v2 and v1."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    folders = []
    for line in lines:
        number, controllers, path = line.split(":", 2)
        base = CGROUP if number == "0" and not controllers else CGROUP / controller
        if controllers and controller not in controllers.split(","):
            continue
        parts = Path(path.lstrip("/"))
        folders += [base / parts, *(base / parent for parent in parts.parents)]
        folders.append(base)  # in a container the path is the host's, the limit is at the root
    return list(dict.fromkeys(folders))


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return None


def _cgroup_memory() -> tuple[int | None, int | None]:
    """(the tightest memory limit over this process, what is used under it), None where there is no limit."""
    tightest: tuple[int, int | None] | None = None
    for folder in _own_groups("memory"):
        for limit_file, used_file in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            limit = _number(folder / limit_file)
            if limit is not None and limit < _UNLIMITED and (tightest is None or limit < tightest[0]):
                tightest = (limit, _number(folder / used_file))
    return tightest or (None, None)


def _cgroup_cpus() -> float | None:
    """CPUs that the cgroup quota allows, None without a quota."""
    for folder in _own_groups("cpu"):
        try:
            quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
            if quota != "max":
                return round(int(quota) / int(period), 2)
        except (OSError, ValueError):
            pass
        old, length = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
        if old is not None and old > 0 and length:
            return round(old / length, 2)
    return None


def _folders(target: Target, facts: Facts) -> dict[str, Path]:
    """Folders that the run writes to, by what they are for."""
    environ, values = target.environ, facts["recipe.values"]
    folders = {}
    output = values.get("output_dir")
    if isinstance(output, str) and output:
        folders["output_dir"] = target.workdir / Path(output).expanduser()
    folders["hf_cache"] = settings.hub_cache(environ)
    datasets = environ.get("HF_DATASETS_CACHE")
    folders["datasets_cache"] = Path(datasets) if datasets else settings.hf_home(environ) / "datasets"
    folders["tmp"] = Path(environ.get("TMPDIR") or tempfile.gettempdir())
    extensions = environ.get("TORCH_EXTENSIONS_DIR")
    folders["torch_extensions"] = (
        Path(extensions) if extensions else settings.home(environ) / ".cache" / "torch_extensions"
    )
    return folders


def _disk(target: Target, path: Path) -> Any:
    """Space and a write test of the file system that `path` lies or will lie on."""
    try:
        return within(DISK_SECONDS, lambda: _disk_now(path))
    except TimeoutError:
        return {"path": str(path), "unknown": f"the file system did not answer within {DISK_SECONDS:g} s"}
    except OSError as error:
        return {"path": str(path), "unknown": error.strerror or str(error)}


def _disk_now(path: Path) -> dict[str, Any]:
    place = path
    while not place.exists() and place != place.parent:
        place = place.parent
    space = os.statvfs(place)
    return {
        "path": str(path),
        "at": str(place),
        "device": place.stat().st_dev,
        "free": space.f_bavail * space.f_frsize,
        "total": space.f_blocks * space.f_frsize,
        "inodes_free": space.f_favail if space.f_files else None,
        "write_error": _write_error(place),
    }


def _write_error(place: Path) -> str | None:
    """The name of the error that a small write meets (EROFS, EACCES, EDQUOT, ENOSPC), None when it works.

    The file has no name (O_TMPFILE), so nothing is seen and nothing is left; a file system without that gets one that
    is deleted at once.
    """
    if not place.is_dir():
        return "ENOTDIR"
    try:
        try:
            handle = os.open(place, os.O_TMPFILE | os.O_RDWR, 0o600)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
                raise
            handle, name = tempfile.mkstemp(prefix=".skyt1-doctor-", dir=place)
            os.unlink(name)
        try:
            os.write(handle, bytes(_PROBE_BYTES))
        finally:
            os.close(handle)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error.errno))
    return None


def _space(path: Path) -> Any:
    try:
        space = within(DISK_SECONDS, lambda: os.statvfs(path))
    except (OSError, TimeoutError) as error:
        return Unknown(f"{path}: {error}")
    return {"total": space.f_blocks * space.f_frsize, "free": space.f_bavail * space.f_frsize}


def _found(cause: str, what: str, where: str, severity: Severity | None = None, **details: Any) -> Finding:
    confidence = details.pop("confidence", 1.0)
    return Finding(
        cause, (Evidence(what, where),), severity=severity, confidence=confidence, source=f"probe:{ID}", details=details
    )


def _gb(count: float) -> str:
    return (
        f"{count / 1e9:,.0f} GB"
        if count >= 10e9
        else f"{count / 1e9:.1f} GB"
        if count >= 1e8
        else f"{count / 1e6:.1f} MB"
    )


def _parameters(facts: Facts) -> tuple[float, str] | None:
    """(parameters, how they are known), None when neither the config nor the name says."""
    known = facts.get("model.parameters")
    if known:
        return float(known), "its config"
    named = parameters_in_name(str(facts["recipe.values"].get("model_name_or_path") or ""))
    return (named, "its name") if named else None


def _memory(facts: Facts) -> tuple[int, str]:
    """Bytes that this process may use in all, and what limits them."""
    total, limit = facts["machine.memory_total"], facts["machine.cgroup_memory"]
    return (limit, "cgroup limit") if limit is not None and limit < total else (total, "memory of this machine")


def host_memory(facts: Facts) -> Iterator[Finding]:
    """Host memory that the states need under the recipe's offload, against what there is."""
    size = _parameters(facts)
    values = facts["recipe.values"]
    if size is None or values.get("finetuning_type", "lora") != "full":
        return
    zero = states.offload(facts["deepspeed.config"])
    on_cpu = facts["gpu.count"] == 0
    need = states.host_need(size[0], zero, facts["launch.nproc"], facts["launch.nnodes"], on_cpu)
    there, of = _memory(facts)
    if need.usual <= there:
        return
    surely = need.least > there
    what = (
        f"{need.terms} = {_gb(need.least)} at least, {_gb(need.usual)} by DeepSpeed's estimate (size by {size[1]}); "
        f"{of}: {_gb(there)}"
    )
    line = facts["recipe.lines"].get("deepspeed" if zero.stage else "model_name_or_path")
    where = f"{facts['recipe.path']}:{line}" if line else facts["recipe.path"]
    yield _found(
        "mem-host-oom", what, where, None if surely else Severity.WARNING, confidence=0.95 if surely else 0.6,
        needed_bytes=need.least, estimated_bytes=need.usual, available_bytes=there, cgroup=of == "cgroup limit",
        on_cpu=on_cpu, parameters=int(size[0]), offload=zero.optimizer != "none",
    )  # fmt: skip


def disk_for_checkpoints(facts: Facts) -> Iterator[Finding]:
    """Free space of output_dir against the checkpoints that the recipe will write."""
    disk = facts["machine.disks"].get("output_dir")
    size = _parameters(facts)
    if not disk or "unknown" in disk or size is None:
        return
    values = facts["recipe.values"]
    steps = states.steps_of(values, facts.get("dataset.records"), facts.get("launch.world_size") or 1)
    need = states.disk_need(size[0], values, bool(values.get("deepspeed")), steps)
    if need.at_least <= disk["free"] and (need.planned is None or need.planned <= disk["free"]):
        return
    short = need.at_least > disk["free"]
    saves = (
        f"{need.saves} checkpoints and the model are {_gb(need.planned)}"
        if need.planned
        else "the number of steps is not known"
    )
    what = f"{_gb(disk['free'])} free at {disk['at']}; one checkpoint takes {_gb(need.checkpoint)}, {saves} (size by {size[1]})"
    line = facts["recipe.lines"].get("output_dir")
    where = f"{facts['recipe.path']}:{line}" if line else facts["recipe.path"]
    yield _found(
        "disk-full", what, where, None if short else Severity.WARNING, confidence=0.95 if short else 0.8,
        free_bytes=disk["free"], checkpoint_bytes=need.checkpoint, planned_bytes=need.planned,
        keep=max(1, int((disk["free"] - (need.at_least - need.checkpoint)) // need.checkpoint) - 1) if not short else None,
        output_dir=disk["path"],
    )  # fmt: skip


_WRITTEN = {
    "output_dir": "output_dir of the recipe",
    "hf_cache": "the model cache",
    "datasets_cache": "the dataset cache",
}


def write_tests(facts: Facts) -> Iterator[Finding]:
    """Folders that the run must write to and cannot."""
    for name, disk in facts["machine.disks"].items():
        problem = disk.get("write_error")
        if not problem or name not in _WRITTEN:
            continue
        if name == "hf_cache" and facts.get("hub.needed") == []:
            continue  # nothing is downloaded
        why = os.strerror(getattr(errno, problem, 0))
        what = f"{_WRITTEN[name]} ({disk['path']}) cannot be written: {why} at {disk['at']}"
        details = {"folder": disk["path"], "kind": name}
        if problem == "EDQUOT":
            yield _found("disk-quota", what, disk["at"], **details)
        elif problem == "ENOSPC":
            yield _found("disk-full", what, disk["at"], output_dir=disk["path"], free_bytes=disk["free"])
        elif name != "output_dir" and problem in ("EACCES", "EPERM"):
            yield _found("hub-cache-permission", what, disk["at"], **details)
        else:
            yield _found("disk-readonly", what, disk["at"], **details)


def inodes(facts: Facts) -> Iterator[Finding]:
    for name, disk in facts["machine.disks"].items():
        if name in _WRITTEN and disk.get("inodes_free") == 0:
            what = f"no inodes are left at {disk['at']}, though {_gb(disk['free'])} are free"
            yield _found("disk-full", what, disk["at"], output_dir=disk["path"], inodes=True, free_bytes=disk["free"])


def shared_memory(facts: Facts) -> Iterator[Finding]:
    """/dev/shm of a container's default size: NCCL between GPUs and data loader workers put their buffers there."""
    shm = facts["machine.shm"]
    if shm["total"] > SHM_SMALL:
        return
    size = f"/dev/shm is {shm['total'] >> 20} MiB"
    workers = facts["recipe.values"].get("dataloader_num_workers", 0)
    if facts["gpu.count"] > 1 and facts["launch.nproc"] > 1:
        yield _found("nccl-shm-too-small", f"{size}; NCCL wants more between {facts['launch.nproc']} ranks", "/dev/shm")
    if isinstance(workers, int) and workers > 0:
        yield _found("mem-shm", f"{size}; dataloader_num_workers is {workers}", "/dev/shm", workers=workers)


JUDGEMENTS = (host_memory, disk_for_checkpoints, write_tests, inodes, shared_memory)
