"""`--deep`: a rank on every node, all reduce one tensor under a deadline; then the link of each pair is measured."""

from __future__ import annotations

import json
import subprocess
import threading
from importlib import resources
from typing import Any

from doctor.facts import Facts, Unknown
from doctor.probes import Judgement
from doctor.target import Target

ID = "together"
AFTER: tuple[str, ...] = ("launch", "network", "meeting")

NO_TIME = "no answer within"  # so begin the words about a rank that was ended because the time was up
SECONDS_VARIABLE = "SKYT1_DOCTOR_TOGETHER_SECONDS"


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    """`together.stage`: the last stage that was told (none, imported, join, reduce, pairs, done); `together.failed`: its
    words or None; `together.pairs`: rank of the peer -> bytes per second; `together.meeting`: {peer, seconds} of the link
    that was being measured when the time was up, else None."""
    seconds = target.environ.get(SECONDS_VARIABLE)
    names = ("stage", "failed", "pairs", "meeting")
    if seconds is None:
        return {f"{ID}.{name}": Unknown("asked only by --deep") for name in names}
    nodes, rank, port = facts["launch.nnodes"], facts["launch.node_rank"], facts["launch.master_port"]
    address = (facts.get("network.route") or {}).get("address") or facts["launch.master_addr"]
    order = {"rank": rank, "nodes": nodes, "address": address, "port": port, "seconds": float(seconds)}
    told, words = _run(target, order, float(seconds))
    last = told[-1] if told else {"stage": "none"}
    failed = last if last["stage"] == "failed" else None
    reached = [entry["stage"] for entry in told if entry["stage"] != "failed"]
    return {
        "together.stage": reached[-1] if reached else "none",
        "together.failed": failed["message"] if failed else None if last["stage"] == "done" else words,
        "together.pairs": next((e["bytes_per_second"] for e in reversed(told) if "bytes_per_second" in e), {}),
        "together.meeting": _meeting(last, float(seconds)),
    }


def _meeting(last: dict[str, Any], seconds: float) -> dict[str, Any] | None:
    """The peer whose link was measured to the end of the time, and for how long."""
    if last["stage"] != "pairs" or last["peer"] is None:
        return None
    return {"peer": last["peer"], "seconds": round(seconds - last["after"], 1)}


def _run(target: Target, order: dict[str, Any], seconds: float) -> tuple[list[dict[str, Any]], str]:
    """What the child told, and in words how it ended. It is killed when the time is up."""
    source = resources.files("doctor.cluster").joinpath("together_child.py").read_text(encoding="utf-8")
    child = subprocess.Popen(
        [str(target.python), "-c", source], cwd=target.workdir, env=target.environ, text=True, errors="replace",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    killer = threading.Timer(seconds, child.kill)
    killer.start()
    try:
        out, err = child.communicate(json.dumps(order) + "\n")
    finally:
        killer.cancel()
    told = []
    for line in out.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # torch's own words
        if isinstance(entry, dict) and "stage" in entry:
            told.append(entry)
    if child.returncode == -9:
        return told, f"{NO_TIME} {seconds:g} s"
    return told, (err.strip().splitlines() or [f"exit code {child.returncode}"])[-1][:300]


JUDGEMENTS: tuple[Judgement, ...] = ()
