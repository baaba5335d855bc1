"""The network interfaces of this machine and their addresses, asked of the kernel by netlink (man 7 rtnetlink)."""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from pathlib import Path
from typing import Any

_GETADDR, _NEWADDR, _DONE = 22, 20, 3
_REQUEST_DUMP = 0x1 | 0x300
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_SYS = Path("/sys/class/net")


def interfaces() -> dict[str, dict[str, Any]]:
    """`{name: {up, addresses: ["10.0.0.3/24", …], mtu, mbits}}`; `up` is None where the kernel does not say."""
    found: dict[str, dict[str, Any]] = {}
    for _, name in socket.if_nameindex():
        found[name] = {"up": _up(name), "addresses": [], "mtu": _number(name, "mtu"), "mbits": _number(name, "speed")}
    for index, address, bits in _addresses():
        try:
            found[socket.if_indextoname(index)]["addresses"].append(f"{address}/{bits}")
        except (OSError, KeyError):  # taken away meanwhile
            continue
    return found


def _up(name: str) -> bool | None:
    try:
        flags = int((_SYS / name / "flags").read_text(), 16)
    except (OSError, ValueError):
        return None
    return bool(flags & 0x1)


def _number(name: str, what: str) -> int | None:
    try:
        value = int((_SYS / name / what).read_text())
    except (OSError, ValueError):  # speed of a virtual interface cannot be read
        return None
    return value if value > 0 else None


def _addresses() -> list[tuple[int, str, int]]:
    """(interface index, address, prefix length) of every IPv4 and IPv6 address. Raises OSError."""
    found = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.settimeout(1.0)
        kernel.bind((0, 0))
        kernel.send(struct.pack("=IHHIIBxxxI", 24, _GETADDR, _REQUEST_DUMP, 1, os.getpid(), socket.AF_UNSPEC, 0))
        done = False
        while not done:
            data = kernel.recv(1 << 16)
            while len(data) >= 16:
                length, kind = struct.unpack_from("=IH", data)
                if kind == _DONE or length < 16:
                    done = True
                    break
                if kind == _NEWADDR:
                    found.append(_one(data[16:length]))
                data = data[(length + 3) & ~3 :]
    return [entry for entry in found if entry is not None]


def _one(body: bytes) -> tuple[int, str, int] | None:
    family, bits, _, _, index = struct.unpack_from("=BBBBI", body)
    attributes: dict[int, bytes] = {}
    rest = body[8:]
    while len(rest) >= 4:
        length, kind = struct.unpack_from("=HH", rest)
        if length < 4:
            break
        attributes[kind] = rest[4:length]
        rest = rest[(length + 3) & ~3 :]
    raw = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS)
    if raw is None or family not in (socket.AF_INET, socket.AF_INET6):
        return None
    return index, str(ipaddress.ip_address(raw)), bits
