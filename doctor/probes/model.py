"""The model that the recipe names: local, cached or on the hub; whole or not; known to the installed transformers."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from doctor.facts import Facts, Unknown
from doctor.findings import found
from doctor.probes import Judgement
from doctor.recipe import (
    known_models,
    model_cache,
    model_files_judged,
    model_fit_judged,
    model_folder,
    model_size,
)
from doctor.target import Target

ID = "model"
AFTER: tuple[str, ...] = ("recipe",)
SOURCE = f"probe:{ID}"

_finding = partial(found, ID)

_HUB_ID = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?")
_FACTS = (
    "kind",
    "local",
    "path",
    "exists",
    "complete",
    "config",
    "parameters",
    "weights",
    "tokenizer",
    "cached",
    "cached_path",
)


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    """`model.name`, and of the folder it stands for. Hub ids are looked up in the caches of this machine only."""
    values = facts["recipe.values"]
    name = values.get("model_name_or_path")
    if not isinstance(name, str) or not name.strip():
        lacking = Unknown("the recipe names no model")
        return {"model.name": None} | {f"model.{fact}": lacking for fact in _FACTS}
    local = target.workdir / name
    is_folder = os.path.isdir(local)
    path_like = is_folder or looks_like_path(name, target.workdir)
    found: dict[str, Any] = {
        "model.name": name,
        "model.kind": "local" if is_folder else "path" if path_like else "hub",
        "model.local": is_folder,
        "model.exists": os.path.exists(local),
        "model.path": str(local) if is_folder else None,
        "model.near": None if is_folder or not path_like else near_folder(name, target.workdir, target.environ),
        "model.cached": [],
        "model.cached_path": None,
    }
    if is_folder:
        return found | _folder_facts(local, name)
    if path_like:
        return found | _absent_facts(name, "the path does not exist")
    copies = _copies(name, values, target)
    found["model.cached"] = copies
    chosen = next((c for c in copies if c["complete"]), None)
    found["model.cached_path"] = chosen["path"] if chosen else None
    best = chosen or (copies[0] if copies else None)
    if best is not None:
        return found | _folder_facts(Path(best["path"]), name)
    return found | _absent_facts(name, "the model is not on this machine")


# First parts of relative paths that nobody has as a name on a hub.
_CUSTOMARY_FOLDERS = ("saves", "output", "outputs", "models", "checkpoints", "checkpoint", "ckpt", "ckpts", "weights")


def looks_like_path(name: str, workdir: Path) -> bool:
    """Whether a name that is no existing folder was meant as one, not as a hub id. A link whose target is gone was."""
    if name.startswith(("/", "./", "../", "~", ".\\", "\\")) or "\\" in name or re.match(r"[A-Za-z]:", name):
        return True
    if os.path.lexists(workdir / name) or not _HUB_ID.fullmatch(name):
        return True
    first = name.partition("/")[0]
    return "/" in name and (os.path.isdir(workdir / first) or first.lower() in _CUSTOMARY_FOLDERS)


def near_folder(name: str, workdir: Path, environ: Mapping[str, str]) -> str | None:
    """A model folder that may be meant: `~` and variables expanded, the other kind of slash, a name spelt almost so."""
    import difflib

    home = environ.get("HOME", "~")
    expanded = os.path.expandvars(name).replace("\\", "/")
    expanded = home + expanded[1:] if expanded.startswith("~/") else expanded
    candidates = [workdir / expanded.strip(), workdir / expanded, workdir.parent / expanded]
    parent, last = (workdir / expanded).parent, Path(expanded).name
    try:
        siblings = [item.name for item in os.scandir(parent) if item.is_dir()]
        candidates += [parent / like for like in difflib.get_close_matches(last, siblings, n=1, cutoff=0.7)]
    except OSError:
        siblings = []
    return next((str(c) for c in candidates if os.path.isfile(c / "config.json")), None)


def inner_model(folder: Path) -> str | None:
    """The one folder below with a config.json: a snapshot in a cache folder, the only checkpoint, an unpacked archive."""
    found = [p.parent for pattern in ("*/config.json", "snapshots/*/config.json") for p in folder.glob(pattern)]
    return str(found[0]) if len(found) == 1 else None


def _copies(name: str, values: Mapping[str, Any], target: Target) -> list[dict[str, Any]]:
    """Copies of a hub model on this machine: path, whether complete, and from which hub."""
    cache = values.get("cache_dir")
    root = model_cache.hugging_face_root(
        target.environ, str(target.workdir / cache) if isinstance(cache, str) else None
    )
    revision = str(values.get("model_revision", "main"))
    places = [(p, "huggingface") for p in model_cache.snapshots(name, revision, root)]
    places += [(p, "modelscope") for p in model_cache.modelscope_folders(name, target.environ)]
    copies = []
    for path, hub in places:
        try:
            folder = model_folder.inspect(path)
        except OSError:
            continue  # it vanished or may not be read: no copy to speak of
        faults = [f"{f.file}: {f.text}" for f in folder.weights.faults] or (
            [] if folder.weights.files else ["no weights"]
        )
        copies.append({"path": str(path), "hub": hub, "complete": folder.complete, "faults": faults[:20]})
    return copies


def _folder_facts(path: Path, name: str) -> dict[str, Any]:
    try:
        folder = model_folder.inspect(path)
    except OSError as error:
        return _absent_facts(name, f"{path} cannot be listed ({error.strerror})")
    config = folder.config
    headers = folder.weights.parameters if not (config or {}).get("quantization_config") else None
    counted = headers or (model_size.parameters(config) if config else None)
    return {
        "model.complete": folder.complete,
        "model.config": config if config is not None else Unknown(f"config.json: {folder.config_error}"),
        "model.config_error": folder.config_error,
        "model.parameters": counted if counted else _known_size(name),
        "model.parameters_from": "safetensors headers" if headers else "configuration",
        "model.weights": msgspec.to_builtins(folder.weights),
        "model.tokenizer": folder.tokenizer,
        "model.generation_error": folder.generation,
        "model.generation_refused": folder.generation_refused,
        "model.files": folder.names[:200],
        "model.leftovers": folder.leftovers,
        "model.is_adapter": folder.adapter,
        "model.adapter_base": folder.adapter_base,
        "model.inner": None if config is not None else inner_model(path),
    }


def _absent_facts(name: str, why: str) -> dict[str, Any]:
    """Facts of a model that is not here: its configuration where the table of known models has it."""
    lacking = Unknown(why)
    known = known_models.config(name)
    return {
        "model.complete": False,
        "model.config": known if known else lacking,
        "model.config_error": None,
        "model.parameters": _known_size(name),
        "model.parameters_from": "known model",
        "model.weights": lacking,
        "model.tokenizer": lacking,
        "model.files": lacking,
        "model.generation_error": None,
        "model.generation_refused": None,
        "model.leftovers": [],
        "model.is_adapter": False,
        "model.adapter_base": None,
        "model.inner": None,
    }


def _known_size(name: str) -> int | Unknown:
    known = known_models.config(name)
    size = model_size.parameters(known) if known else None
    return size if size else Unknown("the size of this model is not known")


JUDGEMENTS: tuple[Judgement, ...] = (*model_files_judged.ALL, *model_fit_judged.ALL)
