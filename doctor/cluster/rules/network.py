"""Whether the nodes find each other: the name of the master, its port, and the interfaces that NCCL and Gloo will use."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any

from doctor.cluster import hostlist
from doctor.cluster.capture import Capture, Group
from doctor.cluster.rules.contrast import Across, across, merged, odd, sentence

RULE = "nodes.network"

ENOUGH_SECONDS = 1.0  # of trying while the master listened; less proves nothing of the port


def master_resolves(capture: Capture) -> Iterator[Across]:
    """The name leads somewhere on every node, and everywhere to the same place: one of the nodes, that of rank 0."""
    masters = capture.groups("network.master")
    failed = merged(masters, lambda said: f"{said['name']}: {said['error']}" if said["error"] else None)
    if failed:
        evidence = [(f"{hostlist.fold(group.nodes)}: MASTER_ADDR={group.value}", "MASTER_ADDR") for group in failed]
        yield across(RULE, "launch-master-addr", evidence, [node for group in failed for node in group.nodes])
        return
    several = len(set(capture.of("node.host").values())) > 1  # nodes of one machine share its addresses
    owners = [node for node, here in capture.of("network.here").items() if here]
    loopback = [
        node
        for node, said in capture.of("network.master").items()
        if any(address.startswith("127.") or address == "::1" for address in said["addresses"])
    ]
    if several and len(loopback) > 1:
        what = f"MASTER_ADDR leads {hostlist.fold(loopback)} each to itself: they wait for themselves"
        yield across(RULE, "launch-master-addr", [(what, "MASTER_ADDR")], loopback)
        return
    here = capture.of("network.here")
    if several and here and not owners and len(here) == len(capture.answered) == len(capture.nodes):
        name = next(iter(capture.of("network.master").values()))
        what = f"MASTER_ADDR={name['name']} ({', '.join(name['addresses'])}) is the address of none of the nodes"
        yield across(RULE, "launch-master-addr", [(what, "MASTER_ADDR")], here)
        return
    ranks = capture.of("launch.node_rank")
    wrong = [node for node in owners if ranks.get(node, 0) != 0]
    if several and wrong and not any(ranks.get(node) == 0 for node in owners):
        what = f"MASTER_ADDR leads to {hostlist.fold(wrong)}, NODE_RANK {ranks[wrong[0]]}; the store opens on rank 0"
        yield across(RULE, "launch-master-addr", [(what, "MASTER_ADDR")], wrong)


def port_reachable(capture: Capture) -> Iterator[Across]:
    """Every node said hello to the master at the rendezvous port, or could not and says why."""
    heard = capture.of("meeting.heard")
    if not any(isinstance(names, list) for names in heard.values()):
        return  # nobody listened: the master gave no facts, or the port was taken, which has its own finding
    tried = _tried_in_time(capture)
    said = {node: words for node, words in capture.of("meeting.reached").items() if isinstance(words, str)}
    failed = merged(Group(words, (node,)) for node, words in said.items() if node in tried)
    if not failed:
        return
    ports = merged(capture.groups("launch.master_port"))
    routes = _routes(capture)
    evidence = []
    for group in failed:
        over = merged(Group(routes[node]["interface"] or "?", (node,)) for node in group.nodes if routes.get(node))
        via = f" over {', '.join(str(g.value) for g in over[:3])}" if over else ""
        place = f"{routes[group.nodes[0]]['address']}:{ports[0].value}" if routes.get(group.nodes[0]) else "the master"
        evidence.append((f"{hostlist.fold(group.nodes)}: no connection to {place}{via}: {group.value}", "MASTER_PORT"))
    nodes = [node for group in failed for node in group.nodes]
    yield across(RULE, "launch-rendezvous-timeout", evidence, nodes, port=ports[0].value)


def _tried_in_time(capture: Capture) -> set[str]:
    """Nodes that tried for at least a second while the master listened, their clocks set against each other."""
    ahead, spans = capture.of("node.clock_ahead"), capture.of("meeting.span")
    shifted = {n: (span[0] - ahead.get(n, 0.0), span[1] - ahead.get(n, 0.0)) for n, span in spans.items()}
    listened = [
        shifted[n] for n, names in capture.of("meeting.heard").items() if isinstance(names, list) and n in shifted
    ]
    if not listened:
        return set()
    first, last = listened[0]
    return {n for n, (begun, ended) in shifted.items() if min(ended, last) - max(begun, first) >= ENOUGH_SECONDS}


def chosen(selection: str | None, interfaces: dict[str, Any], exact: bool = False) -> list[str]:
    """The interfaces that a *_SOCKET_IFNAME selects, in its order. NCCL matches prefixes, `=` exactly, `^` excludes
    (NCCL user guide, NCCL_SOCKET_IFNAME); Gloo takes exact names. Without one: what is up and no loopback or bridge."""
    usable = [name for name, said in interfaces.items() if said["up"] is not False and said["addresses"]]
    if not selection:
        plain = [name for name in usable if not name.startswith(("lo", "docker", "virbr"))]
        return sorted(plain, key=lambda name: not name.startswith("ib")) or usable
    if selection.startswith("^"):
        prefixes = tuple(selection[1:].removeprefix("=").split(","))
        return [name for name in usable if not name.startswith(prefixes) and name != "lo"]
    names = selection.removeprefix("=").split(",")
    exact = exact or selection.startswith("=")
    return [name for word in names for name in usable if (name == word if exact else name.startswith(word))]


def interface_named(capture: Capture) -> Iterator[Across]:
    """NCCL_SOCKET_IFNAME and GLOO_SOCKET_IFNAME name an interface that is there, on every node."""
    environs, interfaces = capture.of("launch.environ"), capture.of("network.interfaces")
    routes = _routes(capture)
    evidence: list[tuple[str, str]] = []
    nodes: list[str] = []
    found: set[str] = set()
    for variable, exact in (("NCCL_SOCKET_IFNAME", False), ("GLOO_SOCKET_IFNAME", True)):
        missing: dict[tuple[str, str], list[str]] = {}
        for node, environ in environs.items():
            value = environ.get(variable)
            if value and node in interfaces and not chosen(value, interfaces[node], exact):
                there = ", ".join(name for name in interfaces[node] if interfaces[node][name]["addresses"])
                missing.setdefault((value, there), []).append(node)
        for (value, there), on in missing.items():
            evidence.append((f"{hostlist.fold(on)}: {variable}={value} is not there; there are {there}", variable))
            nodes += on
    for node in nodes:
        if (used := routes.get(node)) and used["interface"] not in (None, "lo"):
            found.add(used["interface"])
    if evidence:
        same = {"interface_found": found.pop()} if len(found) == 1 else {}
        yield across(RULE, "nccl-socket-ifname", evidence, nodes, facts=same, ifname=True)


def interface_reaches(capture: Capture) -> Iterator[Across]:
    """The interface that will be used carries an address in a network that the nodes share, and an address of its own.

    A bridge like docker0 has the same address on every node: peers are told an address that is their own.
    """
    environs, interfaces = capture.of("launch.environ"), capture.of("network.interfaces")
    if len(interfaces) < 2 or len(set(capture.of("node.host").values())) < 2:
        return
    used: dict[str, tuple[str, str]] = {}
    for node, there in interfaces.items():
        environ = environs.get(node, {})
        names = chosen(environ.get("NCCL_SOCKET_IFNAME"), there) or chosen(
            environ.get("GLOO_SOCKET_IFNAME"), there, True
        )
        addresses = [a for name in names[:1] for a in there[name]["addresses"] if ":" not in a]
        if addresses:
            used[node] = (names[0], addresses[0])
    doubled = [g for g in merged(Group(pair, (node,)) for node, pair in used.items()) if len(g.nodes) > 1]
    explicit = any("_SOCKET_IFNAME" in name for environ in environs.values() for name in environ)
    if doubled:
        evidence = [
            (f"{hostlist.fold(g.nodes)}: {g.value[0]} has {g.value[1]} on each of them", "NCCL_SOCKET_IFNAME")
            for g in doubled
        ]
        yield across(RULE, "nccl-wrong-interface", evidence, [n for g in doubled for n in g.nodes], facts=_way(capture))
        return
    routed = {node: said["interface"] for node, said in _routes(capture).items() if said["interface"]}
    apart = [node for node, pair in used.items() if routed.get(node) not in (None, "lo", pair[0])]
    if not explicit or not apart:
        return
    networks = merged(
        Group((pair[0], str(ipaddress.ip_interface(pair[1]).network)), (node,)) for node, pair in used.items()
    )
    if len(merged(networks, lambda value: value[1])) > 1:
        what = sentence(networks, lambda value: f"{value[0]} in {value[1]}")
        yield across(RULE, "nccl-wrong-interface", [(what, "NCCL_SOCKET_IFNAME")], odd(networks), facts=_way(capture))


def _routes(capture: Capture) -> dict[str, dict[str, Any]]:
    """Node -> its route to the master, where the name leads to an address."""
    return {node: said for node, said in capture.of("network.route").items() if said is not None}


def _way(capture: Capture) -> dict[str, str]:
    """The interface of the route to the master, where it is the same on all nodes."""
    names = {said["interface"] for said in _routes(capture).values() if said["interface"] not in (None, "lo")}
    return {"interface_found": names.pop()} if len(names) == 1 else {}


RULES = (master_resolves, port_reachable, interface_named, interface_reaches)
