"""On which lines the keys of small JSON files stand: the DeepSpeed settings, the model's and the adapter's configuration.

Judgements speak of values and name their file; doctor/places.py points to the line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from doctor.facts import Facts
from doctor.recipe import json_text
from doctor.target import Target

ID = "places"
AFTER: tuple[str, ...] = ("recipe", "deepspeed", "model")
JUDGEMENTS = ()

# Bytes; these files have some kilobytes, and one with a whole vocabulary in it is not worth the time.
LARGEST = 64 << 10
_NAMES = ("config.json", "generation_config.json", "tokenizer_config.json", "adapter_config.json")


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    """`places.lines`: file, as findings name it -> dotted key -> its 1-based line. Files that cannot be read have none."""
    files: dict[str, Path] = {}
    if settings := facts.get("deepspeed.config_path"):
        files[settings] = target.workdir / settings
    folders = [facts.get("model.path"), facts.get("model.cached_path")]
    named = facts.get("recipe.values", {}).get("adapter_name_or_path")
    folders += [part.strip() for part in named.split(",")] if isinstance(named, str) else []
    for folder in filter(None, folders):
        files |= {f"{folder}/{name}": target.workdir / str(folder) / name for name in _NAMES}
    return {"places.lines": {shown: lines for shown, path in files.items() if (lines := _lines(path))}}


def _lines(path: Path) -> dict[str, int]:
    try:
        if path.stat().st_size > LARGEST:
            return {}
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):  # UnicodeDecodeError, or a name with a null byte
        return {}
    return {".".join(key): line for key, line in json_text.parse(text).lines.items()}
