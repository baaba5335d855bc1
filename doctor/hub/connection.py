"""One HTTPS question, stage by stage: name, connection, proxy, TLS, HTTP — so that a failure says where it happened.

Written on socket, ssl and http.client, because a client library hides the stage in the cause of an exception and takes
longer to import than a healthy hub takes to answer.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import certifi
import msgspec

from doctor import redact
from doctor.deadline import within
from doctor.hub import socks

Resolver = Callable[[str, int], list[Any]]

RESOLVE_SECONDS = 1.5
CONNECT_SECONDS = 1.5
TLS_SECONDS = 1.5
ANSWER_SECONDS = 2.0
_MAX_HEADER = 65536  # bytes of a proxy's reply to CONNECT


class Answer(msgspec.Struct, frozen=True):
    """What came back. `stage` is `answer` when HTTP answered, else where it stopped: settings, dns, connect, proxy, tls,
    http. `error` says why; `certificate` is set when TLS failed by verification; `date` is the server's clock."""

    stage: str
    error: str | None = None
    status: int | None = None
    code: str | None = None
    message: str | None = None
    location: str | None = None
    commit: bool = False  # X-Repo-Commit was there: without it huggingface_hub does not take the answer for a hub's
    date: str | None = None
    certificate: bool = False
    seconds: float = 0.0

    @property
    def answered(self) -> bool:
        return self.stage == "answer"


class _Stopped(Exception):
    def __init__(self, stage: str, error: str, certificate: bool = False) -> None:
        super().__init__(error)
        self.stage = stage
        self.error = error
        self.certificate = certificate


def resolve(host: str, port: int) -> list[Any]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


