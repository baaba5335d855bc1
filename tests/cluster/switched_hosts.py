"""Hosts on one switch: network namespaces on a bridge, with links whose rate can be limited. Needs root.

sudo apt-get install iproute2 iptables
"""

from __future__ import annotations

from tests.cluster.two_hosts import TwoHosts, _ip

SWITCH = "toyswitch"


class SwitchedHosts(TwoHosts):
    """`with SwitchedHosts(3) as hosts`: toy1, toy2, … at 10.78.0.1, 10.78.0.2, …"""

    def __init__(self, count: int) -> None:
        self.names = [f"toy{number}" for number in range(1, count + 1)]
        self.addresses = [f"10.78.0.{number}" for number in range(1, count + 1)]
        self.links = [f"veth-toy{number}" for number in range(1, count + 1)]

    def _connect(self) -> None:
        _ip("netns", "add", SWITCH)
        _ip("-n", SWITCH, "link", "add", "br0", "type", "bridge")
        _ip("-n", SWITCH, "link", "set", "br0", "up")
        for name, link in zip(self.names, self.links, strict=True):
            _ip("link", "add", link, "netns", name, "type", "veth", "peer", "name", f"port-{name}", "netns", SWITCH)
            _ip("-n", SWITCH, "link", "set", f"port-{name}", "master", "br0", "up")

    def _take_down(self) -> None:
        super()._take_down()
        _ip("netns", "del", SWITCH, check=False)

    def slow(self, host: int, peer: int, rate: str) -> None:
        """What a host sends to one other is dropped above a rate (`2mb/s`): TCP comes down to it."""
        limit = ["--hashlimit-above", rate, "--hashlimit-name", f"to{peer}"]
        self.firewall(host, "-A", "OUTPUT", "-d", self.addresses[peer], "-m", "hashlimit", *limit, "-j", "DROP")
