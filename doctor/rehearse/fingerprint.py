"""What the outcome of a rehearsal depends on, as one short name: the same name, the same outcome."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import doctor
from doctor.facts import Facts
from doctor.target import Target

FORMAT = 2  # raise it when rehearsals change what they do
_ENDS = 1 << 20  # bytes at either end of a data file that are hashed; all of it would take minutes
_SMALL = 64 << 20  # files up to this size are hashed whole
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".msgpack", ".h5", ".onnx")
_VARIABLES = ("NPROC_PER_NODE", "NNODES", "NODE_RANK", "FORCE_TORCHRUN", "CUDA_VISIBLE_DEVICES", "DISABLE_VERSION_CHECK",
              "USE_MODELSCOPE_HUB", "PYTHONPATH", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "LOCAL_SIZE")  # fmt: skip


def of(target: Target, facts: Facts) -> str:
    """24 hexadecimal digits. A file that cannot be read counts as absent."""
    digest = hashlib.sha256()
    for name, value in parts(target, facts):
        digest.update(json.dumps([name, value], sort_keys=True, default=str).encode())
    return digest.hexdigest()[:24]


def parts(target: Target, facts: Facts) -> Iterator[tuple[str, Any]]:
    """(name, value) of everything that counts."""
    yield "format", [FORMAT, doctor.__version__]
    yield "recipe", [_content(target.recipe), dict(sorted(target.overrides.items()))]
    named = facts.get("recipe.values", {}).get("deepspeed")
    if isinstance(named, str):
        yield "deepspeed", _content(target.workdir / named)
    info = facts.get("dataset.info_path")
    if info:
        yield "dataset_info", _content(target.workdir / info)
    for name, entry in sorted((facts.get("dataset.entries") or {}).items()):
        for file in entry["files"]:
            yield f"data {name}", [file["path"], _ends(Path(file["path"]))]
    folder = facts.get("model.path") or facts.get("model.cached_path")
    yield "model", [facts.get("model.name"), sorted(_model(Path(folder))) if folder else None]
    yield "packages", facts.get("packages.versions")
    yield "python", [str(target.python), target.version, facts.get("llamafactory.root")]
    yield "machine", [facts.get("gpu.count"), [d.get("name") for d in facts.get("gpu.devices") or []], os.cpu_count()]
    yield "launch", {name: target.environ[name] for name in _VARIABLES if name in target.environ}


def _content(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _ends(path: Path) -> list[Any] | None:
    """Size, time of change, and a hash of the first and last bytes."""
    try:
        with path.open("rb") as file:
            state = os.fstat(file.fileno())
            head = file.read(_ENDS)
            file.seek(max(0, state.st_size - _ENDS))
            return [state.st_size, state.st_mtime_ns, hashlib.sha256(head + file.read()).hexdigest()]
    except OSError:
        return None


def _model(folder: Path) -> Iterator[tuple[str, Any]]:
    """Configuration, tokenizer and code by content, weights by size: a rehearsal does not read them."""
    try:
        found = [item for item in os.scandir(folder) if item.is_file()]
    except OSError:
        return
    for item in found:
        size = item.stat().st_size
        small = size <= _SMALL and not item.name.endswith(_WEIGHTS)
        yield item.name, _content(Path(item.path)) if small else size
