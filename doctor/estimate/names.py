"""A model's size as its name says it, for models whose config is not at hand."""

from __future__ import annotations

import re

_SIZE = re.compile(r"(?<![A-Za-z0-9.])(?:(?P<experts>\d+)x)?(?P<number>\d+(?:\.\d+)?)(?P<unit>[bBmM])(?![A-Za-z0-9])")
_UNITS = {"b": 1e9, "m": 1e6}


def parameters_in_name(name: str) -> float | None:
    """32e9 for "Qwen/Qwen2.5-32B-Instruct", None when the name says none. The last part of a path is read."""
    found = _SIZE.search(name.rstrip("/").rpartition("/")[2])
    if not found:
        return None
    return float(found["number"]) * _UNITS[found["unit"].lower()] * int(found["experts"] or 1)
