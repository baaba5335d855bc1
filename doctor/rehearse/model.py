"""The random twin of the model: a small configuration, weights made by the target's transformers, the tokenizer's files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from doctor.facts import Facts
from doctor.rehearse import shrink

MAKER = Path(__file__).parent / "model_child.py"
LOADER = Path(__file__).parent / "load_child.py"
LARGEST = 64 << 20  # bytes of a file that is copied; a tokenizer.json has 10 MB
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".msgpack", ".h5", ".onnx", ".incomplete")
_OWN = ("config.json", "model.safetensors.index.json", "pytorch_model.bin.index.json", "README.md")


def source(facts: Facts) -> Path | None:
    """The folder of the real model on this machine: the local one, or a copy in a cache. None when there is none."""
    if facts.get("model.path"):
        return Path(facts["model.path"])
    copies = facts.get("model.cached") or []
    found = facts.get("model.cached_path") or (copies[0]["path"] if copies else None)
    return Path(found) if found else None


def write(real: Path, twin: Path, small: Mapping[str, Any]) -> None:
    """The twin's folder without weights: the small config.json, and every other file of the model as it is."""
    twin.mkdir(parents=True)
    for item in sorted(real.iterdir()):
        if item.name in _OWN or item.name.endswith(_WEIGHTS) or not item.is_file() or item.stat().st_size > LARGEST:
            continue
        shutil.copyfile(item, twin / item.name)
    (twin / "config.json").write_text(json.dumps(small, indent=1) + "\n", encoding="utf-8")


def vocabulary(config: Mapping[str, Any]) -> int:
    """Rows of the embedding; 32,000 where the configuration does not tell."""
    text = config.get("text_config")
    size = config.get("vocab_size") or (text.get("vocab_size") if isinstance(text, dict) else None)
    return size if isinstance(size, int) and size > 0 else 32_000


def architecture(config: Mapping[str, Any]) -> str:
    named = config.get("architectures")
    return str(named[0]) if isinstance(named, list) and named else str(config.get("model_type", "model"))


__all__ = ["LOADER", "MAKER", "architecture", "shrink", "source", "vocabulary", "write"]
