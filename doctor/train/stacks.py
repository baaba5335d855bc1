"""Where every rank stands: its process state and Python stack (py-spy), and which rank the others wait for.

py-spy is a program of its own and reads another process's memory; where the kernel forbids that (kernel.yama.ptrace_scope
of 1 and another user than root) the states alone are told, and why.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import psutil

DUMP_SECONDS = 10.0  # py-spy needs a tenth of a second; more where symbols come from a network disk
AT_ONCE = 8  # dumps side by side
DEPTH = 12  # frames told, the innermost ones
STOPPED = (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
INNERMOST = 4  # frames between a collective's own Python frames and the call that waits
# Functions in which a rank waits for the other ranks: collectives of torch and DeepSpeed, and the backward pass, in
# which DDP reduces gradients in C++ below this Python frame.
_WAITING_FILES = ("torch/distributed/", "deepspeed/comm/", "torch/nn/parallel/distributed.py", "accelerate/state.py")
_BACKWARD = "torch/autograd/graph.py"
_LOADER = "torch/utils/data/dataloader.py"
_LOADER_WAITS = ("_try_get_data", "_get_data", "_next_data")


class Place(msgspec.Struct, frozen=True):
    """One process: its state as the kernel names it, its main thread's frames `function (file:line)`, innermost first."""

    pid: int
    state: str
    stack: tuple[str, ...] = ()
    unread: str | None = None  # why there is no stack


class RankPlace(msgspec.Struct, frozen=True):
    """One rank and its data workers."""

    rank: int
    place: Place
    workers: tuple[Place, ...] = ()


class Different(msgspec.Struct, frozen=True):
    """The rank that the others wait for, and what shows it, in both languages. `pid` is the process to look at."""

    rank: int
    pid: int
    en: str
    zh: str
    sure: bool = True


def program() -> str | None:
    """py-spy beside this interpreter or on PATH."""
    beside = Path(sys.executable).parent / "py-spy"
    return str(beside) if beside.exists() else shutil.which("py-spy")


def ranks(processes: Iterable[psutil.Process]) -> dict[int, list[psutil.Process]]:
    """Processes of each rank, its main process first; RANK is what torchrun gives them. Without any, the largest one is
    rank 0."""
    found: dict[int, dict[int, psutil.Process]] = {}
    largest: tuple[int, psutil.Process] | None = None
    for process in processes:
        with suppress(psutil.Error, ValueError):
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            memory = process.memory_info().rss
            largest = max(largest or (0, process), (memory, process), key=lambda pair: pair[0])
            said = process.environ().get("RANK")
            if said is not None:
                found.setdefault(int(said), {})[process.pid] = process
    if not found:
        return {0: [largest[1]]} if largest else {}
    ordered = {}
    for rank, group in sorted(found.items()):
        with suppress(psutil.Error):
            ordered[rank] = sorted(group.values(), key=lambda p: (p.ppid() in group, p.pid))
    return ordered


def look(processes: Iterable[psutil.Process], with_workers: bool = True) -> list[RankPlace]:
    """Where the ranks stand. Takes about 0.1 s for each process; a process that has ended meanwhile is left out."""
    tool = program()
    groups = {rank: group if with_workers else group[:1] for rank, group in ranks(processes).items()}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        dumps = {rank: [pool.submit(_place, process, tool) for process in group] for rank, group in groups.items()}
        found = {rank: [dump.result() for dump in asked] for rank, asked in dumps.items()}
    return [
        RankPlace(rank, main, tuple(worker for worker in workers if worker))
        for rank, (main, *workers) in found.items()
        if main is not None
    ]


