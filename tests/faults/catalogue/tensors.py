"""Safetensors files, taken apart and put together."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any


def read_tensors(path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Header entries and bytes of every tensor of a safetensors file."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    start = 8 + length
    return header, {n: data[start + e["data_offsets"][0] : start + e["data_offsets"][1]] for n, e in header.items()}


def write_tensors(path: Path, header: dict[str, Any], tensors: dict[str, bytes]) -> None:
    at, entries = 0, {"__metadata__": {"format": "pt"}}
    for name, data in tensors.items():
        entries[name] = {**header[name], "data_offsets": [at, at + len(data)]}
        at += len(data)
    head = json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + b"".join(tensors.values()))
