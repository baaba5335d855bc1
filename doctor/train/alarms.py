"""Alarms of a running training: pure functions from what was seen to findings. Each threshold says its reason."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from doctor.findings import Evidence, Finding, Severity
from doctor.train.progress import Progress
from doctor.train.sizes import nice_bytes, nice_seconds

SOURCE = "watch"

# A hang. Step times vary by a factor of two or three (long rows, another job on the storage), not by twenty; below half
# a minute nothing is lost by waiting.
HANG_TIMES, HANG_LEAST = 20.0, 30.0
HANG_LONGEST = 3.0  # times the longest step yet: a run that pauses now and then (a cache is filled) says so itself
# While a checkpoint is written no step ends and nothing is printed: 459 GB at 500 MB/s take a quarter of an hour.
HANG_SAVING = 1800.0
# Before three steps are known: DeepSpeed builds its ops (4 min on 2 cores), kernels are tuned, caches filled.
# An evaluation shows a bar for each batch, and generating a batch of long answers takes minutes.
HANG_FIRST = 900.0
# Before training: reading 65 GB of weights from a slow network disk prints a bar only for each of its shards.
HANG_STARTING = 1800.0
# Whatever the phase: nothing is printed, and no process computes. Reading, building and compiling keep one busy; what
# looks so is a lock of a build that was killed, a peer that never came, a server that does not answer.
HANG_IDLE = 180.0

SPIKE_KNOWN = 20  # logged losses before a level is known
SPIKE_WINDOW = 50
SPIKE_TIMES = 3.0  # of the median, which batches of very different rows do not reach
SPIKE_DEVIATIONS = 8.0  # and far outside the run's own scatter
ZERO_TWICE = 2  # one logged 0.0000 may be rounding
# fp16's loss scale starts at 65536 and halves in each step that overflows: up to three inf in a row belong to the start.
NOT_FINITE = 4

SLOW_KNOWN = 30  # steps before the run's own pace is known
SLOW_RECENT = 10
SLOW_TIMES = 1.5  # slower for ten steps in a row than the run's median: more than scatter, a third of the money

THROTTLED_SAMPLES = 6  # in a row: short power brakes are ordinary under full load

MEMORY_SAMPLES = 12
MEMORY_WINDOW = 300.0  # seconds that the trend is read from
MEMORY_FULL = 0.95  # of the limit: the kernel kills from here on without warning
MEMORY_RISING_FROM = 0.6  # below it a rise may still be a cache that fills
MEMORY_SOON = 1800.0  # seconds left that are worth an alarm

DISK_SPARE = 0.02  # of a checkpoint, for what else is written beside it

# Xid numbers that mean hardware (docs.nvidia.com/deploy/xid-errors); 79 is a card that left the bus.
HARDWARE_XIDS = frozenset({48, 62, 63, 64, 74, 92, 94, 95, 119, 120, 140})
BUS_XID = 79


class Seen(msgspec.Struct):
    """What the alarms judge. Times are seconds of the clock of `progress`; machine samples carry that time as `time`.

    `next_checkpoint`: bytes; `next_save`: its step; `xids`: those that came while the run was watched; `idle`: for so long
    no process of the run has computed.
    """

    now: float
    progress: Progress
    machine: Sequence[dict[str, Any]] = ()
    next_checkpoint: int | None = None
    next_save: int | None = None
    output: str = "output_dir"
    xids: Sequence[dict[str, Any]] = ()
    idle: float = 0.0


Alarm = Callable[[Seen], Iterator[Finding]]


def _raise(cause: str, what: str, zh: str, where: str, severity: Severity | None = None, **details: Any) -> Finding:
    """`what` was seen, `zh` says it in Chinese (kept in the details as `said_zh`: evidence is in English)."""
    return Finding(cause, (Evidence(what, where),), severity, 1.0, SOURCE, details={**details, "said_zh": zh})


def hang_limit(progress: Progress) -> float:
    """Seconds without a sign of progress that are a hang in the phase the run is in."""
    median = progress.median_seconds()
    if progress.phase == "starting":
        return HANG_STARTING
    if progress.phase in ("saving", "trained"):
        return HANG_SAVING
    if median is None or progress.phase == "evaluating":
        return HANG_FIRST
    longest = max(list(progress.durations)[1:], default=0.0)
    return max(HANG_LEAST, HANG_TIMES * median, HANG_LONGEST * longest)


def hang(seen: Seen) -> Iterator[Finding]:
    """No step for many times the median step time; in other phases no line at all for long, or no work either."""
    progress = seen.progress
    if progress.phase == "done":
        return
    stepping = progress.phase == "training" and progress.moved is not None
    last = progress.moved if stepping and progress.moved is not None else progress.sign
    silent = seen.now - last
    idle = min(silent, seen.idle)
    if silent < hang_limit(progress) and idle < HANG_IDLE:
        return
    median = progress.median_seconds()
    if stepping and median is not None:
        what = f"no step for {nice_seconds(silent)}; a step takes {nice_seconds(median)} in this run"
        zh = f"已 {nice_seconds(silent)} 没有完成任何一步；本次训练每步约 {nice_seconds(median)}"
    else:
        what = f"no output for {nice_seconds(silent)} in phase {progress.phase}"
        zh = f"已 {nice_seconds(silent)} 没有输出（阶段 {progress.phase}）"
    if idle >= HANG_IDLE:
        what += f"; for {nice_seconds(idle)} no process of the run has computed"
        zh += f"；已 {nice_seconds(idle)} 没有任何进程在计算"
    yield _raise("train-hang", what, zh, f"step {progress.step}", silent_seconds=round(silent, 1))


def loss_gone(seen: Seen) -> Iterator[Finding]:
    """NaN, infinite or exactly 0: nothing is learnt any more."""
    steps = seen.progress.steps
    if not steps:
        return
    last = steps[-1]
    loss = last.values.get("loss")
    if loss is None:
        return
    if not math.isfinite(loss):
        yield _raise("train-loss-zero-or-nan", f"the loss is {loss}", f"loss 为 {loss}", f"step {last.step}")
        return
    recent = list(steps)[-ZERO_TWICE:]
    zero = [one.values.get("loss") == 0.0 and not _alive(one.values.get("grad_norm")) for one in recent]
    if len(recent) == ZERO_TWICE and all(zero):
        grad = last.values.get("grad_norm")
        more = "" if grad is None else f", grad_norm {grad:g}"
        yield _raise("train-loss-zero-or-nan", f"the loss is 0{more}", f"loss 为 0{more}", f"step {last.step}")


def _alive(grad_norm: float | None) -> bool:
    return grad_norm is not None and math.isfinite(grad_norm) and grad_norm > 0


def gradient_gone(seen: Seen) -> Iterator[Finding]:
    """grad_norm NaN or infinite while the loss still looks well: the step before the loss goes."""
    recent = list(seen.progress.steps)[-NOT_FINITE:]
    norms = [one.values["grad_norm"] for one in recent if "grad_norm" in one.values]
    if len(norms) == NOT_FINITE and not any(math.isfinite(norm) for norm in norms):
        what = f"grad_norm is {norms[-1]} in {NOT_FINITE} logged steps in a row"
        zh = f"连续 {NOT_FINITE} 次记录的 grad_norm 为 {norms[-1]}"
        yield _raise("train-loss-zero-or-nan", what, zh, f"step {recent[-1].step}")


def loss_spike(seen: Seen) -> Iterator[Finding]:
    losses = [one.values["loss"] for one in seen.progress.steps if math.isfinite(one.values.get("loss", math.nan))]
    if len(losses) <= SPIKE_KNOWN:
        return
    before, last = losses[-SPIKE_WINDOW - 1 : -1], losses[-1]
    level = statistics.median(before)
    scatter = statistics.median(abs(loss - level) for loss in before)
    if last > SPIKE_TIMES * level and last > level + SPIKE_DEVIATIONS * scatter:
        what = f"the loss is {last:g}, its median over {len(before)} logged steps {level:g}"
        zh = f"loss 为 {last:g}，此前 {len(before)} 次记录的中位数为 {level:g}"
        yield _raise("train-loss-spike", what, zh, f"step {seen.progress.steps[-1].step}")


def slow(seen: Seen) -> Iterator[Finding]:
    """Slower than the run's own median, for ten steps."""
    measured = list(seen.progress.durations)[1:]
    if len(measured) < SLOW_KNOWN + SLOW_RECENT:
        return
    usual, recent = statistics.median(measured[:-SLOW_RECENT]), measured[-SLOW_RECENT:]
    if min(recent) > SLOW_TIMES * usual:
        now = statistics.median(recent)
        what = f"a step takes {nice_seconds(now)} now and took {nice_seconds(usual)} before"
        zh = f"现在每步 {nice_seconds(now)}，此前 {nice_seconds(usual)}"
        if odd := odd_gpu(seen.machine):
            what, zh = f"{what}; {odd}", f"{zh}；{odd}"
        yield _raise("train-slow", what, zh, f"step {seen.progress.step}")


