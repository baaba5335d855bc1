"""An estimate as text: what is needed, of what it consists, whether it fits, what would make it fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from doctor.report.run_words import duration

if TYPE_CHECKING:
    from rich.console import Console

_STYLE = {"fits": "bold green", "does not fit": "bold red", "cannot tell": "bold yellow"}
_WORDS = {
    "fits": ("fits", "放得下"),
    "does not fit": ("does not fit", "放不下"),
    "cannot tell": ("cannot tell", "无法判断"),
    "GPU memory": ("GPU memory", "显存"),
    "GPU memory is within the margin": ("GPU memory is within the margin of 3 %", "显存处于 3% 的误差余量之内"),
    "GPU memory is within the wide margin of what no run was measured with": (
        "GPU memory is within 20 % of the limit, and no run was measured with this",
        "显存与上限相差不到 20%，且没有用这种设置实测过",
    ),
    "host memory": ("host memory", "主机内存"),
    "host memory is within the margin": ("host memory is within the margin", "主机内存处于误差余量之内"),
    "the size of the GPUs is not known": (
        "no GPU is seen here; say which with --gpus 8x80GB",
        "此处没有发现 GPU；请用 --gpus 8x80GB 指定",
    ),
    "not modelled": ("its memory is not modelled", "尚不能估算其内存"),
    "gpu": ("each GPU at the peak", "每张 GPU 的峰值"),
    "host": ("host memory of a node", "每个节点的主机内存"),
    "host_certain": ("at least", "至少"),
    "checkpoint": ("one checkpoint", "一个检查点"),
    "disk": ("disk for the run", "整个训练所需磁盘"),
    "disk_least": ("disk, one checkpoint and the model", "磁盘（一个检查点加最终模型）"),
    "weights": ("weights", "权重"),
    "gradients": ("gradients", "梯度"),
    "optimizer": ("optimizer states", "优化器状态"),
    "logits_and_loss": ("logits and loss", "logits 与损失"),
    "gathered": ("parameters gathered for use", "临时汇聚的参数"),
    "buckets": ("buckets of gradients", "梯度桶"),
    "offload_buffers": ("buffers of the offload", "卸载缓冲区"),
    "casts": ("16-bit copies of weights", "权重的 16 位副本"),
    "layer_inputs": ("inputs of layers (checkpointing)", "各层输入（梯度检查点）"),
    "attention": ("attention", "注意力"),
    "attention_mask": ("attention mask", "注意力掩码"),
    "feed_forward": ("feed-forward", "前馈层"),
    "norms": ("norms and residual stream", "归一化与残差流"),
    "workspace": ("cuBLAS workspace", "cuBLAS 工作区"),
    "step": ("temporaries of the optimizer's step", "优化器单步的临时张量"),
    "allocator_slack": ("allocator's slack", "分配器余量"),
    "processes": ("processes with their libraries", "进程及其库"),
    "loading": ("copies of weights while loading", "加载时的权重副本"),
    "states": ("offloaded states", "卸载的状态"),
    "buffers": ("buffers of what is offloaded", "卸载所用的缓冲区"),
    "saving": ("weights gathered for a checkpoint", "保存检查点时汇聚的权重"),
    "swap": ("NVMe offload of a node", "每个节点的 NVMe 卸载"),
    "context": ("CUDA context, NCCL", "CUDA 上下文与 NCCL"),
    "changes": ("What would make it fit, the cheapest in speed first:", "可使其放得下的改动（按速度代价从小到大）："),
    "no_changes": ("No single known change makes it fit.", "没有已知的改动能使其放得下。"),
    "of": ("of", "共"),
    "time": ("time", "时间"),
    "cost": ("cost", "花费"),
    "steps": ("steps", "步"),
    "each": ("{} each", "每步 {}"),
    "given": ("as you say", "由您给出"),
    "run": ("measured in run", "实测于运行"),
    "gpu_hours": ("GPU hours", "GPU 小时"),
    "steps_unknown": ("how many steps it takes is not known", "步数未知"),
}
_NOTES = {
    "liger": ("never holds all logits; no slower", "不保存全部 logits；不会变慢"),
    "sdpa": ("no matrix of attention scores; faster", "不保存注意力矩阵；更快"),
    "batch": ("same global batch; a little slower for short samples", "全局批大小不变；样本短时略慢"),
    "zero3": ("weights are gathered layer by layer; more traffic", "逐层汇聚权重；通信更多"),
    "checkpoint": ("activations are computed twice; about a quarter slower", "激活值重算一遍；约慢四分之一"),
    "nodes": ("states are split over more nodes", "状态分摊到更多节点"),
    "offload_optimizer": ("the optimizer runs on the CPU; slower steps", "优化器在 CPU 上运行；每步更慢"),
    "offload_all": ("parameters and optimizer in host memory; much slower", "参数与优化器放入主机内存；慢得多"),
    "cutoff": ("longer samples lose their end", "更长的样本会丢失结尾"),
    "lora": ("trains adapters, not the model: another result", "只训练适配器而非整个模型：结果不同"),
    "qlora": ("frozen weights in 4 bits; slower, a little less exact", "冻结权重用 4 位；更慢，精度略低"),
    "together": ("these changes together", "以上改动一并使用"),
}


def _say(word: str, lang: str) -> str:
    return _WORDS.get(word, (word, word))[1 if lang == "zh" else 0]


def note(name: str, lang: str) -> str:
    """What a change costs, in words."""
    return _NOTES[name][1 if lang == "zh" else 0]


def size(count: float) -> str:
    """GiB for memory as cards and free(1) show it."""
    return f"{count / 2**30:,.1f} GiB"


def show(out: Console, found: Mapping[str, Any], world: Mapping[str, Any], lang: str) -> None:
    """The whole estimate. `world`: gpu_bytes and host_bytes, what there is."""
    from rich.text import Text  # half of this module's import; --format json does without

    verdict = found["verdict"]
    head = Text.assemble((_say(verdict, lang), _STYLE[verdict]))
    if found["reason"]:
        told, _, key = str(found["reason"]).partition(": ")
        head.append(f"  ({_say(told, lang)}{': ' if key else ''}{key})")
    out.print(head)
    gpu, host = found["gpu_bytes_per_rank"], found["host_bytes_per_node"]
    out.print(f"  {_say('gpu', lang)}: {size(gpu)}{_of(world.get('gpu_bytes'), lang)}")
    _parts(out, found["parts"], lang)
    least = f" ({_say('host_certain', lang)} {size(found['host_bytes_certain'])})"
    out.print(f"  {_say('host', lang)}: {size(host)}{least}{_of(world.get('host_bytes'), lang)}")
    _parts(out, found["host_parts"], lang)
    out.print(f"  {_say('checkpoint', lang)}: {size(found['checkpoint_bytes'])}")
    steps = "" if found["steps"] is None else f" ({found['steps']:,} {_say('steps', lang)})"
    out.print(f"  {_say('disk' if steps else 'disk_least', lang)}: {size(found['disk_bytes'])}{steps}")
    if found["swap_bytes"]:
        out.print(f"  {_say('swap', lang)}: {size(found['swap_bytes'])}")
    _run(out, found["run"], lang)
    if verdict == "fits" or not world.get("gpu_bytes") or found["reason"].startswith("not modelled"):
        return
    out.print(_say("changes" if found["changes"] else "no_changes", lang))
    for change in found["changes"]:
        keys = ", ".join(f"{key}: {value}" for key, value in change["set"].items())
        out.print(f"  {keys}  → {size(change['gpu_bytes_per_rank'])}  ({change['note']})", soft_wrap=True)


def _parts(out: Console, parts: Mapping[str, int], lang: str) -> None:
    """What a figure consists of, without what is next to nothing."""
    from rich.text import Text

    for name, count in parts.items():
        if count >= 2**26:
            out.print(Text(f"      {size(count):>12}  {_say(name, lang)}", style="dim"))


def _run(out: Console, run: Mapping[str, Any] | None, lang: str) -> None:
    """Steps, time and cost, where a step was measured."""
    if run is None:
        return
    source = _say("given", lang) if run["measured_by"].startswith("--") else f"{_say('run', lang)} {run['measured_by']}"
    each = f"{_say('each', lang).format(duration(run['step_seconds'], lang))}, {source}"
    if run["seconds"] is None:
        out.print(f"  {_say('time', lang)}: {_say('steps_unknown', lang)} ({each})", soft_wrap=True)
        return
    told = f"{duration(run['seconds'], lang)}  ({run['steps']:,} {_say('steps', lang)}; {each})"
    out.print(f"  {_say('time', lang)}: {told}", soft_wrap=True)
    cost = f"{run['gpu_hours']:,.1f} {_say('gpu_hours', lang)}" + (
        f", {run['cost']:,.2f}" if run["cost"] is not None else ""
    )
    out.print(f"  {_say('cost', lang)}: {cost}")


def _of(there: int | None, lang: str) -> str:
    return f" {_say('of', lang)} {size(there)}" if there else ""
