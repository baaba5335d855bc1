"""The network as this node sees it: interfaces, where MASTER_ADDR leads, over which interface packets go there."""

from __future__ import annotations

import socket
from typing import Any

from doctor.cluster.facts import addresses
from doctor.deadline import within
from doctor.facts import Facts, Unknown
from doctor.probes import Judgement
from doctor.target import Target

ID = "network"
AFTER: tuple[str, ...] = ("launch",)

DNS_SECONDS = 3.0


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    """`network.master`: {name, addresses, error}; `network.route`: {address, source, interface} to its first address;
    `network.here`: whether one of its addresses is this node's own."""
    try:
        own: Any = addresses.interfaces()
    except OSError as error:
        own = Unknown(f"the kernel does not list the interfaces ({error.strerror})")
    name = facts["launch.master_addr"]
    master = resolve(name)
    found = {"network.interfaces": own, "network.master": master, "network.here": None, "network.route": None}
    if master["addresses"] and isinstance(own, dict):
        mine = {text.partition("/")[0]: device for device, said in own.items() for text in said["addresses"]}
        found["network.here"] = any(address in mine for address in master["addresses"])
        found["network.route"] = route(master["addresses"][0], mine)
    return found


def resolve(name: str, seconds: float = DNS_SECONDS) -> dict[str, Any]:
    """`{name, addresses, error}`; the addresses in the order in which a connection would try them."""
    try:
        answers = within(seconds, lambda: socket.getaddrinfo(name, None, type=socket.SOCK_STREAM))
    except TimeoutError:
        return {"name": name, "addresses": [], "error": f"no answer within {seconds:g} s"}
    except (OSError, UnicodeError) as error:
        return {"name": name, "addresses": [], "error": getattr(error, "strerror", None) or str(error)}
    return {"name": name, "addresses": list(dict.fromkeys(str(a[4][0]) for a in answers)), "error": None}


def route(address: str, mine: dict[str, str]) -> dict[str, Any]:
    """Which of our addresses and interfaces the kernel would use; nothing is sent (a UDP socket is only connected)."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))
        except OSError as error:
            return {"address": address, "source": None, "interface": None, "error": error.strerror or str(error)}
        source = str(probe.getsockname()[0])
    return {"address": address, "source": source, "interface": mine.get(source), "error": None}


JUDGEMENTS: tuple[Judgement, ...] = ()
