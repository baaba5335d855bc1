"""docs/rehearsal.md from results.json: `python -m tests.stack.rehearse.table [--check]`."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from tests.stack.rehearse.faults import FAULTS, HEALTHY, STACKS

RESULTS = Path(__file__).with_name("results.json")
PAGE = Path(__file__).parents[3] / "docs" / "rehearsal.md"
HEAD = """\
# The rehearsal against faults that only running reveals

`skyt1-doctor rehearse` runs a recipe for real at toy scale: the same `llamafactory-cli train`, launcher, DeepSpeed file,
template, tokenizer and data pipeline, on a random model of the same architecture and a sample of the records, two
optimizer steps, then a save, a resume from it, and a load of what was saved. Below is what it made of recipes with one
fault each, and of healthy ones: real packages, two CPU cores, no GPU. Made by `python -m tests.stack.rehearse`.

Stacks: {stacks}.

Seconds are of the whole rehearsal, on a machine that did other work meanwhile. Where they are in
parentheses, starts of Python were forks of a process that had
imported LLaMA-Factory (`tests/stack/rehearse/serve.py`); on a user's machine each launch adds the imports, about 20 to
40 s on two cores.

"""


def page(results: dict[str, Any]) -> str:
    faults, healthy = results["faults"], results["healthy"]
    caught = [one for one in faults.values() if one["caught"]]
    named = [one for one in caught if one["right"] and one["expected"]]
    nameable = [one for one in faults.values() if one["expected"]]
    passed = [one for one in healthy.values() if one["verdict"] == "passed"]
    seconds = statistics.median(one["seconds"] for one in caught)
    lines = [HEAD.format(stacks="; ".join(f"{name}: {text}" for name, text in STACKS.items()))]
    lines.append(
        f"**{len(caught)} of {len(faults)} faults were caught** ({len(caught) / len(faults):.0%}), half of them within "
        f"{seconds:.0f} s; {len(named)} of the {len(nameable)} that the knowledge base has a cause for were named by it. "
        f"**{len(passed)} of {len(healthy)} healthy recipes passed.** `check` alone names "
        f"{sum(bool(one['check']) for one in faults.values())} of the faults.\n\n"
    )
    unrun = [one.id for one in FAULTS if one.id not in faults] + [one.id for one in HEALTHY if one.id not in healthy]
    if unrun:
        lines.append(f"Declared, and without a result yet: {', '.join(unrun)}.\n\n")
    lines.append(
        "| fault | stack | caught | in stage | named | check | seconds |\n| --- | --- | --- | --- | --- | --- | --- |\n"
    )
    lines += [_fault(name, one) for name, one in faults.items()]
    lines.append(
        "\n## Healthy recipes\n\n| recipe | stack | verdict | seconds | stages |\n| --- | --- | --- | --- | --- |\n"
    )
    for name, one in healthy.items():
        stages = ", ".join(f"{stage} {taken:.0f}" for stage, taken in one["stages"].items())
        lines.append(f"| {name}: {one['what']} | {one['stack']} | {one['verdict']} | {_seconds(one)} | {stages} |\n")
    lines.append(GATHERS.format(**results["gathers"]))
    if published := results.get("published"):
        lines.append(_published(published))
    if planted := results.get("planted"):
        lines.append(_planted(planted))
    return "".join(lines)


GATHERS = """
On the CPU the ranks of a rehearsal wait for every one of DeepSpeed's gathers (`doctor/rehearse/gathers_child.py`).
Releases until its [change 8539](https://github.com/deepspeedai/DeepSpeed/pull/8539) wait for the last only, which is
right on GPUs: between two CPU ranks, on a machine that did other work, deepspeed 0.15.4 loaded a weight wrong in
{wrong} of {loads} loads of a small model, and in {wrong_waiting} of {loads} with the waiting
(`python -m tests.stack.rehearse.gathers`). Without it healthy recipes now and then trained to a loss of 0 or NaN.
"""


def _published(one: dict[str, Any]) -> str:
    """How long the published recipe takes as a user starts it."""
    stages = ", ".join(f"{stage} {taken:.0f} s" for stage, taken in one["stages"].items())
    changed = ", ".join(f"{key} {values['recipe']} → {values['rehearsed']}" for key, values in one["changed"].items())
    return (
        "\n## The published recipe\n\nMade by `python -m tests.stack.rehearse.published`: the configuration of a 32B model "
        "with as many tokens as it has, ZeRO-3 with offload, two processes, every start of Python its own, DeepSpeed's "
        f"operators built before.\n\n**{one['verdict']} in {one['seconds']:.0f} s** ({stages}); made smaller: "
        f"{changed or 'nothing'}.\n"
    )


def _planted(rows: dict[str, Any]) -> str:
    """The faults of the fault campaign."""
    caught = [one for one in rows.values() if one["command"] == "failed"]
    named = [one for one in caught if one["right"] or one.get("check")]
    alone = sum(one["caught"] for one in rows.values())
    lines = [
        "\n## Faults of the fault campaign\n\nThose of [faults.md](faults.md) whose real run failed: "
        "`python -m tests.stack.rehearse --planted`.\n\n"
        f"**{len(caught)} of {len(rows)} were caught** ({len(caught) / len(rows):.0%}), {len(named)} by the cause that they "
        f"were planted as. The toy run alone caught {alone} ({alone / len(rows):.0%}): it takes ports, process counts, "
        "trackers, the output directory and what only a GPU does into its own hands, and what is wrong with those is seen "
        "by `check`, with which a rehearsal begins. `in the toy run` is what that showed by itself, after `check`.\n\n"
        "| fault | stack | caught | in the toy run | seconds |\n| --- | --- | --- | --- | --- |\n"
    ]
    for name, one in rows.items():
        named_so = f"`{one['causes'][0]}`" if one["causes"] else "unknown cause"
        told = one["verdict"] if one["verdict"] == "refused" or not one["caught"] else named_so
        found = "yes" if one["command"] == "failed" else "**no**"
        seconds = _seconds(one) if "seconds" in one else ""
        lines.append(f"| {name}: {one['what']} | {one['stack']} | {found} | {told} | {seconds} |\n")
    return "".join(lines)


def _seconds(one: dict[str, Any]) -> str:
    return f"({one['seconds']:.0f})" if one["served"] else f"{one['seconds']:.0f}"


def _fault(name: str, one: dict[str, Any]) -> str:
    cause = one["causes"][0] if one["causes"] else None
    told = f"`{cause}`" if cause else "as a failure of unknown cause" if one["caught"] else "no"
    right = "" if one["right"] else " (wrong)"
    found = "yes" if one["caught"] else "**no**"
    check = "yes" if one["check"] else "no"
    cells = (one["what"], one["stack"], found, one["stage"] or "", told + right, check, _seconds(one))
    return f"| {' | '.join(cells)} |\n"


def main() -> int:
    text = page(json.loads(RESULTS.read_text(encoding="utf-8")))
    if "--check" in sys.argv:
        return 0 if PAGE.exists() and PAGE.read_text(encoding="utf-8") == text else 1
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