def odd_gpu(machine: Sequence[dict[str, Any]]) -> str | None:
    """The GPU whose clock is well below that of the others: they wait for it. Pure."""
    clocks = {
        g["index"]: g["megahertz"] for g in (machine[-1].get("gpus") or () if machine else ()) if "megahertz" in g
    }
    if len(clocks) < 2:
        return None
    slowest = min(clocks, key=lambda index: clocks[index])
    others = statistics.median(mhz for index, mhz in clocks.items() if index != slowest)
    if clocks[slowest] < 0.85 * others:  # boost clocks of healthy cards under one load lie within a tenth
        return f"GPU {slowest} runs at {clocks[slowest]} MHz, the others at {others:g}"
    return None


def gpu_throttled(seen: Seen) -> Iterator[Finding]:
    recent = seen.machine[-THROTTLED_SAMPLES:]
    if len(recent) < THROTTLED_SAMPLES:
        return
    for gpu in recent[-1].get("gpus") or ():
        rows = [g for sample in recent for g in sample.get("gpus") or () if g["index"] == gpu["index"]]
        if len(rows) == len(recent) and all(row.get("throttled") for row in rows):
            heat = f" at {gpu['celsius']} °C" if "celsius" in gpu else ""
            what = f"GPU {gpu['index']} is slowed down: {', '.join(gpu['throttled'])}{heat}"
            zh = f"GPU {gpu['index']} 被降频：{', '.join(gpu['throttled'])}{heat}"
            yield _raise("train-slow", what, zh, f"GPU {gpu['index']}")


