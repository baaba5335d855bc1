"""A loopback server that speaks enough of the hubs' APIs: listing, HEAD with ETag, ranges, ModelScope."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

WEIGHTS = bytes(range(256)) * 4096
FILES = {"config.json": b'{"model_type": "qwen2"}', "model.safetensors": WEIGHTS, "pytorch_model.bin": b"old format"}
COMMIT = "c" * 40


@dataclass
class Hub:
    """A hub with one model toy/model. `cut`: bodies end after so many bytes, so many times."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=lambda: dict(FILES))
    cut: int = 0
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    damage: bool = False


@pytest.fixture
def server() -> Iterator[Hub]:
    state = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            return

        def answer(self, body: bytes, status: int = 200, **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                if state.cut and len(body) > 100_000:
                    state.cut -= 1
                    self.wfile.write(body[:100_000])
                    self.close_connection = True
                else:
                    self.wfile.write(body)

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            state.asked.append((self.command, self.path, self.headers.get("Range")))
            if parts.path.startswith(f"/api/models/toy/model/tree/{COMMIT}"):
                self.answer(json.dumps(self.tree()).encode())
            elif parts.path.startswith("/api/models/toy/model"):
                self.answer(json.dumps({"id": "toy/model", "sha": COMMIT, "siblings": self.siblings()}).encode())
            elif parts.path.startswith(f"/toy/model/resolve/{COMMIT}/"):
                self.file(parts.path.rsplit("/", 1)[1])
            elif parts.path == "/api/v1/models/toy/model/repo/files":
                listed = [
                    {"Path": n, "Size": len(b), "Sha256": _sha(b), "Type": "blob"} for n, b in state.files.items()
                ]
                self.answer(json.dumps({"Data": {"Files": listed}}).encode())
            elif parts.path == "/api/v1/models/toy/model/repo":
                self.file(parse_qs(parts.query)["FilePath"][0])
            else:
                self.answer(b"{}", 404)

        def siblings(self) -> list[dict[str, object]]:
            return [{"rfilename": n, "size": len(b), "lfs": _lfs(b)} for n, b in state.files.items()]

        def tree(self) -> list[dict[str, object]]:
            return [
                {"type": "file", "path": n, "size": len(b), "oid": "0" * 40, "lfs": _lfs(b)}
                for n, b in state.files.items()
            ]

        def file(self, name: str) -> None:
            body = state.files[name]
            etag = _sha(body)
            headers = {"ETag": f'"{etag}"', "X_Repo_Commit": COMMIT, "Accept_Ranges": "bytes"}
            if state.damage and len(body) > 1000:
                body = b"?" + body[1:]
            wanted = self.headers.get("Range")
            if wanted:
                start = int(wanted.split("=")[1].split("-")[0])
                headers["Content_Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
                self.answer(body[start:], 206, **headers)
            else:
                self.answer(body, 200, **headers)

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{listener.server_port}"
    yield state
    listener.shutdown()
    listener.server_close()


def _lfs(data: bytes) -> dict[str, object] | None:
    if len(data) < 1000:
        return None
    return {"oid": _sha(data), "sha256": _sha(data), "size": len(data), "pointerSize": 130}


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
