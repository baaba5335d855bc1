"""Takes the answers of the nodes from the program that carries the collector, until all are there or the time is up.

Besides the pieces of documents (doctor.cluster.wire) a line can be

    @skyt1-expect NODE            a node that is asked
    @skyt1-reason NODE WORDS      why a node gives no facts
"""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

from doctor.cluster import wire
from doctor.cluster.capture import Capture

EXPECT, REASON = "@skyt1-expect", "@skyt1-reason"


def receive(
    step: subprocess.Popen[str], nodes: Iterable[str] | None, until: float, capture: Capture, reason: str
) -> list[str]:
    """Read until every node of `nodes` has answered (None: those that are announced, to the end of the stream), the
    program has ended, or the time is up. `reason` is kept for those that stay silent. Returns the other lines."""
    arrived: SimpleQueue[tuple[str, str | None]] = SimpleQueue()

    def read(name: str, stream: Any) -> None:
        for line in stream:
            arrived.put((name, line))
        arrived.put((name, None))

    for name, stream in (("out", step.stdout), ("err", step.stderr)):
        threading.Thread(target=read, args=(name, stream), daemon=True).start()
    receiver, open_streams, told = wire.Receiver(), 2, []
    waiting = set(nodes or ())
    while (waiting or nodes is None) and open_streams and (left := until - time.monotonic()) > 0:
        try:
            name, line = arrived.get(timeout=left)
        except Empty:
            break
        if line is None:
            open_streams -= 1
        elif name == "out" and line.startswith((EXPECT, REASON)):
            mark, node, *words = line.strip().split(" ", 2)
            capture.missing(node, words[0] if mark == REASON and words else reason)
            waiting.discard(node)
        elif name == "out" and wire.MARK in line:
            if whole := receiver.feed(line):
                _add(capture, *whole)
                waiting.discard(whole[0])
        else:
            told.append(line.strip())
    for node in receiver.begun:
        capture.missing(node, "its answer broke off")
    return told


def _add(capture: Capture, node: str, data: bytes) -> None:
    """The document, with how far the node's clock was ahead of ours when it was sent."""
    now = time.time()
    facts = json.loads(gzip.decompress(data))
    facts["node.clock_ahead"] = round(facts.pop("node.clock", now) - now, 3)
    capture.add(node, facts)


def about(node: str, told: Sequence[str]) -> str | None:
    """The last line in which a node is named, without what the program puts before its messages."""
    named = re.compile(rf"\b{re.escape(node)}\b")
    lines = [line for line in told if named.search(line)]
    return lines[-1].removeprefix("srun: ").removeprefix("error: ")[:200] if lines else None


def end(step: subprocess.Popen[str]) -> None:
    """A first SIGINT only makes srun report; the second ends its step, and SIGKILL what cannot end."""
    for number in (signal.SIGINT, signal.SIGINT, signal.SIGKILL):
        if step.poll() is not None:
            return
        with suppress(ProcessLookupError):
            os.killpg(step.pid, number)
        with suppress(subprocess.TimeoutExpired):
            step.wait(0.5)