def ask(
    url: str,
    token: str | None = None,
    proxy: str | None = None,
    ca: str | None = None,
    resolver: Resolver = resolve,
    seconds: float = RESOLVE_SECONDS + CONNECT_SECONDS + TLS_SECONDS + ANSWER_SECONDS,
) -> Answer:
    """HEAD `url` within `seconds`, also when the name service hangs. Never raises for the network's sake."""
    started = time.monotonic()
    deadline = started + seconds

    def left(limit: float) -> float:
        return max(0.05, min(limit, deadline - time.monotonic()))

    sock: socket.socket | None = None
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise _Stopped("settings", f"{redact.text(url)} is not an http or https address")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        via = urlsplit(proxy) if proxy else None
        by_socks = via is not None and via.scheme in ("socks5", "socks5h")
        if via and not by_socks and via.scheme != "http":
            raise _Stopped("proxy", f"{via.scheme} proxies cannot be tried here")
        target = (via.hostname or "", via.port or (1080 if by_socks else 80)) if via else (parts.hostname, port)
        sock = _connected(target, resolver, left, bool(via))
        if via and by_socks:
            _through_socks(sock, parts.hostname, port, via, left(ANSWER_SECONDS))
        elif via and parts.scheme == "https":
            _tunnel(sock, parts.hostname, port, via, left(ANSWER_SECONDS))
        if parts.scheme == "https":
            sock = _secured(sock, parts.hostname, ca, left(TLS_SECONDS))
        by_http = via is not None and not by_socks and parts.scheme == "http"
        path = url if by_http else (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        head = _head(sock, parts.netloc.rpartition("@")[2], path, token, left(ANSWER_SECONDS))
        return msgspec.structs.replace(head, seconds=round(time.monotonic() - started, 3))
    except ValueError as error:  # a port that is no number, a host with blanks
        return Answer("settings", f"{redact.text(url)} cannot be used: {error}")
    except _Stopped as stop:
        spent = round(time.monotonic() - started, 3)
        return Answer(stop.stage, redact.text(stop.error), certificate=stop.certificate, seconds=spent)
    finally:
        if sock is not None:
            sock.close()


def _connected(
    address: tuple[str, int], resolver: Resolver, left: Callable[[float], float], is_proxy: bool
) -> socket.socket:
    host, port = address
    who = f"proxy {host}:{port}" if is_proxy else f"{host}:{port}"
    try:
        found = within(left(RESOLVE_SECONDS), lambda: resolver(host, port))
    except TimeoutError:
        raise _Stopped("proxy" if is_proxy else "dns", f"the name service gave no answer for {host}") from None
    except (OSError, UnicodeError) as error:
        raise _Stopped("proxy" if is_proxy else "dns", f"{host} has no address ({_why(error)})") from None
    reasons = []
    for family, kind, proto, _, where in found[:4]:
        sock = socket.socket(family, kind, proto)
        sock.settimeout(left(CONNECT_SECONDS / min(len(found), 2)))
        try:
            sock.connect(where)
            return sock
        except OSError as error:
            sock.close()
            reasons.append(_why(error))
    raise _Stopped("proxy" if is_proxy else "connect", f"no connection to {who} ({'; '.join(dict.fromkeys(reasons))})")


def _tunnel(sock: socket.socket, host: str, port: int, via: Any, seconds: float) -> None:
    """CONNECT through the proxy (RFC 9110, 9.3.6)."""
    lines = [f"CONNECT {host}:{port} HTTP/1.1", f"Host: {host}:{port}"]
    if via.username:
        login = f"{unquote(via.username)}:{unquote(via.password or '')}".encode()
        lines.append(f"Proxy-Authorization: Basic {b64encode(login).decode()}")
    sock.settimeout(seconds)
    try:
        sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        reply = b""
        while b"\r\n\r\n" not in reply and len(reply) < _MAX_HEADER:
            part = sock.recv(4096)
            if not part:
                break
            reply += part
    except OSError as error:
        raise _Stopped("proxy", f"proxy {via.hostname}:{via.port} did not answer ({_why(error)})") from None
    words = reply.split(b"\r\n")[0].decode("latin-1").split(" ", 2)
    if len(words) < 2 or words[1] != "200":
        said = " ".join(words[1:]) or "it closed the connection"
        raise _Stopped("proxy", f"proxy {via.hostname}:{via.port} refused the connection to {host}: {said}")


def _through_socks(sock: socket.socket, host: str, port: int, via: Any, seconds: float) -> None:
    sock.settimeout(seconds)
    try:
        login = unquote(via.username or "") or None, unquote(via.password or "")
        socks.connect(sock, host, port, *login)
    except socks.Refused as error:
        raise _Stopped("proxy", f"proxy {via.hostname}:{via.port} refused the connection to {host}: {error}") from None
    except OSError as error:
        raise _Stopped("proxy", f"proxy {via.hostname}:{via.port} did not answer ({_why(error)})") from None


def _secured(sock: socket.socket, host: str, ca: str | None, seconds: float) -> ssl.SSLSocket:
    trusted = ca or certifi.where()  # requests and httpx trust certifi's list, not the system's, unless told otherwise
    folder = Path(trusted).is_dir()
    try:
        context = ssl.create_default_context(cafile=None if folder else trusted, capath=trusted if folder else None)
    except (OSError, ssl.SSLError) as error:
        raise _Stopped("tls", f"the certificate bundle {ca} cannot be read ({_why(error)})") from None
    sock.settimeout(seconds)
    try:
        return context.wrap_socket(sock, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        raise _Stopped("tls", f"the certificate of {host} is not accepted: {error.verify_message}", True) from None
    except (ssl.SSLError, OSError) as error:
        raise _Stopped("tls", f"no TLS with {host} ({_why(error)})") from None


def _head(sock: socket.socket, host: str, path: str, token: str | None, seconds: float) -> Answer:
    connection = http.client.HTTPConnection(host)
    sock.settimeout(seconds)
    connection.sock = sock
    headers = {"Host": host, "User-Agent": "skyt1-doctor", "Accept-Encoding": "identity"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    try:
        connection.request("HEAD", path, headers=headers)
        reply = connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        raise _Stopped("http", f"{host} did not answer the request ({_why(error)})") from None
    said = reply.getheader("X-Error-Message")
    return Answer(
        "answer",
        status=reply.status,
        code=reply.getheader("X-Error-Code"),
        message=redact.text(said)[:200] if said else None,
        location=reply.getheader("Location"),
        commit=reply.getheader("X-Repo-Commit") is not None,
        date=reply.getheader("Date"),
    )


def _why(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())
