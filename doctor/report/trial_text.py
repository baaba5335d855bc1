"""What the target's own code said under `--deep`: the parser's verdict, and the lengths of the data as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from doctor.report.words import say

WIDTH = 40  # cells of the longest bar
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def trial(out: Console, told: Mapping[str, Any], lang: str) -> None:
    """Both parts, each also where it is unknown."""
    parser = told.get("parser", {})
    if "unknown" in parser:
        out.print(Text(f"? {say('own_parser', lang)}: {parser['unknown']}", style="dim"), soft_wrap=True)
    elif parser:
        word = "parser_accepts" if parser["accepted"] else "parser_refuses"
        style = "green" if parser["accepted"] else "red"
        out.print(Text(f"{say('own_parser', lang)}: {say(word, lang, seconds=parser['seconds'])}", style=style))
    for name, found in told.get("lengths", {}).items():
        if "unknown" in told["lengths"]:
            break
        if "unknown" in found:
            out.print(Text(f"? {name}: {found['unknown']}", style="dim"), soft_wrap=True)
        else:
            lengths(out, name, found, lang)


def lengths(out: Console, name: str, found: Mapping[str, Any], lang: str) -> None:
    """One entry: figures in a line, then a bar for each range of tokens; ranges that cutoff_len cuts are yellow."""
    of = say("sample_of", lang, sampled=f"{found['sampled']:,}", read=f"{found['read']:,}")
    out.print(Text.assemble((name, "bold"), f"  {of}{'' if found['complete'] else ' …'}"))
    figures = {
        "median": found["quantiles"].get("0.5"), "p99": found["quantiles"].get("0.99"),
        "longest": found["quantiles"].get("1"), "cutoff": found["cutoff"], "cut": found["cut"],
        "unlabelled": found["unlabelled"], "dropped": found["dropped"],
    }  # fmt: skip
    out.print(Text("    " + say("lengths", lang, **figures), style="dim"), soft_wrap=True)
    most = max((bar["count"] for bar in found["bars"]), default=0)
    for bar in found["bars"]:
        cells = bar["count"] / most * WIDTH if most else 0.0
        drawn = "█" * int(cells) + _EIGHTHS[int(cells % 1 * 8)].strip()
        if bar["count"] and not drawn:
            drawn = _EIGHTHS[1]
        style = "yellow" if bar["low"] > found["cutoff"] else "cyan"
        label = f"{bar['low']:>9,} – {bar['high']:<9,}"
        out.print(Text.assemble((label, "dim"), (f"{drawn:<{WIDTH}} ", style), f"{bar['count']:,}"))
