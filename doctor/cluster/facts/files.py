"""The files of the run as this node sees them: there or not, and a digest that tells whether two nodes see the same.

Small files are hashed whole; of large ones the size and a few stretches, so that a model of many shards costs some
megabytes of reading on a shared file system and not its whole size.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from doctor.deadline import within
from doctor.facts import Facts
from doctor.probes import Judgement
from doctor.target import Target

ID = "files"
AFTER: tuple[str, ...] = ("recipe", "dataset", "deepspeed", "model")

WHOLE = 1 << 20  # bytes; files up to here are hashed whole
STRETCHES = 4
STRETCH = 16 << 10  # bytes of each
SECONDS = 4.0  # for one file; a dead mount must not cost the other facts
MOST = 400  # files of a model or a data folder


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    """`files.seen`: role -> {path: {size, digest} | {error}}; `files.mounts`: role -> {path, type, source}."""
    seen = {
        role: {target.shown(path): _described(path) for path in paths[:MOST]}
        for role, paths in _roles(target, facts).items()
        if paths
    }
    output = facts["recipe.values"].get("output_dir")
    places = {"workdir": target.workdir, "model": facts.get("model.path"), "output_dir": output}
    mounted = _mounts()
    return {
        "files.seen": seen,
        "files.mounts": {
            role: mount_of(target.workdir / os.path.expanduser(str(place)), mounted)
            for role, place in places.items()
            if place
        },
    }


def _roles(target: Target, facts: Facts) -> dict[str, list[Path]]:
    config = facts.get("deepspeed.config_path")
    info = facts.get("dataset.info_path")
    model = facts.get("model.path")
    entries = facts.get("dataset.entries") or {}
    data = [
        target.workdir / str(info or "data").rpartition("/")[0] / str(entry["source"])
        for entry in entries.values()
        if entry.get("load_from") == "file"
    ]
    return {
        "recipe": [target.recipe],
        "dataset_info.json": [target.workdir / info] if info else [],
        "DeepSpeed configuration": [target.workdir / config] if config and not config.startswith("(") else [],
        "data": [file for path in data for file in _inside(path)],
        "model": [Path(model) / name for name in facts.get("model.files") or ()] if model else [],
    }


def _inside(path: Path) -> list[Path]:
    try:
        return sorted(item for item in path.iterdir() if item.is_file()) if path.is_dir() else [path]
    except OSError:
        return [path]


def _described(path: Path) -> dict[str, Any]:
    try:
        return within(SECONDS, lambda: digest(path))
    except TimeoutError:
        return {"error": f"no answer within {SECONDS:g} s"}
    except OSError as error:
        return {"error": error.strerror or str(error)}


def digest(path: Path) -> dict[str, Any]:
    """`{size, digest}`. Raises OSError."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        hashed = hashlib.sha256()
        if size <= WHOLE:
            hashed.update(file.read())
        else:
            for number in range(STRETCHES):
                file.seek((size - STRETCH) * number // (STRETCHES - 1))
                hashed.update(file.read(STRETCH))
    return {"size": size, "digest": hashed.hexdigest()[:16]}


def _mounts() -> list[tuple[str, str, str]]:
    """(mount point, type, source) from /proc/self/mountinfo (man 5 proc); the later hides the earlier."""
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        left, _, right = line.partition(" - ")
        words, more = left.split(" "), right.split(" ")
        if len(words) > 4 and len(more) > 1:
            found.append((words[4].replace("\\040", " "), more[0], more[1]))
    return found


def mount_of(path: Path, mounts: list[tuple[str, str, str]]) -> dict[str, Any]:
    """The file system that `path` lies or will lie on: {path, type, source}, type None where it cannot be told."""
    best: tuple[str, str, str] | None = None
    text = os.path.abspath(path)
    for point, kind, source in mounts:
        inside = point == "/" or text == point or text.startswith(point + "/")
        if inside and (best is None or len(point) >= len(best[0])):
            best = (point, kind, source)
    return {"path": str(path), "type": best[1] if best else None, "source": best[2] if best else None}


JUDGEMENTS: tuple[Judgement, ...] = ()
