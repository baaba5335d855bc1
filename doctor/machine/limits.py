"""Memory and CPUs that this process may use: /proc/meminfo and the cgroups of both versions."""

from __future__ import annotations

from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
MEMINFO = Path("/proc/meminfo")
_UNLIMITED = 1 << 60  # cgroup v1 says "no limit" with a number near 2^63


def meminfo() -> dict[str, int]:
    """/proc/meminfo in bytes; empty where there is none."""
    try:
        lines = MEMINFO.read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    fields = (line.split() for line in lines)
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in fields if len(words) == 3 and words[2] == "kB"}


def _groups(controller: str) -> list[Path]:
    """Folders of the cgroup that this process is in and of its parents, for version 2 and 1.

    In a container the path in /proc may be the host's; the limit is then at the root that is mounted.
    """
    try:
        lines = OWN_GROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    folders = []
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        bases = [CGROUP, CGROUP / "unified"] if number == "0" and not controllers else [CGROUP / controller]
        for base in bases:
            inside = Path(path.lstrip("/"))
            folders += [base / inside, *(base / parent for parent in inside.parents), base]
    return list(dict.fromkeys(folders))


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return None


def cgroup_memory() -> tuple[int | None, int | None]:
    """(the tightest memory limit over this process, bytes used under it), None where there is no limit."""
    tightest: tuple[int, int | None] | None = None
    versions = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
    for folder in _groups("memory"):
        for limit_file, used_file in versions:
            limit = _number(folder / limit_file)
            if limit is not None and limit < _UNLIMITED and (tightest is None or limit < tightest[0]):
                tightest = (limit, _number(folder / used_file))
    return tightest or (None, None)


def cgroup_cpus() -> float | None:
    """CPUs that the tightest quota allows, None without a quota."""
    quotas = []
    for folder in _groups("cpu"):
        period, quota = _number(folder / "cpu.cfs_period_us"), _number(folder / "cpu.cfs_quota_us")
        try:
            first, second = (folder / "cpu.max").read_text(encoding="ascii").split()
            period, quota = int(second), int(first)  # "max 100000" is no number: no quota
        except (OSError, ValueError):
            pass  # no such file, or no quota in it
        if quota is not None and quota > 0 and period:
            quotas.append(round(quota / period, 2))
    return min(quotas, default=None)
