"""Hashes of the weights against a hub on the loopback, and against what a download noted."""

import errno
import hashlib
import json
import os
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec
import pytest

from doctor.deep import hash_child, hashing, hub_files
from doctor.facts import Facts, UnknownFact
from doctor.probes import model, recipe, weights
from tests.doctor.recipe import standin

TOKEN = "hf_" + "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF3h"
SHARDS = {"model-00001-of-00002.safetensors": "a.weight", "model-00002-of-00002.safetensors": "b.weight"}


@contextmanager
def listing(body, status=200, seen=None):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if seen is not None:
                seen.append((self.path, self.headers.get("authorization")))
            raw = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()


@pytest.fixture
def folder(tmp_path):
    made = standin.model(tmp_path / "m", {**standin.QWEN2, "_name_or_path": "org/toy"})
    (made / "model.safetensors").unlink()
    for name, tensor in SHARDS.items():
        standin.safetensors(made / name, {tensor: [4, 4]})
    index = {"metadata": {}, "weight_map": {tensor: name for name, tensor in SHARDS.items()}}
    (made / "model.safetensors.index.json").write_text(json.dumps(index))
    return made


def hashes(folder):
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in SHARDS}


def damage(folder, name):
    raw = bytearray((folder / name).read_bytes())
    raw[-1] ^= 1
    (folder / name).write_bytes(bytes(raw))


def judged(tmp_path, offline=False, budget=20.0, **environ):
    made = standin.target(tmp_path, "model_name_or_path: m\n", **environ)
    made = msgspec.structs.replace(made, deep=True, offline=offline, budget=budget)
    facts = Facts()
    for probe in (recipe, model, weights):
        facts = facts.merged(probe.collect(made, facts))
    return facts, list(weights.weights_as_on_hub(facts)) if facts.known("weights.hashes") else []


def hub_says(found):
    return [{"path": name, "size": 1, "lfs": {"oid": oid}} for name, oid in found.items()] + [{"path": "config.json"}]


def test_whole_files_and_one_with_a_flipped_bit(tmp_path, folder):
    seen = []
    with listing(hub_says(hashes(folder)), seen=seen) as url:
        environ = {"HF_ENDPOINT": url, "HF_TOKEN": TOKEN}
        facts, found = judged(tmp_path, **environ)
        assert facts["weights.origin"] == "hub"
        assert found == []
        damage(folder, "model-00002-of-00002.safetensors")
        found = judged(tmp_path, **environ)[1]
    assert seen[0] == ("/api/models/org/toy/tree/main?recursive=true", f"Bearer {TOKEN}")
    # half of two files differs: it may as well be another model of that name
    assert found == []


def test_one_of_many_that_differs_is_damaged(tmp_path, folder):
    said = hashes(folder)
    damage(folder, "model-00001-of-00002.safetensors")
    for name in said:
        note = folder / ".cache" / "huggingface" / "download" / f"{name}.metadata"
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(f"{'c' * 40}\n{said[name]}\n1700000000.0\n")
    facts, found = judged(tmp_path, offline=True)
    assert facts["weights.origin"] == "download"
    assert [f.cause for f in found] == ["model-corrupt-safetensors"]
    assert found[0].details["files"] == ["model-00001-of-00002.safetensors"]
    assert found[0].details["repo"] == "org/toy"


def test_the_blobs_of_the_cache_are_named_by_their_hash(tmp_path, folder):
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    for name, digest in hashes(folder).items():
        (folder / name).rename(blobs / digest)
        (folder / name).symlink_to(blobs / digest)
    assert hub_files.of_cache(folder, SHARDS) == {name: (folder / name).resolve().name for name in SHARDS}
    assert judged(tmp_path, offline=True)[1] == []


def test_a_fine_tuned_model_is_not_damaged(tmp_path, folder):
    with listing(hub_says(dict.fromkeys(SHARDS, "f" * 64))) as url:
        facts, found = judged(tmp_path, HF_ENDPOINT=url)
    assert facts.known("weights.hashes")
    assert found == []


@pytest.mark.parametrize(
    ("body", "status"), [(b"<html>", 200), ({"error": "x"}, 200), ([], 200), ([], 401), ([[1]], 200)]
)
def test_a_hub_that_gives_no_listing_is_unknown(tmp_path, folder, body, status):
    with listing(body, status) as url:
        facts, _ = judged(tmp_path, HF_ENDPOINT=url)
    assert facts.why_unknown("weights.hashes")


def test_offline_asks_nobody(tmp_path, folder):
    seen = []
    with listing([], seen=seen) as url:
        facts, _ = judged(tmp_path, offline=True, HF_ENDPOINT=url)
    assert seen == []
    assert facts.why_unknown("weights.hashes") == "the hub was not asked"


def test_what_was_not_read_in_time_is_said(tmp_path):
    path = tmp_path / "big"
    path.write_bytes(b"x" * (1 << 20))
    assert hashing.every([path, tmp_path / "absent"], 0.0, 2) == {path: None, tmp_path / "absent": None}
    with pytest.raises(UnknownFact, match="1 of 1 files not read"):
        list(weights.all_read(Facts({"weights.hashes": {"big": None}})))


def test_every_file_has_its_hash_also_after_one_that_ends_the_child(tmp_path):
    """A mapped file that becomes shorter ends the process that maps it, and nothing else."""
    contents = {"模型 1": b"x" * 100_001, "empty": b"", "three": bytes(3 << 20)}
    for name, raw in contents.items():
        (tmp_path / name).write_bytes(raw)
    shrinking = tmp_path / "shrinking"
    with shrinking.open("wb") as file:
        file.truncate(1 << 30)
    timer = threading.Timer(0.2, os.truncate, (shrinking, 0))
    timer.start()
    found = hashing.every([shrinking, *(tmp_path / name for name in contents), tmp_path / "absent"], float("inf"), 1)
    timer.join()
    assert found.pop(shrinking) in (None, hashlib.sha256().hexdigest())
    assert found.pop(tmp_path / "absent") is None
    assert {path.name: digest for path, digest in found.items()} == {
        name: hashlib.sha256(raw).hexdigest() for name, raw in contents.items()
    }


def test_a_hash_that_takes_longer_than_the_deadline_is_none(tmp_path):
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(8 << 30)
    begun = time.monotonic()
    assert hashing.every([path], begun + 0.3, 1) == {path: None}
    assert time.monotonic() - begun < 2.0


def test_a_file_that_cannot_be_mapped_is_read(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"y" * 300_000)

    def refused(*arguments, **options):
        raise OSError(errno.ENODEV, "No such device")

    monkeypatch.setattr(hash_child.mmap, "mmap", refused)
    assert hash_child.sha256(str(path)) == hashlib.sha256(path.read_bytes()).hexdigest()
