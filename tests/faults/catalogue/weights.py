"""Faults of the weights in a model folder: one file or shards with an index."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.faults.catalogue.data import POINTER
from tests.faults.catalogue.model import WHOLE, file, pointer
from tests.faults.catalogue.tensors import read_tensors, write_tensors
from tests.faults.fault import Fault, Inject
from tests.faults.workspace import Workspace


def sharded(place: Workspace) -> None:
    """The weights as two shards with an index; every tensor of layer 1 is in the second."""
    header, body = read_tensors(place.model / "model.safetensors")
    parts: dict[str, dict[str, bytes]] = {
        "model-00001-of-00002.safetensors": {},
        "model-00002-of-00002.safetensors": {},
    }
    where = {}
    for name in header:
        shard = list(parts)[".layers.1." in name]
        parts[shard][name] = body[name]
        where[name] = shard
    for shard, tensors in parts.items():
        write_tensors(place.model / shard, {name: header[name] for name in tensors}, tensors)
    size = sum(len(data) for data in body.values())
    (place.model / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": size}, "weight_map": where})
    )
    (place.model / "model.safetensors").unlink()


def half_fetched(place: Workspace) -> None:
    place.keep_a_copy()
    path = place.model / "model.safetensors"
    whole = path.read_bytes()
    content = 8 + int.from_bytes(whole[:8], "little")
    path.write_bytes(whole[:content] + bytes(len(whole) - content))
    path.with_name("model.safetensors.aria2").write_bytes(b"\0\1")


def of_shards(change: Callable[[Path], None]) -> Inject:
    def inject(place: Workspace) -> None:
        sharded(place)
        place.keep_a_copy()
        change(place.model)

    return inject


def index_of_missing_tensor(model: Path) -> None:
    path = model / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["model.layers.2.mlp.up_proj.weight"] = "model-00003-of-00003.safetensors"
    path.write_text(json.dumps(index))


def format_only(name: str) -> Inject:
    """The weights in a format that transformers does not load."""

    def inject(place: Workspace) -> None:
        place.keep_a_copy()
        (place.model / "model.safetensors").rename(place.model / name)

    return inject


def download_broken_off(place: Workspace) -> None:
    place.keep_a_copy()
    weights = place.model / "model.safetensors"
    weights.rename(place.model / "model.safetensors.incomplete")
    (place.model / "model.safetensors.aria2").write_bytes(b"\0")


FAULTS = [
    Fault(
        "weights-pointer",
        "model-lfs-pointer",
        "the weights are a git-lfs pointer",
        pointer("model.safetensors"),
        arguments=WHOLE,
    ),
    Fault(
        "weights-truncated",
        "model-corrupt-safetensors",
        "the end of the weights is missing",
        file("model.safetensors", lambda b: b[:200_000]),
        "current full",
        arguments=WHOLE,
    ),
    Fault(
        "weights-header-broken",
        "model-corrupt-safetensors",
        "the header of the weights is damaged",
        file("model.safetensors", lambda b: b[:8] + b"\0" * 40 + b[48:]),
        arguments=WHOLE,
    ),
    Fault(
        "weights-html",
        "model-corrupt-safetensors",
        "a web page saved as weights",
        file("model.safetensors", lambda b: b"<!DOCTYPE html><html><title>Login</title></html>"),
        "current lora",
        arguments=WHOLE,
    ),
    Fault(
        "weights-zeros",
        "model-corrupt-safetensors",
        "a file of zeros, as a full disk leaves it",
        file("model.safetensors", lambda b: bytes(len(b))),
        "sky-t1 lora",
        arguments=WHOLE,
    ),
    Fault(
        "weights-half-fetched",
        "model-incomplete-download",
        "aria2's control file, pieces not fetched",
        half_fetched,
        arguments=WHOLE,
        shows=r"'grad_norm': 0\.0\b",
    ),
    Fault(
        "weights-missing",
        "model-shards-missing",
        "no weights",
        file("model.safetensors", lambda b: None),
        arguments=WHOLE,
    ),
    Fault(
        "weights-gguf",
        "model-not-hf-format",
        "only a .gguf",
        format_only("toy-q4_k_m.gguf"),
        "current full",
        arguments=WHOLE,
    ),
    Fault(
        "weights-consolidated",
        "model-not-hf-format",
        "only a consolidated.00.pth",
        format_only("consolidated.00.pth"),
        arguments=WHOLE,
    ),
    Fault(
        "download-broken-off", "model-shards-missing", "an unfinished download", download_broken_off, arguments=WHOLE
    ),
    Fault(
        "shard-missing",
        "model-shards-missing",
        "the second shard is not there",
        of_shards(lambda model: (model / "model-00002-of-00002.safetensors").unlink()),
        arguments=WHOLE,
    ),
    Fault(
        "shard-truncated",
        "model-corrupt-safetensors",
        "the second shard is cut",
        of_shards(
            lambda model: (model / "model-00002-of-00002.safetensors").write_bytes(
                (model / "model-00002-of-00002.safetensors").read_bytes()[:90_000]
            )
        ),
        "current full",
        arguments=WHOLE,
    ),
    Fault(
        "shard-pointer",
        "model-lfs-pointer",
        "the second shard is a git-lfs pointer",
        of_shards(lambda model: (model / "model-00002-of-00002.safetensors").write_text(POINTER) and None),
        "sky-t1 lora",
        arguments=WHOLE,
    ),
    Fault(
        "index-missing",
        "model-shards-missing",
        "two shards and no index",
        of_shards(lambda model: (model / "model.safetensors.index.json").unlink()),
        arguments=WHOLE,
    ),
    Fault(
        "index-names-more",
        "model-shards-missing",
        "the index names a shard of another download",
        of_shards(index_of_missing_tensor),
        "current lora",
        arguments=WHOLE,
    ),
    Fault(
        "index-broken",
        "model-corrupt-safetensors",
        "the index is cut",
        of_shards(lambda model: (model / "model.safetensors.index.json").write_text('{"metadata": {') and None),
        arguments=WHOLE,
    ),
]
