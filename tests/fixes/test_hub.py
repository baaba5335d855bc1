"""Downloads from a loopback server that speaks enough of the hubs' APIs: listing, HEAD with ETag, ranges, ModelScope."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from doctor.facts import Facts
from fixes import history, hub
from fixes.apply import apply_plan
from fixes.errors import Refused
from fixes.plan import make_plan
from tests.fixes.worlds import World, fix, healed, set_recipe, snapshot

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
    thread = threading.Thread(target=listener.serve_forever, daemon=True)
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


def download(world: World, environ: dict[str, str]) -> tuple[object, ...]:
    if not world.findings:
        action = {"kind": "download-model", "repo": "toy/model", "to": "models/toy"}
        world.cause("absent", fix("download", action, set_recipe(model_name_or_path="models/toy")))
    clean = {k: v for k, v in world.target.environ.items() if not k.startswith(("HF_", "USE_MODELSCOPE", "MODELSCOPE"))}
    target = msgspec.structs.replace(world.target, environ={**clean, **environ})
    return apply_plan(world.plan(), target, Facts(), healed).outcomes


@pytest.mark.parametrize("modelscope", [False, True])
def test_download_then_undo(world: World, server: Hub, modelscope: bool) -> None:
    before = snapshot(world.workdir)
    environ = {"HF_ENDPOINT": server.url, "MODELSCOPE_DOMAIN": server.url}
    (outcome,) = download(world, {**environ, "USE_MODELSCOPE_HUB": "1"} if modelscope else environ)
    assert outcome.outcome == "verified", outcome  # type: ignore[attr-defined]
    place = world.workdir / "models" / "toy"
    assert {p.name: p.read_bytes() for p in place.iterdir()} == {
        "config.json": FILES["config.json"],
        "model.safetensors": WEIGHTS,
    }
    assert "model_name_or_path: models/toy" in world.recipe.read_text()
    history.undo(world.workdir)
    after = {path: kind for path, kind in snapshot(world.workdir).items() if ".skyt1-doctor-download" not in path}
    assert after.pop(str(world.workdir / "models")) == "directory"  # holds what was fetched, for the next time
    assert after == before
    asked = len([a for a in server.asked if a[0] == "GET" and "model.safetensors" in a[1]])
    download(world, environ)
    assert (place / "model.safetensors").read_bytes() == WEIGHTS
    assert len([a for a in server.asked if a[0] == "GET" and "model.safetensors" in a[1]]) == asked


def test_only_what_is_missing_or_damaged_is_fetched(world: World, server: Hub) -> None:
    place = world.workdir / "models" / "toy"
    place.mkdir(parents=True)
    (place / "config.json").write_bytes(FILES["config.json"])
    (place / "model.safetensors").write_bytes(WEIGHTS[:-1] + b"!")
    before = snapshot(world.workdir)
    download(world, {"HF_ENDPOINT": server.url})
    assert (place / "model.safetensors").read_bytes() == WEIGHTS
    assert not any("config.json" in path for method, path, _ in server.asked if method == "GET")
    history.undo(world.workdir)
    assert {k: v for k, v in snapshot(world.workdir).items() if ".toy.skyt1" not in k} == before


def test_a_broken_connection_is_resumed(server: Hub, tmp_path: Path) -> None:
    environ = {"HF_ENDPOINT": "http://127.0.0.1:9", "MODELSCOPE_DOMAIN": server.url}
    listing = hub.find("toy/model", environ)
    assert listing.modelscope
    server.cut = 2
    hub.fetch(listing, list(listing.files), tmp_path / "m", environ)
    assert (tmp_path / "m" / "model.safetensors").read_bytes() == WEIGHTS
    assert [r for _, path, r in server.asked if "model.safetensors" in path] == [None, "bytes=100000-", "bytes=200000-"]


def test_what_arrives_damaged_is_not_used(world: World, server: Hub) -> None:
    server.damage = True
    before = world.recipe.read_bytes()
    (outcome,) = download(world, {"HF_ENDPOINT": server.url})
    assert outcome.outcome == "rolled back"  # type: ignore[attr-defined]
    assert "arrived damaged" in (outcome.reason or "")  # type: ignore[attr-defined]
    assert not (world.workdir / "models" / "toy").exists()
    assert world.recipe.read_bytes() == before


def test_no_hub_has_it(server: Hub) -> None:
    with pytest.raises(Refused, match=r"404, not found.*give --model PATH"):
        hub.find("no/such", {"HF_ENDPOINT": server.url, "MODELSCOPE_DOMAIN": server.url})


def test_no_room(server: Hub, tmp_path: Path) -> None:
    listing = hub.find("toy/model", {"HF_ENDPOINT": server.url})
    huge = hub.RemoteFile("model.safetensors", 10**18)
    with pytest.raises(Refused, match="GB are free"):
        hub.fetch(listing, [huge], tmp_path, {})


def test_a_name_that_leaves_the_directory_is_refused(server: Hub) -> None:
    server.files["../evil"] = b"x"
    with pytest.raises(Refused, match="evil"):
        hub.find("toy/model", {"HF_ENDPOINT": server.url, "MODELSCOPE_DOMAIN": "http://127.0.0.1:9"})


def test_offline_downloads_nothing(world: World) -> None:
    world.cause("absent", fix("download", {"kind": "download-model", "repo": "toy/model", "to": "m"}))
    target = msgspec.structs.replace(world.target, offline=True)

    (outcome,) = make_plan(world.findings, Facts(), target).outcomes
    assert "not downloaded while --offline" in (outcome.reason or "")
