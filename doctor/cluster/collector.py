"""Runs on one node: collects its facts within a deadline and writes them to stdout. Facts only, nothing is judged.

It needs Python 3.10 and its own files: it comes as one zipapp (`doctor.cluster.bundle`), with stand-ins for what is
compiled. What it needs to know comes as one JSON object, the request:

    workdir, recipe, python, env     the target, as on the command line of `check`
    environ                          variables to set for the target (NNODES, MASTER_ADDR, …)
    budget                           seconds for everything
    word                             the word of this collection, by which the nodes know each other at the port
    deep                             true: all nodes reduce one tensor together, each pair measures its link
    slurm                            true: what the launch does not say of the nodes is taken from Slurm's variables
    facts                            facts that the asker knows of this node
    name                             the node's name in the capture; Slurm's or the host's own by default
"""

from __future__ import annotations

import gzip
import json
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from doctor.cluster import wire

LARGEST_DOCUMENT = 64 << 10  # bytes, gzipped: what one node may send
START_SHARE = 0.15  # of the budget, kept back for the start of interpreters and for the way of the answer


def facts(request: Mapping[str, Any]) -> dict[str, Any]:
    """The facts document of this node, redacted. A target that is not there is `node.failed`, with the sentence."""
    from doctor import examine, redact, target
    from doctor.cluster.facts import meeting, probes, together
    from doctor.errors import BadInput
    from doctor.facts import Facts
    from doctor.probes import all_probes

    budget = float(request.get("budget", 10.0)) * (1 - START_SHARE)
    own = {name: str(value) for name, value in request.get("environ", {}).items()}
    if request.get("slurm"):
        own = {**_from_slurm(os.environ), **own}
    if request.get("word"):
        own |= {
            meeting.SECONDS_VARIABLE: str(budget * (0.2 if request.get("deep") else 0.6)),
            meeting.WORD_VARIABLE: str(request["word"]),
        }
    if request.get("deep"):
        own[together.SECONDS_VARIABLE] = str(budget * 0.7)
    os.environ.update(own)
    try:
        found = target.find(
            request.get("recipe"), request.get("workdir"), request.get("python"), request.get("env"), offline=True
        )
        if not found.recipe.exists():
            failed: str | None = f"the recipe {found.recipe} is not there"
        else:
            failed = None
        collected, reports = examine.collect(found, [*all_probes(), *probes()], budget)
    except BadInput as error:
        failed = str(error)
        collected, reports = Facts(), {}
    late = {f"{report.id}.late": report.reason for report in reports.values() if report.status != "ok"}
    document = {**collected.to_json(), **request.get("facts", {}), "node.failed": failed, "node.not_collected": late}
    return redact.document(document)


def packed(document: dict[str, Any]) -> bytes:
    """The document as it travels. One that would be too large does without its largest facts, which are unknown then."""
    data = _zipped(document)
    if len(data) <= LARGEST_DOCUMENT:
        return data
    for size, name in sorted(((len(_zipped(value)), name) for name, value in document.items()), reverse=True):
        if len(data) <= LARGEST_DOCUMENT:
            break
        document = {**document, name: {"unknown": f"too large to be sent ({size >> 10} KB)"}}
        data = _zipped(document)
    return data


def _zipped(value: Any) -> bytes:
    return gzip.compress(json.dumps(value, ensure_ascii=False, sort_keys=True).encode(), mtime=0)


def _from_slurm(environ: Mapping[str, str]) -> dict[str, str]:
    """The launch variables that a job script would set, where the environment does not have them yet."""
    from doctor.cluster import hostlist

    nodes = hostlist.expand(environ.get("SLURM_JOB_NODELIST", ""))
    given = {
        "NNODES": str(len(nodes)),
        "NODE_RANK": str(nodes.index(environ["SLURMD_NODENAME"])) if environ.get("SLURMD_NODENAME") in nodes else None,
        "MASTER_ADDR": nodes[0] if nodes else None,
    }
    return {name: value for name, value in given.items() if value is not None and name not in environ}


def main(arguments: Sequence[str]) -> None:
    """`doctor.pyz collect REQUEST`: the request is JSON, or `@FILE`. Leaves at once even when a probe still hangs."""
    text = arguments[0] if arguments else "{}"
    if text.startswith("@"):
        with open(text[1:], encoding="utf-8") as file:
            text = file.read()
    request = json.loads(text)
    answer = facts(request)
    answer["node.clock"] = time.time()
    data = packed(answer)
    name = request.get("name") or os.environ.get("SLURMD_NODENAME") or answer.get("node.host") or os.uname().nodename
    sys.stdout.write("".join(wire.lines(str(name), data)))
    sys.stdout.flush()
    if threading.active_count() > 1:
        os._exit(0)
