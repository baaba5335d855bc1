"""What `check --deep` measured of each rank's device, and how the GPUs are linked, as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

# figure -> (words in English, in Chinese, divisor, unit)
_FIGURES = {
    "matmul": ("matmul", "矩阵乘", 1e12, "Top/s"),
    "memory": ("memory", "显存带宽", 1e9, "GB/s"),
    "to_device": ("host to device", "主机到设备", 1e9, "GB/s"),
    "to_host": ("device to host", "设备到主机", 1e9, "GB/s"),
    "to_peer": ("to the next GPU", "到下一张 GPU", 1e9, "GB/s"),
    "bus": ("all-reduce", "all-reduce", 1e9, "GB/s"),
}
_WORDS = {
    "ranks": ("{} ranks at work, {} s", "{} 个 rank 实测，{} 秒"),
    "by": ("connected by {}", "连接方式：{}"),
    "links": ("links of the GPUs", "GPU 互联"),
}


def _say(word: str, lang: str, *values: object) -> str:
    return _WORDS[word][1 if lang == "zh" else 0].format(*values)


def ranks(out: Console, told: Mapping[str, Any], lang: str) -> None:
    """`told`: device, ranks (see doctor.gpu.deep.ranks), seconds, transports, topology (lines)."""
    head = _say("ranks", lang, len(told["ranks"]), told["seconds"])
    if told["transports"]:
        head += f"; {_say('by', lang, ', '.join(told['transports']))}"
    out.print(Text(head, style="dim"), soft_wrap=True)
    for rank in told["ranks"]:
        out.print(Text(f"    rank {rank['rank']}  {_figures(rank, lang)}", style="dim"), soft_wrap=True)
    if len(told["topology"]) > 2:
        out.print(Text(f"{_say('links', lang)}:", style="dim"))
        for line in told["topology"]:
            out.print(Text(f"    {line}", style="dim"), soft_wrap=True)


def _figures(rank: Mapping[str, Any], lang: str) -> str:
    said = [str(rank["name"])] if rank.get("name") else []
    for name, (english, chinese, divisor, unit) in _FIGURES.items():
        if rank.get(name):
            value = rank[name] / divisor
            said.append(f"{chinese if lang == 'zh' else english} {value:,.{0 if value >= 10 else 1}f} {unit}")
    return ", ".join(said) or str(rank.get("stage"))
