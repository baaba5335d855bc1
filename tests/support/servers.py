"""Loopback servers that behave as a hub, a proxy or a broken network does."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Reply = tuple[int, dict[str, str]]


class Hub:
    """Answers HEAD by a table of paths, 404 EntryNotFound otherwise; keeps the requests that it saw."""

    def __init__(self, replies: dict[str, Reply], certificate: tuple[Path, Path] | None = None) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                hub.requests.append((self.path, dict(self.headers.items())))
                status, headers = replies.get(self.path, (404, {"X-Error-Code": "EntryNotFound"}))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        scheme = "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.server.socket = context.wrap_socket(
                self.server.socket, server_side=True, do_handshake_on_connect=False
            )
            scheme = "https"
        self.port = self.server.server_address[1]
        self.url = f"{scheme}://localhost:{self.port}"


@contextmanager
def hub(replies: dict[str, Reply] | None = None, certificate: tuple[Path, Path] | None = None) -> Iterator[Hub]:
    serving = Hub(replies or {}, certificate)
    thread = threading.Thread(target=serving.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield serving
    finally:
        serving.server.shutdown()
        serving.server.server_close()


def _join(one: socket.socket, other: socket.socket) -> None:
    """Pass bytes between two connections until either ends."""

    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass  # the other side hung up
        finally:
            sink.close()

    for pair in ((one, other), (other, one)):
        threading.Thread(target=pump, args=pair, daemon=True).start()


@contextmanager
def proxy(status: str = "200 Connection established") -> Iterator[tuple[str, list[str]]]:
    """A CONNECT proxy: (its address, the request heads that it saw). With another status it refuses."""
    heads: list[str] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return  # closed: the test is over
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(4096)
            heads.append(head.decode())
            client.sendall(f"HTTP/1.1 {status}\r\n\r\n".encode())
            if not status.startswith("200"):
                client.close()
                continue
            host, _, port = head.split()[1].decode().partition(":")
            upstream = socket.create_connection((host, int(port)))
            _join(client, upstream)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", heads
    finally:
        listener.close()


@contextmanager
def socks(password: str | None = None, reply: int = 0) -> Iterator[str]:
    """A SOCKS5 proxy. With a password it wants the login `user`; a `reply` other than 0 refuses every connection."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        try:
            client, _ = listener.accept()
        except OSError:
            return  # closed: the test is over
        methods = client.recv(2 + 255)[2:]
        if password is not None:
            if 2 not in methods:
                client.sendall(b"\x05\xff")
                client.close()
                return
            client.sendall(b"\x05\x02")
            right = client.recv(512) == b"\x01\x04user" + bytes([len(password)]) + password.encode()
            client.sendall(b"\x01" + (b"\x00" if right else b"\x01"))
        else:
            client.sendall(b"\x05\x00")
        request = client.recv(512)
        if not request:
            return  # a client that was refused has gone
        client.sendall(b"\x05" + bytes([reply]) + b"\x00\x01" + bytes(6))
        if reply:
            client.close()
            return
        length = request[4]
        host, port = request[5 : 5 + length].decode(), int.from_bytes(request[5 + length : 7 + length], "big")
        upstream = socket.create_connection((host, port))
        _join(client, upstream)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()


@contextmanager
def silent() -> Iterator[str]:
    """A server that accepts connections and never says a word."""
    listener = socket.create_server(("127.0.0.1", 0))
    try:
        yield f"localhost:{listener.getsockname()[1]}"
    finally:
        listener.close()


def closed_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def certificate(folder: Path, expired: bool = False) -> tuple[Path, Path]:
    """A self-signed certificate for localhost and its key, made by openssl; valid today, or only in January 2020."""
    made, key, request, database = (
        folder / name for name in ("localhost.pem", "localhost.key", "localhost.csr", "index")
    )
    config = folder / "ca.cnf"
    config.write_text(
        f"[ca]\ndefault_ca=d\n[d]\ndatabase={database}\nnew_certs_dir={folder}\nserial={folder}/serial\n"
        "default_md=sha256\npolicy=p\nx509_extensions=e\n[p]\ncommonName=supplied\n[e]\n"
        "subjectAltName=DNS:localhost\nbasicConstraints=critical,CA:TRUE\n[req]\ndistinguished_name=n\n[n]\n"
    )
    database.touch()
    (folder / "serial").write_text("01\n")
    dates = ["-startdate", "20200101000000Z", "-enddate", "20200102000000Z"] if expired else ["-days", "2"]
    for command in (
        ["req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-subj", "/CN=localhost", "-out", request],
        ["ca", "-selfsign", "-batch", "-keyfile", key, "-in", request, "-out", made, "-notext", *dates],
    ):
        called = ["openssl", command[0], "-config", str(config), *map(str, command[1:])]
        subprocess.run(called, check=True, capture_output=True, timeout=60)
    return made, key
