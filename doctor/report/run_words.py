"""The words of a run's report in both languages, and how its numbers are written."""

from __future__ import annotations

import time

from doctor.report.words import LANGUAGES

_WORDS = {
    "title": ("Training run {name}", "训练报告 {name}"),
    "made_by": ("Made by skyt1-doctor {version}. Secrets are masked.", "由 skyt1-doctor {version} 生成，密钥已掩去。"),
    "skip": ("To the content", "跳到正文"),
    "no_script": (
        "Scripts are off: the curves are not drawn, their figures stand in the tables.",
        "脚本已停用：不绘制曲线，数据见各表格。",
    ),
    # the verdict
    "done": ("Trained to the end", "训练完成"),
    "failed": ("Failed with exit code {code}", "训练失败，退出码 {code}"),
    "failed_plain": ("Failed", "训练失败"),
    "interrupted": ("Interrupted", "已中断"),
    "open": ("The record has no end", "记录没有结尾"),
    "open_why": (
        "The run is still going on, or the doctor was killed. Last sign of life: {when}.",
        "训练仍在进行，或 doctor 进程被强行终止。最后一条记录：{when}。",
    ),
    "no_events": (
        "This run has no record of events; how it ended is not known.",
        "此次运行没有事件记录，无法得知如何结束。",
    ),
    "cause_unknown": ("The cause is not known.", "原因未知。"),
    "healed": (
        "It was mended and resumed {count} times on the way.",
        "途中自动修复并续训 {count} 次。",
    ),
    "healed_once": ("It was mended and resumed once on the way.", "途中自动修复并续训 1 次。"),
    "alarms": ("{count} alarms were raised.", "共有 {count} 次警报。"),
    "alarms_once": ("One alarm was raised.", "共有 1 次警报。"),
    # tiles
    "steps": ("steps", "步数"),
    "steps_of": ("{done} of {total}", "{done} / {total}"),
    "wall": ("duration", "用时"),
    "loss_tile": ("loss, first → last", "损失（首 → 末）"),
    "step_tile": ("median step", "每步中位用时"),
    "rate_tile": ("median throughput", "吞吐量中位数"),
    "gpu_tile": ("peak GPU memory", "显存峰值"),
    "host_tile": ("peak host memory", "主机内存峰值"),
    "attempts": ("attempts", "尝试次数"),
    # sections
    "findings": ("Findings", "发现的问题"),
    "curves": ("Curves", "曲线"),
    "events": ("Events", "事件"),
    "axis_label": ("Time axis of the run's events", "本次运行的事件时间轴"),
    "rehearsal": ("Rehearsal", "预演"),
    "environment": ("Environment", "环境"),
    "recipe": ("Recipe", "配方"),
    "log": ("End of the log", "日志末尾"),
    "damage": ("What could not be read", "无法读取的内容"),
    "no_findings": ("No finding was recorded.", "没有记录任何问题。"),
    "no_curves": ("No step and no sample of the machine was recorded.", "没有记录任何训练步或机器采样。"),
    "no_gpu_samples": (
        "No GPU was sampled during this run, so there is no curve of GPU memory.",
        "本次运行没有 GPU 采样，因此没有显存曲线。",
    ),
    "no_rehearsal": ("The recipe was not rehearsed before this run.", "本次运行前没有预演。"),
    # findings
    "evidence": ("Evidence", "证据"),
    "why": ("Why", "原因"),
    "fixes": ("What heals it", "修复方法"),
    "does_not_help": ("What does not help", "无效的做法"),
    "verified_on": ("verified on {stacks}", "已在 {stacks} 上验证"),
    "confidence": ("confidence {value}", "置信度 {value}"),
    "rank": ("rank {rank}", "rank {rank}"),
    "seen": ("seen {count} times", "出现 {count} 次"),
    "from_log": ("from the log", "来自日志"),
    "from_watch": ("raised while watching", "监视时发现"),
    "from_probe": ("from the probe {name}", "来自探测 {name}"),
    "overcome": ("overcome: the run went on to its end", "已克服：训练最终完成"),
    "excerpt": ("Excerpt", "摘录"),
    "search_for": ("words to search for", "可搜索的关键词"),
    # curves
    "loss": ("Loss", "损失"),
    "grad_norm": ("Gradient norm", "梯度范数"),
    "learning_rate": ("Learning rate", "学习率"),
    "step_seconds": ("Step time", "每步用时"),
    "tokens_per_second": ("Throughput", "吞吐量"),
    "samples_per_second": ("Throughput", "吞吐量"),
    "gpu_memory": ("GPU memory", "显存"),
    "gpu_utilisation": ("GPU utilisation", "GPU 利用率"),
    "gpu_watts": ("GPU power", "GPU 功率"),
    "gpu_celsius": ("GPU temperature", "GPU 温度"),
    "host_memory": ("Host memory", "主机内存"),
    "disk_free": ("Disk left", "磁盘剩余"),
    "gpu_n": ("GPU {index}", "GPU {index}"),
    "smoothed": ("{name}, smoothed", "{name}（平滑）"),
    "used": ("used", "已用"),
    "free": ("left", "剩余"),
    "capacity": ("capacity", "容量"),
    "limit": ("limit", "上限"),
    "step": ("step", "步"),
    "elapsed": ("elapsed", "已用时间"),
    "table": ("Figures as a table", "以表格显示数据"),
    "not_finite": ("Not a finite number at step {steps}.", "第 {steps} 步不是有限数值。"),
    "chart_label": (
        "{name} over {axis}: {series}.",
        "{name}，横轴为{axis}：{series}。",
    ),
    "series_label": (
        "{name} begins at {first}, ends at {last}, lowest {low}, highest {high}",
        "{name}起始 {first}，结束 {last}，最低 {low}，最高 {high}",
    ),
    "over_the_run": ("GPUs over the run", "各 GPU 全程概况"),
    "gpu": ("GPU", "GPU"),
    "peak": ("peak memory", "显存峰值"),
    "mean_utilisation": ("mean utilisation", "平均利用率"),
    "mean_watts": ("mean power", "平均功率"),
    "top_celsius": ("highest temperature", "最高温度"),
    "throttled": ("throttled", "降频占比"),
    "ecc_errors": ("ECC errors", "ECC 错误"),
    # events
    "launch": ("launch", "启动"),
    "first-step": ("first step", "首步"),
    "checkpoint": ("checkpoint", "检查点"),
    "alarm": ("alarm", "警报"),
    "failure": ("failure", "失败"),
    "diagnosis": ("diagnosis", "诊断"),
    "heal": ("mended", "修复"),
    "resume": ("resumed", "续训"),
    "signal": ("signal", "信号"),
    "end": ("end", "结束"),
    "other": ("event", "事件"),
    "attempt": ("attempt {number}", "第 {number} 次尝试"),
    # rehearsal
    "rehearsed": ("The rehearsal passed in {seconds}.", "预演通过，用时 {seconds}。"),
    "rehearsal_failed": ("The rehearsal failed after {seconds}.", "预演未通过，用时 {seconds}。"),
    "rehearsal_nothing": ("Nothing could be rehearsed.", "未能预演。"),
    "cached": ("The verdict is an earlier one: nothing had changed since.", "结论来自此前的预演：此后没有变化。"),
    "stage": ("stage", "阶段"),
    "result": ("result", "结果"),
    "seconds": ("time", "用时"),
    "passed": ("passed", "通过"),
    "not_passed": ("failed", "未通过"),
    "skipped": ("skipped: {reason}", "跳过：{reason}"),
    "not_rehearsed": ("What it could not show", "预演无法检验的部分"),
    # environment
    "command": ("command", "命令"),
    "started": ("started", "开始时间"),
    "workdir": ("working directory", "工作目录"),
    "variables": ("variables of the launch", "启动变量"),
    "python": ("Python", "Python"),
    "gpus": ("GPUs", "GPU"),
    "no_gpus": ("none", "无"),
    "driver": ("driver", "驱动"),
    "machine": ("machine", "机器"),
    "cpus": ("{count} CPU cores, {memory} of memory", "{count} 个 CPU 核，内存 {memory}"),
    "model": ("model", "模型"),
    "parameters": ("{count} parameters", "{count} 个参数"),
    "processes": ("processes", "进程数"),
    "versions": ("versions", "版本"),
    "all_packages": ("All {count} packages", "全部 {count} 个软件包"),
    "package": ("package", "软件包"),
    "version": ("version", "版本"),
    "override": ("override", "命令行覆盖"),
    "overrides_note": ("Keys set on the command line are marked.", "命令行覆盖的键已标出。"),
    "no_recipe": ("The recipe was not recorded.", "没有记录配方。"),
    # log and damage
    "log_part": ("The last {lines} lines.", "最后 {lines} 行。"),
    "damaged_lines": (
        "{file}: {count} lines could not be read, as after a kill in the middle of a line.",
        "{file}：有 {count} 行无法读取，例如写到一半时进程被杀。",
    ),
    "damaged_file": ("{file} could not be read.", "无法读取 {file}。"),
    "more": ("{count} more are left out here.", "此处省略另外 {count} 项。"),
}