def gpu_broken(seen: Seen) -> Iterator[Finding]:
    """Memory errors that grew, a card that is gone, Xids of the kernel log."""
    if len(seen.machine) >= 2:
        first = {g["index"]: g for g in seen.machine[0].get("gpus") or ()}
        for gpu in seen.machine[-1].get("gpus") or ():
            where = f"GPU {gpu['index']}"
            if "lost" in gpu:
                lost = f"GPU {gpu['index']} no longer answers: {gpu['lost']}"
                yield _raise("gpu-fell-off-bus", lost, f"GPU {gpu['index']} 不再响应：{gpu['lost']}", where)
            before = first.get(gpu["index"], {}).get("ecc_errors")
            if before is not None and gpu.get("ecc_errors", 0) > before:
                count = gpu["ecc_errors"] - before
                what = f"{count} uncorrectable memory errors since the run began"
                yield _raise("gpu-ecc-xid", what, f"训练开始以来出现 {count} 个不可纠正的显存错误", where)
    for xid in seen.xids:
        cause = "gpu-fell-off-bus" if xid["xid"] == BUS_XID else "gpu-ecc-xid"
        if xid["xid"] == BUS_XID or xid["xid"] in HARDWARE_XIDS:
            said = f"Xid {xid['xid']}: {xid['text']}"
            yield _raise(cause, said, said, xid["where"])


