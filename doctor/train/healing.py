"""What may be done by itself after a failure: pure decisions. A run is resumed at most once for each cause."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from doctor.findings import Finding
from doctor.machine.limits import CGROUP
from doctor.train.sizes import nice_bytes

# Host memory below this share of its limit in the last samples: a SIGKILL then came from somebody, not from the kernel.
MEMORY_WAS_FREE = 0.8
SAMPLES_LOOKED_AT = 12  # a minute: memory can fill within seconds, so one sample says little
ENOUGH_CONFIDENCE = 0.5  # of the diagnosis; below it a cause is a guess, and a run is not restarted on a guess
DISK_SPARE = 0.02


class Situation(msgspec.Struct):
    """What is known when a run has failed. `oom_kills`: those counted since the run began."""

    samples: Sequence[Mapping[str, Any]] = ()
    oom_kills: int = 0
    checkpoint_bytes: int | None = None
    disk_free: int | None = None
    port_busy: bool = False


class Transient(msgspec.Struct, frozen=True):
    """Why the failure may be gone by itself, in both languages; None in `en` when it is not. `wait`: not yet, look again."""

    en: str
    zh: str
    wait: bool = False


def transient(finding: Finding, now: Situation) -> Transient | None:
    """Whether a plain resume is sound for this cause, and why. Pure."""
    judge = _TRANSIENT.get(finding.cause)
    return judge(now) if judge and finding.confidence >= ENOUGH_CONFIDENCE else None


def _killed(now: Situation) -> Transient | None:
    """SIGKILL is the kernel's when memory is short: a resumed run would be killed again."""
    shares = [
        sample["host_used"] / (sample.get("host_limit") or sample["host_total"])
        for sample in list(now.samples)[-SAMPLES_LOOKED_AT:]
        if "host_used" in sample
    ]
    if not shares or max(shares) > MEMORY_WAS_FREE or now.oom_kills:
        return None
    return Transient(
        f"a process was killed from outside: host memory was at most {max(shares):.0%} full, the kernel killed nothing",
        f"进程被外部终止：主机内存占用最高 {max(shares):.0%}，内核没有因内存不足终止进程",
    )


def _port(now: Situation) -> Transient | None:
    if now.port_busy:
        return None  # a fix takes another one
    return Transient("the port is free again", "端口已空闲")


def _disk(now: Situation) -> Transient | None:
    if now.disk_free is None:
        return None
    need = (now.checkpoint_bytes or 0) * (1 + DISK_SPARE)
    free = nice_bytes(now.disk_free)
    if now.disk_free > max(need, 1 << 26):  # 64 MB: room at least for logs, where no checkpoint was measured yet
        return Transient(f"the disk has room again: {free} free", f"磁盘又有空间了：剩余 {free}")
    return Transient(f"waiting for room on the disk: {free} free", f"等待磁盘腾出空间：剩余 {free}", wait=True)


def _peers(now: Situation) -> Transient | None:
    return Transient(
        "a rank was lost during communication; started anew it may be there",
        "通信中丢失了一个 rank，重新启动后可能恢复",
    )


def _hang(now: Situation) -> Transient | None:
    return Transient("the ranks that stood still were ended", "停滞的 rank 已被终止")


def _stale(now: Situation) -> Transient | None:
    return Transient("files on the network share are opened anew", "网络共享上的文件会被重新打开")


_TRANSIENT: dict[str, Callable[[Situation], Transient | None]] = {
    "launch-sigkill-oom": _killed,
    "data-workers-crash": _killed,
    "data-loader-worker-died": _killed,
    "data-loader-worker-killed": _killed,
    "launch-port-in-use": _port,
    "disk-full": _disk,
    "nccl-timeout": _peers,
    "nccl-peer-exited": _peers,
    "disk-stale-handle": _stale,
    "train-hang": _hang,
}

# Variables that change how many ranks there are, and with it the global batch: what was computed would change.
CHANGES_RESULTS = frozenset({"CUDA_VISIBLE_DEVICES", "NPROC_PER_NODE", "NNODES", "WORLD_SIZE"})


def keeps_results(actions: Sequence[Mapping[str, Any]]) -> bool:
    """Whether actions of a fix of class safe leave what the training computes alone, the number of ranks included."""
    return not any(
        action.get("kind") in ("set-launch", "unset-launch")
        and CHANGES_RESULTS & {*action.get("values", {}), *action.get("names", ())}
        for action in actions
    )


def oom_kills() -> int:
    """Processes that the kernel killed for memory: of this cgroup where it counts, else of the machine."""
    places = (CGROUP / "memory.events", CGROUP / "memory" / "memory.oom_control", Path("/proc/vmstat"))
    for place in places:
        try:
            lines = place.read_text(encoding="ascii").splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, count = line.partition(" ")
            if name == "oom_kill" and count.strip().isdigit():
                return int(count)
    return 0