SIZES = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


def say(word: str, lang: str, **values: object) -> str:
    """One of the report's words in `lang`, its values filled in."""
    return _WORDS[word][LANGUAGES.index(lang)].format(**values)


def event_kind(kind: str, lang: str) -> str:
    """The word for a kind of event; kinds of later releases are shown as they are written."""
    return say(kind, lang) if kind in _EVENT_KINDS else kind


_EVENT_KINDS = (
    "launch", "first-step", "checkpoint", "alarm", "failure", "diagnosis", "heal", "resume", "signal", "end",
)  # fmt: skip


def duration(seconds: float, lang: str) -> str:
    """`0.42 s`, `12.3 s`, `3 min 20 s`, `19 h 4 min`."""
    if seconds < 1:
        return f"{seconds:.2f} {'秒' if lang == 'zh' else 's'}"
    if seconds < 60:
        return f"{seconds:.1f} {'秒' if lang == 'zh' else 's'}"
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    units = ("小时", "分", "秒") if lang == "zh" else ("h", "min", "s")
    parts = [(hours, units[0]), (minutes, units[1]), (0 if hours else rest, units[2])]
    return " ".join(f"{count} {unit}" for count, unit in parts if count)


def clock(seconds: float) -> str:
    """Elapsed time: `00:12`, `1:02:03`."""
    whole = max(0, round(seconds))
    hours = f"{whole // 3600}:" if whole >= 3600 else ""
    return f"{hours}{whole % 3600 // 60:02d}:{whole % 60:02d}"


def moment(stamp: float) -> str:
    """A moment in UTC; the plain number where no calendar holds it."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(stamp))
    except (OverflowError, ValueError, OSError):
        return str(stamp)


def size(count: float) -> str:
    """Bytes in the unit that reads best."""
    for unit, name in SIZES:
        if count >= unit:
            return f"{count / unit:,.1f} {name}"
    return f"{count:.0f} B"


def number(value: float) -> str:
    """Four significant digits, without an exponent where it reads well."""
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:,.0f}" if abs(value) >= 10000 else f"{value:.4g}"
