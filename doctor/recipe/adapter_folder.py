"""A LoRA adapter folder: adapter_config.json and the shapes of its weights."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec

from doctor.recipe import safetensors_header

CONFIG = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")


class Adapter(msgspec.Struct, frozen=True):
    """`rank` by the configuration, `weights_rank` by the shape of lora_A, `base`: the model it was trained on.

    `full_model`: the folder is a model instead. `found_at`: a folder below that does hold an adapter.
    """

    name: str
    path: str | None
    has_config: bool = False
    has_weights: bool = False
    config_error: str | None = None
    weights_error: str | None = None
    rank: int | None = None
    weights_rank: int | None = None
    base: str | None = None
    full_model: bool = False
    found_at: str | None = None
    inputs: dict[str, int] = {}  # module -> columns of its lora_A, which is the width of what goes into it


def inspect(name: str, folder: Path) -> Adapter:
    """Facts of one adapter; `folder` need not exist."""
    if not os.path.isdir(folder):
        return Adapter(name, None)
    config, error = _config(folder / CONFIG)
    weights = next((folder / w for w in WEIGHTS if os.path.exists(folder / w)), None)
    rank_seen, weights_error = None, None
    inputs: dict[str, int] = {}
    if weights and weights.suffix == ".safetensors":
        rank_seen, weights_error, inputs = _rank(weights)
    rank = config.get("r")
    base = config.get("base_model_name_or_path")
    below = sorted(folder.glob(f"*/{CONFIG}"), key=lambda p: p.stat().st_mtime)
    return Adapter(
        name=name,
        path=str(folder),
        has_config=os.path.isfile(folder / CONFIG),
        has_weights=weights is not None,
        config_error=error,
        weights_error=weights_error,
        rank=rank if isinstance(rank, int) else None,
        weights_rank=rank_seen if not config.get("rank_pattern") else None,
        base=base if isinstance(base, str) else None,
        full_model=os.path.isfile(folder / "config.json"),
        found_at=str(below[-1].parent) if below else None,
        inputs=inputs,
    )


def _config(path: Path) -> tuple[dict[str, Any], str | None]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, None
    except (OSError, ValueError, RecursionError) as error:
        return {}, str(error)
    return (value, None) if isinstance(value, dict) else ({}, "not a JSON object")


def _rank(path: Path) -> tuple[int | None, str | None, dict[str, int]]:
    """Rank by the first lora_A, 0 when one is empty; why the file cannot be read; columns of lora_A by module."""
    try:
        tensors = safetensors_header.read(path)
    except (safetensors_header.Unreadable, OSError) as error:
        return None, str(error), {}
    shapes = {name: t.shape for name, t in tensors.items() if "lora_A" in name and len(t.shape) == 2}
    if not shapes:
        return None, None, {}
    if any(0 in shape for shape in shapes.values()):
        return 0, None, {}
    inputs = {name.partition(".lora_A")[0].rpartition(".")[2]: shape[1] for name, shape in shapes.items()}
    return next(iter(shapes.values()))[0], None, inputs