def _place(process: psutil.Process, tool: str | None) -> Place | None:
    try:
        state = process.status()
    except psutil.Error:
        return None
    if tool is None:
        return Place(process.pid, state, unread="py-spy is not installed")
    # A stopped process cannot be paused once more, and need not be.
    argv = [tool, "dump", "--json", "--full-filenames", "--pid", str(process.pid)]
    try:
        done = subprocess.run(
            [*argv, "--nonblocking"] if state in STOPPED else argv,
            capture_output=True,
            timeout=DUMP_SECONDS,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except (subprocess.TimeoutExpired, OSError) as error:
        return Place(process.pid, state, unread=f"py-spy: {type(error).__name__}")
    if done.returncode:
        said = [line.strip() for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
        denied = any("Permission denied" in line or "EPERM" in line for line in said)
        why = "the kernel does not let this user look into it" if denied else (said[0] if said else "no answer")
        return Place(process.pid, state, unread=f"py-spy: {why}")
    return Place(process.pid, state, _frames(done.stdout, process.pid))


def _frames(output: bytes, pid: int) -> tuple[str, ...]:
    try:
        threads: list[dict[str, Any]] = json.loads(output)
    except ValueError:
        return ()
    main = next((t for t in threads if t.get("os_thread_id") == pid), threads[0] if threads else {"frames": []})
    return tuple(f"{f['name']} ({short(f['filename'])}:{f['line']})" for f in main["frames"][:DEPTH])


def short(path: str) -> str:
    """A file as its package knows it: torch/utils/data/dataloader.py."""
    for mark in ("/site-packages/", "/dist-packages/"):
        if mark in path:
            return path.rpartition(mark)[2]
    parts = Path(path).parts
    return "/".join(parts[-2:]) if len(parts) > 2 else path


def waits_for_others(stack: tuple[str, ...]) -> bool:
    """Only the innermost frames say it: DDP's forward stands further out in every stack of a computing rank."""
    return any(mark in frame for frame in stack[:INNERMOST] for mark in (*_WAITING_FILES, _BACKWARD))


def waits_for_data(stack: tuple[str, ...]) -> bool:
    return any(_LOADER in frame and frame.startswith(_LOADER_WAITS) for frame in _plain(stack))


def _plain(stack: tuple[str, ...]) -> list[str]:
    """Frames without the class before a method's name, which py-spy adds where it knows it."""
    return [frame.partition(" ")[0].rpartition(".")[2] + " " + frame.partition(" ")[2] for frame in stack]


def different(places: list[RankPlace]) -> Different | None:
    """The rank that holds the others up, None where nothing sets one apart. Pure."""
    for judge in (_stopped, _in_the_kernel, _with_data, _alone):
        if found := judge(places):
            return found
    return None


def busiest(looks: list[list[RankPlace]]) -> int | None:
    """The rank that does not wait for the others in most looks while every other one mostly does. Pure."""
    working: Counter[int] = Counter()
    for places in looks:
        if len(places) > 1 and all(one.place.stack for one in places):
            working.update(one.rank for one in places if not waits_for_others(one.place.stack))
    ranked = working.most_common(2)
    if not ranked or ranked[0][1] * 2 <= len(looks):
        return None
    return ranked[0][0] if len(ranked) == 1 or ranked[1][1] * 2 < ranked[0][1] else None


def _stopped(places: list[RankPlace]) -> Different | None:
    for one in places:
        for place in (one.place, *one.workers):
            if place.state in STOPPED:
                whose, whose_zh = ("", "") if place is one.place else ("a data worker of ", "的数据加载进程")
                wake = f"`kill -CONT {place.pid}`"
                en = f"{whose}rank {one.rank} is stopped (process {place.pid}, state T); {wake} lets it go on"
                zh = f"rank {one.rank}{whose_zh}被停止（进程 {place.pid}，状态 T）；{wake} 可让它继续"
                return Different(one.rank, place.pid, en, zh)
    return None


def _in_the_kernel(places: list[RankPlace]) -> Different | None:
    """In uninterruptible sleep: storage or a driver. Only where not every rank is."""
    asleep = [one for one in places if one.place.state == psutil.STATUS_DISK_SLEEP]
    if not asleep or len(asleep) == len(places):
        return None
    one = asleep[0]
    en = f"rank {one.rank} (process {one.place.pid}) sleeps in the kernel (state D): a disk or driver does not answer"
    zh = f"rank {one.rank}（进程 {one.place.pid}）处于不可中断睡眠（状态 D）：磁盘或驱动没有响应"
    return Different(one.rank, one.place.pid, en, zh)


def _with_data(places: list[RankPlace]) -> Different | None:
    """It waits for its own data while others wait for it; the worker's own stack says why."""
    waiting = [one for one in places if waits_for_data(one.place.stack)]
    if not waiting or (len(waiting) == len(places) and len(places) > 1):
        return None
    one = waiting[0]
    busy = next((w for w in one.workers if w.stack and not _idle(w.stack)), None)
    en = f"rank {one.rank} (process {one.place.pid}) waits for its data loader"
    zh = f"rank {one.rank}（进程 {one.place.pid}）在等待数据加载"
    if busy is not None:
        here = _innermost(busy.stack)
        return Different(
            one.rank,
            busy.pid,
            f"{en}, whose worker {busy.pid} stands in {here}",
            f"{zh}，其加载进程 {busy.pid} 停在 {here}",
        )
    return Different(one.rank, one.place.pid, en, zh)


def _idle(stack: tuple[str, ...]) -> bool:
    """A data worker without work waits in its index queue."""
    return any("_utils/worker.py" in frame for frame in stack) and any(
        "multiprocessing/queues.py" in frame for frame in stack
    )


def _innermost(stack: tuple[str, ...]) -> str:
    return stack[0] if stack else "?"


def _alone(places: list[RankPlace]) -> Different | None:
    """Ranks that do not wait for the others although others do, else the one place where fewest ranks stand."""
    known = [one for one in places if one.place.stack]
    if len(known) < 2:
        return None
    working = [one for one in known if not waits_for_others(one.place.stack)]
    if 0 < len(working) < len(known) and len(working) <= max(1, len(known) // 2):
        one = working[0]
        here = _innermost(one.place.stack)
        en = f"rank {one.rank} (process {one.place.pid}) stands in {here} while the others wait for it"
        zh = f"rank {one.rank}（进程 {one.place.pid}）停在 {here}，其余 rank 都在等它"
        return Different(one.rank, one.place.pid, en, zh)
    counts = Counter(_where(one.place.stack) for one in known)
    rarest, count = counts.most_common()[-1]
    if len(counts) < 2 or count * 2 >= len(known):
        return None
    one = next(one for one in known if _where(one.place.stack) == rarest)
    here = _innermost(one.place.stack)
    en = f"rank {one.rank} (process {one.place.pid}) stands elsewhere than most: {here}"
    zh = f"rank {one.rank}（进程 {one.place.pid}）所在位置与多数 rank 不同：{here}"
    return Different(one.rank, one.place.pid, en, zh, sure=False)


def _where(stack: tuple[str, ...]) -> tuple[str, ...]:
    """A stack without its line numbers."""
    return tuple(frame.rpartition(":")[0] for frame in stack)
