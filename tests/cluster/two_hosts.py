"""Two hosts on one machine: network namespaces joined by a veth pair, each with its own host name. Needs root.

sudo apt-get install iproute2 iptables
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from doctor.cluster import bundle, wire
from doctor.cluster.capture import Capture

PROGRAMS = ("ip", "iptables", "unshare")
NAMES = ("toya", "toyb")
ADDRESSES = ("10.77.0.1", "10.77.0.2")
LINKS = ("veth-toya", "veth-toyb")


def missing() -> list[str]:
    return [name for name in PROGRAMS if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None]


def _ip(*words: str, check: bool = True) -> None:
    subprocess.run(["ip", *words], check=check, capture_output=True, text=True)


class TwoHosts:
    """`with TwoHosts() as hosts: hosts.start(0, argv)`; `hosts.collect(request)` is what srun would bring together."""

    names: Sequence[str] = NAMES
    addresses: Sequence[str] = ADDRESSES
    links: Sequence[str] = LINKS

    def __enter__(self) -> TwoHosts:
        self._take_down()
        for name in self.names:
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        self._connect()
        for name, link, address in zip(self.names, self.links, self.addresses, strict=True):
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", link)
            _ip("-n", name, "link", "set", link, "up")
        return self

    def _connect(self) -> None:
        _ip("link", "add", LINKS[0], "netns", NAMES[0], "type", "veth", "peer", "name", LINKS[1], "netns", NAMES[1])

    def __exit__(self, *_: object) -> None:
        self._take_down()

    def _take_down(self) -> None:
        for name in self.names:
            _ip("netns", "del", name, check=False)

    def words(self, host: int, argv: list[str]) -> list[str]:
        """The command line that runs `argv` on a host, under its name."""
        script = 'hostname "$0" && exec "$@"'
        return [
            "ip",
            "netns",
            "exec",
            self.names[host],
            "unshare",
            "--uts",
            "sh",
            "-c",
            script,
            self.names[host],
            *argv,
        ]

    def start(self, host: int, argv: list[str], **more: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(self.words(host, argv), text=True, **more)

    def block(self, host: int, port: int) -> None:
        """A firewall that drops what comes to this port."""
        self.firewall(host, "-A", "INPUT", "-p", "tcp", "--dport", str(port), "-j", "DROP")

    def firewall(self, host: int, *rule: str) -> None:
        subprocess.run(["ip", "netns", "exec", self.names[host], "iptables", *rule], check=True)

    def unplug(self, host: int) -> None:
        _ip("-n", self.names[host], "link", "set", self.links[host], "down")

    def collect(self, folder: Path, request: Mapping[str, Any], environs: list[Mapping[str, str]]) -> Capture:
        """All collectors at once, joined. `environs`: the launch variables of each host."""
        zipapp = folder / "doctor.pyz"
        zipapp.write_bytes(bundle.build())
        started = []
        for host, environ in enumerate(environs):
            rank = {"NNODES": str(len(environs)), "NODE_RANK": str(host), "MASTER_ADDR": self.addresses[0], **environ}
            wanted = {"budget": 20.0, "word": "toys", **request, "environ": rank, "name": self.names[host]}
            argv = [sys.executable, "-I", str(zipapp), "collect", json.dumps(wanted)]
            started.append(self.start(host, argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        capture = Capture()
        for host, process in enumerate(started):
            out, err = process.communicate(timeout=240)
            receiver = wire.Receiver()
            answers = [whole for line in out.splitlines() if (whole := receiver.feed(line))]
            if not answers:
                capture.missing(self.names[host], err[-300:])
            for node, data in answers:
                facts = json.loads(gzip.decompress(data))
                facts["node.clock_ahead"] = 0.0
                facts.pop("node.clock")
                capture.add(node, facts)
        return capture
