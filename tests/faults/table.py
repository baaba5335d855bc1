"""`python -m tests.faults.table`: write docs/faults.md from results.json."""

from __future__ import annotations

import re
import statistics
from pathlib import Path
from typing import Any

from tests.faults import record
from tests.faults.catalogue import FAULTS
from tests.faults.fault import Fault
from tests.faults.tools import TOOLS
from tests.faults.workspace import BASES

DOCUMENT = Path(__file__).parents[2] / "docs" / "faults.md"
Shown = dict[str, dict[str, Any]]

INTRODUCTION = """\
# Faults put into healthy workspaces

Written by `python -m tests.faults.table` from `tests/faults/results.json`; the faults are declared in
`tests/faults/catalogue/`, the logs of the real runs are in `tests/faults/logs/`.

Each fault is one edit of a workspace that trains: a toy Qwen2 of two layers, 16 records, one step, on CPU, with the real
packages of the stacks sky-t1 (llamafactory 0.9.1, transformers 4.46.1, torch 2.5.1, deepspeed 0.15.4) and current
(llamafactory 0.9.5, transformers 5.6.0, torch 2.11.0, deepspeed 0.18.4).

- **found**: `check --offline` names the cause that the fault was declared with, at warning or error, before any launch.
- **s**: seconds of that examination, on a shared machine of two cores under load.
- **really**: what LLaMA-Factory did with it, once: the last line of its error, or how it trained wrongly. "goes on" is a
  fault that the run survives; check speaks of it as a warning.
- **healed**: `fix --apply --yes` (with `--model` or `--dataset` where a user would be asked; given again while it heals
  more, at most three times), and then the real run came to its end. "by hand" are faults that software cannot heal: data
  that only its owner can correct, a hub, a disk, a login.
- **others**: what `llamafactory-cli env`, `ds_report`, `accelerate env` and `pip check` say in that environment. They look
  at packages only and read no recipe, so they were run once for each state of the packages; for the other faults they
  say what they say of a healthy environment.
"""


def found(fault: Fault, shown: Shown) -> bool | None:
    """Whether check named the cause at warning or error; None before it was asked."""
    seen = shown.get("check")
    if seen is None:
        return None
    return any(cause == fault.cause and severity != "info" for cause, severity in seen["findings"])


def failed(fault: Fault, shown: Shown) -> bool | None:
    """Whether the real run failed, or trained wrongly as declared; None where it was not run."""
    seen = shown.get("train")
    return None if seen is None else seen["code"] != 0 or seen["shown"]


def healed(fault: Fault, shown: Shown) -> bool | None:
    """Whether the real run trained after the fixes; what was taken back or refused is not healed without a run."""
    seen, fixed = shown.get("again"), shown.get("heal")
    if not fault.healable or (seen is None and fixed is None):
        return None
    if seen is not None:
        return bool(seen["trained"])
    return None if fixed is not None and fixed["exit"] in (0, 1) else False


def count(answers: list[bool | None]) -> str:
    known = [answer for answer in answers if answer is not None]
    share = f", {100 * sum(known) / len(known):.1f} %" if known else ""
    missing = len(answers) - len(known)
    return f"{sum(known)} of {len(known)}{share}" + (f" ({missing} not run yet)" if missing else "")


def summary(results: dict[str, Shown]) -> list[str]:
    faults = [(fault, results.get(fault.id, {})) for fault in FAULTS]
    alarms = [
        f"{name}: {cause}" for name, shown in results.items() if name.startswith("healthy ")
        for cause, severity in shown.get("check", {}).get("findings", ()) if severity != "info"
    ]  # fmt: skip
    asked = [shown["check"]["seconds"] for _, shown in faults if "seconds" in shown.get("check", {})]
    serious = [(fault, shown) for fault, shown in faults if not fault.warns]
    lines = [
        f"- {len(FAULTS)} faults in {len(BASES)} healthy workspaces; false alarms on the healthy ones: {len(alarms)}",
        f"- found as the right cause: {count([found(f, s) for f, s in faults])}",
        f"- really run: {count([failed(f, s) for f, s in serious])} failed or trained wrongly as declared; "
        f"{sum(f.warns for f in FAULTS)} more are survived and are warnings",
        f"- healed and trained, of those that software can heal and that were run: "
        f"{count([healed(f, s) for f, s in faults if f.healable])}",
    ]
    if asked:
        worst = max(asked)
        lines.append(f"- an examination took {statistics.median(asked):.2f} s (median; longest {worst:.2f} s)")
    missed = [fault.id for fault, shown in faults if found(fault, shown) is False]
    lines += [f"- not found: {', '.join(missed)}"] if missed else []
    open_ = [fault.id for fault, shown in faults if fault.healable and healed(fault, shown) is False]
    lines += [f"- not healed, or not trained afterwards: {', '.join(open_)}"] if open_ else []
    return lines + alarms


def row(fault: Fault, shown: Shown) -> str:
    seen, run = found(fault, shown), shown.get("train")
    really = "not run" if run is None else _really(fault, run)
    seconds = shown.get("check", {}).get("seconds", "")
    health = healed(fault, shown)
    state = "by hand" if not fault.healable else {None: "not run", True: "yes", False: "no"}[health]
    others = _others(shown)
    cells = [f"`{fault.id}`", fault.what, fault.base, f"`{fault.cause}`", {None: "?", True: "yes", False: "**no**"}[seen],
             seconds, really, state, others]  # fmt: skip
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def _really(fault: Fault, run: dict[str, Any]) -> str:
    if run["code"] is None:
        return "hangs"
    if run["code"] == 0:
        return "trains wrongly" if run["shown"] else "goes on"
    return "`" + re.sub(r"`", "'", run["how"][:90]).strip() + "`" if run["how"] else f"ends with {run['code']}"


def _others(shown: Shown) -> str:
    tools = shown.get("tools")
    if tools is None:
        return "–"
    return ", ".join(name for name, said in tools.items() if said["exit"] != 0) or "none"


def tools(results: dict[str, Shown]) -> list[str]:
    """What the other tools say of the healthy environments."""
    lines = ["", "## The other tools on healthy environments", "", "| environment | tool | exit | seconds | complaints |",
             "| --- | --- | --- | --- | --- |"]  # fmt: skip
    for name, shown in results.items():
        for tool, said in shown.get("tools", {}).items() if name.startswith("healthy ") else ():
            told = "; ".join(said["said"][-2:])[:120].replace("|", "\\|")
            lines.append(f"| {name.removeprefix('healthy ')} | {tool} | {said['exit']} | {said['seconds']} | {told} |")
    return lines if len(lines) > 5 else ["", f"The other tools ({', '.join(TOOLS)}) have not been run yet."]


def document() -> str:
    results = record.read()
    head = "| fault | what | workspace | cause | found | s | really | healed | others fail |"
    lines = [INTRODUCTION, "## In short", "", *summary(results), "", "## Every fault", "", head, "| --- " * 9 + "|"]
    lines += [row(fault, results.get(fault.id, {})) for fault in FAULTS]
    return "\n".join([*lines, *tools(results)]) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(document(), encoding="utf-8")
