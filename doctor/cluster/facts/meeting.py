"""The rendezvous port, tried for real: the node that MASTER_ADDR leads to listens, every other connects and says hello.

Nodes start their collectors at slightly different moments, so each tries until its share of the deadline is used up.
The listener answers with the word of this collection: what else listens at that port is not taken for the master.
"""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Any

from doctor.facts import Facts, Unknown
from doctor.probes import Judgement
from doctor.target import Target

ID = "meeting"
AFTER: tuple[str, ...] = ("launch", "network", "node")

SECONDS_VARIABLE = "SKYT1_DOCTOR_MEETING_SECONDS"
WORD_VARIABLE = "SKYT1_DOCTOR_MEETING_WORD"
_ATTEMPT = 1.0  # seconds for one connection
_PAUSE = 0.1
LONGER = 0.2  # the master listens for this share longer than others try: they may have started later


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    """On the master `meeting.heard`: names of the nodes that came, on the others `meeting.reached`: true or why not.

    `meeting.span`: [from, until] by this node's clock; who tried only while nobody listened yet or any more proves nothing.
    """
    seconds = target.environ.get(SECONDS_VARIABLE)
    port, nodes, here = facts.get("launch.master_port"), facts.get("launch.nnodes"), facts["network.here"]
    lacking = (
        Unknown("no meeting was arranged") if seconds is None
        else Unknown("the port or the number of nodes is no number") if port is None or nodes is None
        else Unknown("MASTER_ADDR leads to no address") if here is None
        else None
    )  # fmt: skip
    if lacking is not None:
        return {"meeting.heard": lacking, "meeting.reached": lacking, "meeting.span": lacking}
    until = time.monotonic() + float(seconds or 0)
    word = target.environ.get(WORD_VARIABLE, "hello")
    begun = time.time()
    if here and facts.get("launch.node_rank", 0) == 0:
        heard = listen(port, word, nodes - 1, until + LONGER * float(seconds or 0))
        return {"meeting.heard": heard, "meeting.reached": None, "meeting.span": _span(begun)}
    address = facts["network.route"]["address"]
    reached = visit(address, port, word, facts["node.host"], until)
    if reached is not True and address.startswith("127."):
        reached = f"MASTER_ADDR is this node's own loopback address ({reached})"
    return {"meeting.heard": None, "meeting.reached": reached, "meeting.span": _span(begun)}


def _span(begun: float) -> list[float]:
    return [round(begun, 2), round(time.time(), 2)]


def listen(port: int, word: str, expected: int, until: float) -> Any:
    """Names of the nodes that came before `until`; ends early when all have come. Unknown when the port is taken."""
    heard: list[str] = []
    with socket.socket(socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            if server.family == socket.AF_INET6:
                server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            server.bind(("", port))
            server.listen(1024)
        except (OSError, OverflowError) as error:
            return Unknown(f"port {port} cannot be listened on ({error})")
        while len(heard) < expected and (left := until - time.monotonic()) > 0:
            server.settimeout(left)
            with contextlib.suppress(OSError):  # one visitor that breaks off must not keep the others out
                visitor, _ = server.accept()
                with visitor:
                    visitor.settimeout(_ATTEMPT)
                    said = visitor.recv(256).decode("utf-8", errors="replace").split()
                    if len(said) == 2 and said[0] == word:
                        visitor.sendall(f"{word}\n".encode())
                        heard.append(said[1])
    return sorted(heard)


def visit(address: str, port: int, word: str, name: str, until: float) -> Any:
    """True when the master answered with our word, else the last reason why not."""
    why = "there was no time to try"
    while (left := until - time.monotonic()) > 0:
        try:
            with socket.create_connection((address, port), timeout=min(_ATTEMPT, left)) as there:
                there.sendall(f"{word} {name}\n".encode())
                if there.recv(256).decode("utf-8", errors="replace").strip() == word:
                    return True
                why = "another program answers there"
        except TimeoutError:
            why = "timed out"
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or str(error)
        time.sleep(_PAUSE)
    return why


JUDGEMENTS: tuple[Judgement, ...] = ()
