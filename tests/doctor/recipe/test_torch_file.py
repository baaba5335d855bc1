"""Pickles that ask for memory which they have not: read without taking it."""

from __future__ import annotations

import pickle
import struct
import tracemalloc
from pathlib import Path

import pytest

from doctor.recipe import torch_file

GIB = 1 << 30
PROTO = b"\x80\x04"


LENGTHS = {  # of what is not there; room for a read is asked for and never touched
    "text": PROTO + pickle.BINUNICODE8 + struct.pack("<Q", 6 * GIB) + b"abc.",
    "frame": PROTO + pickle.FRAME + struct.pack("<Q", 6 * GIB) + b"abc.",
    "number": b"\x80\x02" + pickle.LONG4 + struct.pack("<i", (1 << 31) - 1) + b"abc.",
}
FILLED = {  # with zeros, by the reader in C
    "memo": PROTO + b"\x8c\x01a" + pickle.LONG_BINPUT + struct.pack("<I", 0x10858579) + b".",
    "bytearray": PROTO + pickle.BYTEARRAY8 + struct.pack("<Q", 6 * GIB) + b"abc.",
}


@pytest.mark.parametrize("kind", [*LENGTHS, *FILLED])
def test_a_place_or_a_length_of_gigabytes_fills_none(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes({**LENGTHS, **FILLED}[kind])
    tracemalloc.start()
    try:
        assert torch_file.content(path) is torch_file.UNREAD
        took = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert kind in LENGTHS or took < 10 << 20


def test_what_a_pickle_names_is_read(tmp_path: Path) -> None:
    path = tmp_path / "scheduler.pt"
    path.write_bytes(b"".join(pickle.dumps(one, 2) for one in (torch_file.LEGACY_MAGIC, 1001, {}, {"last": 3}, [])))
    assert torch_file.content(path) == {"last": 3}