def host_memory(seen: Seen) -> Iterator[Finding]:
    """Memory that will reach its limit, with the time left. Before the first step has ended it grows as it should:
    weights are loaded, states are made; then only what is nearly full is told."""
    every = [s for s in seen.machine if "host_used" in s]
    if not every:
        return
    began = seen.progress.first_moved
    recent = [s for s in every if s["time"] >= max(seen.now - MEMORY_WINDOW, seen.now if began is None else began)]
    recent = recent or every[-1:]
    used = recent[-1]["host_used"]
    limit = recent[-1].get("host_limit") or recent[-1]["host_total"]
    whose = "this container" if "host_limit" in recent[-1] else "the machine"
    where = f"{nice_bytes(used)} of {nice_bytes(limit)} of {whose}"
    if used > MEMORY_FULL * limit:
        full = f"{used / limit:.0%}"
        yield _raise("mem-host-oom", f"host memory is {full} full", f"主机内存已用 {full}", where, Severity.WARNING)
        return
    if began is None or len(recent) < MEMORY_SAMPLES or used < MEMORY_RISING_FROM * limit:
        return
    slope, fit = _trend([(s["time"], float(s["host_used"])) for s in recent])
    if slope <= 0 or fit < 0.8:  # a rise that is one line, not a wave
        return
    left = (limit - used) / slope
    if left < MEMORY_SOON:
        what = f"host memory grows by {nice_bytes(slope * 60)} a minute and is full in {nice_seconds(left)}"
        zh = f"主机内存每分钟增长 {nice_bytes(slope * 60)}，{nice_seconds(left)} 后将耗尽"
        yield _raise("mem-host-oom", what, zh, where, Severity.WARNING, seconds_left=round(left))


def _trend(points: list[tuple[float, float]]) -> tuple[float, float]:
    """(slope, share of the variance that the line explains) of a least-squares line."""
    x, y = [p[0] for p in points], [p[1] for p in points]
    if len(set(x)) < 2 or len(set(y)) < 2:
        return 0.0, 0.0
    slope, _ = statistics.linear_regression(x, y)
    return slope, statistics.correlation(x, y) ** 2


def disk(seen: Seen) -> Iterator[Finding]:
    """A disk that will not hold the next checkpoint, said before it is written. Old ones are deleted only afterwards."""
    free = next((s["disk_free"] for s in reversed(seen.machine) if "disk_free" in s), None)
    need = seen.next_checkpoint
    if free is None or need is None or seen.progress.phase in ("saving", "trained", "done"):
        return
    if free < need * (1 + DISK_SPARE):
        median = seen.progress.median_seconds()
        when = when_zh = ""
        if seen.next_save is not None:
            steps = seen.next_save - seen.progress.step
            after = f", in about {nice_seconds(steps * median)}" if median and steps > 0 else ""
            when = f"; it comes at step {seen.next_save}{after}"
            when_zh = f"；将在第 {seen.next_save} 步写入"
        what = f"the next checkpoint takes {nice_bytes(need)}, {nice_bytes(free)} are free{when}"
        zh = f"下个检查点需要 {nice_bytes(need)}，磁盘剩余 {nice_bytes(free)}{when_zh}"
        yield _raise("disk-full", what, zh, seen.output, Severity.ERROR, save_total_limit=1)


ALARMS: tuple[Alarm, ...] = (
    hang,
    loss_gone,
    gradient_gone,
    loss_spike,
    slow,
    gpu_throttled,
    gpu_broken,
    host_memory,
    disk,
)


def judge(seen: Seen) -> list[Finding]:
    """Every alarm on what was seen."""
    return [finding for alarm in ALARMS for finding in alarm(seen)]
