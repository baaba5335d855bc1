"""A file of the model folder that holds one JSON object, or why it does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from doctor.recipe import safetensors_header
from doctor.recipe.safetensors_header import LFS_MARK
from doctor.recipe.weight_files import MISSING, UNREADABLE

LARGEST = 64 << 20  # bytes of an index or configuration


def read(path: Path) -> tuple[dict[str, Any] | None, str | None]:
    """A JSON object and None, or None and why not: `missing`, `git-lfs pointer`, or what is wrong with it."""
    try:
        if path.stat().st_size > LARGEST:
            return None, f"larger than {LARGEST >> 20} MiB"
        raw = path.read_bytes()
    except FileNotFoundError:
        return None, MISSING
    except OSError as error:
        return None, f"{UNREADABLE} ({error.strerror})"
    if raw.startswith(LFS_MARK):
        return None, safetensors_header.POINTER
    try:
        value = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        return None, f"not JSON ({error})" if raw.strip() else "empty"
    return (value, None) if isinstance(value, dict) else (None, "not a JSON object")
