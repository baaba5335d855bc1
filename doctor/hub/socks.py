"""The client's side of a SOCKS5 connection (RFC 1928, with the login of RFC 1929): enough to reach one host."""

from __future__ import annotations

import socket

_FAILURES = {
    1: "general failure", 2: "not allowed by its rules", 3: "network unreachable", 4: "host unreachable",
    5: "connection refused", 6: "TTL expired", 7: "command not supported", 8: "address type not supported",
}  # fmt: skip
_ADDRESS_BYTES = {1: 4, 4: 16}


class Refused(Exception):
    """The proxy said no; the text says why."""


def connect(sock: socket.socket, host: str, port: int, user: str | None = None, password: str | None = None) -> None:
    """Ask a SOCKS5 proxy on an open socket for a connection to `host`, which the proxy resolves. Raises Refused, OSError."""
    sock.sendall(b"\x05\x02\x00\x02" if user else b"\x05\x01\x00")
    version, method = _exactly(sock, 2)
    if version != 5:
        raise Refused("it does not speak SOCKS5")
    if method == 2 and user:
        login = [part.encode() for part in (user, password or "")]
        sock.sendall(b"\x01" + b"".join(bytes([len(part)]) + part for part in login))
        if _exactly(sock, 2)[1] != 0:
            raise Refused("it does not accept the login")
    elif method != 0:
        raise Refused("it wants a login")
    name = host.encode("idna")
    sock.sendall(b"\x05\x01\x00\x03" + bytes([len(name)]) + name + port.to_bytes(2, "big"))
    _, reply, _, kind = _exactly(sock, 4)
    if reply:
        raise Refused(_FAILURES.get(reply, f"code {reply}"))
    length = _ADDRESS_BYTES.get(kind) or _exactly(sock, 1)[0]
    _exactly(sock, length + 2)


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = sock.recv(count - len(data))
        if not part:
            raise Refused("it closed the connection")
        data += part
    return data
