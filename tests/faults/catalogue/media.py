"""Faults of images and videos, with a toy Qwen2-VL made by the transformers of the workspace's own environment."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.catalogue.data import POINTER
from tests.faults.catalogue.model import WHOLE
from tests.faults.catalogue.recipe import values
from tests.faults.fault import Fault, Inject, together
from tests.faults.workspace import Workspace

Row = dict[str, Any]
CURRENT, HAND = "current full", {"healable": False}
COLUMNS = {"messages": "conversations", "images": "images"}
CHUNK = struct.Struct(">I4s")
TOY = Path(__file__).parents[1] / "toy_vision.py"
UNDECLARED = "<image> in the text, and no column of images declared"


def png(side: int = 56) -> bytes:
    """Noise, which no compression makes small."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    rows = b"".join(b"\0" + os.urandom(3 * side) for _ in range(side))
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def vision(place: Workspace) -> None:
    """The model of the workspace becomes one of images, its tokenizer with their tokens."""
    toy = place.environment.root.parent / f"{place.environment.root.name}-toy-vision"
    if not toy.exists():
        subprocess.run([str(place.environment.python), "-P", str(TOY), str(place.model), str(toy)], check=True)
    shutil.rmtree(place.model)
    shutil.copytree(toy, place.model)
    place.set_recipe(template="qwen2_vl", cutoff_len=128)


def shown(
    file: bytes | None = None, name: str = "a.png", change: Callable[[int, Row], None] | None = None,
    columns: dict[str, str] = COLUMNS, kind: str = "images",
) -> Inject:  # fmt: skip
    """16 records that show one file; `change` is given each with its number."""

    def inject(place: Workspace) -> None:
        vision(place)
        (place.data.parent / name).write_bytes(png() if file is None else file)
        rows: list[Row] = []
        for number in range(16):
            turns = [{"from": "human", "value": f"<{kind[:-1]}>Add {number}."}, {"from": "gpt", "value": "Yes."}]
            row: Row = {"conversations": turns, kind: [name]}
            if change:
                change(number, row)
            rows.append(row)
        place.write_rows(rows)
        entry = {"file_name": place.data.name, "formatting": "sharegpt", "columns": columns}
        place.info.write_text(json.dumps({"Sky-T1": entry}, indent=2))

    return inject


def settings_cut(place: Workspace) -> None:
    """Of the processor."""
    place.keep_a_copy()
    file = next(place.model.glob("*processor_config.json"))
    file.write_text(file.read_text()[:40])


def without_image_token(place: Workspace) -> None:
    file = place.model / "tokenizer.json"
    file.write_text(file.read_text().replace("<|image_pad|>", "<|imgpad|>"))


def large_image(place: Workspace) -> None:
    """As a processor of the published models takes it."""
    for file in place.model.glob("*processor_config.json"):
        place.edit_json(file, max_pixels=None, size={"shortest_edge": 784, "longest_edge": 12845056})


def two_marks(number: int, row: Row) -> None:
    row["conversations"][0]["value"] = "<image><image>Add." if number == 3 else row["conversations"][0]["value"]


def damaged(id: str, what: str, file: bytes, base: str = CURRENT) -> Fault:
    return Fault(id, "data-media-missing", what, shown(file), base, healable=False)


VIDEO = CHUNK.pack(16, b"ftyp") + b"isom" + bytes(4) + CHUNK.pack(90000, b"mdat") + b"\1" * 300
FAULTS = [
    damaged("image-empty", "an image of no bytes", b""),
    damaged("image-is-a-page", "a web page saved as an image", b"<!DOCTYPE html><html>404</html>", "sky-t1 full"),
    damaged("image-pointer", "an image that is a git-lfs pointer", POINTER.encode()),
    damaged("image-cut", "the end of an image is missing", png(200)[:9000], "sky-t1 full"),
    damaged("image-is-a-message", "the text of an error saved as an image", b"not found"),
    Fault("image-is-a-number", "data-media-missing", "images: [5]",
          shown(change=lambda number, row: row.update(images=[5])), CURRENT, **HAND),
    Fault("video-cut", "data-video-decode", "the end of a video is missing",
          shown(VIDEO, "a.mp4", columns={"messages": "conversations", "videos": "videos"}, kind="videos"), CURRENT, **HAND),
    Fault("images-undeclared", "data-multimodal-placeholder", UNDECLARED,
          shown(columns={"messages": "conversations"}), **HAND),
    Fault("images-undeclared-current", "data-multimodal-placeholder", UNDECLARED,
          shown(columns={"messages": "conversations"}), CURRENT, **HAND),
    Fault("marks-too-many", "data-multimodal-placeholder", "two marks and one image", shown(change=two_marks), **HAND),
    Fault("processor-settings-cut", "model-processor-missing", "preprocessor_config.json is cut",
          together(shown(), settings_cut), arguments=WHOLE),
    Fault("processor-settings-cut-current", "model-processor-missing", "preprocessor_config.json is cut",
          together(shown(), settings_cut), CURRENT, WHOLE),
    Fault("template-of-other-images", "tmpl-wrong-for-model", "template: llava with a Qwen2-VL",
          together(shown(), values(template="llava")), CURRENT),
    Fault("image-token-unknown", "data-multimodal-token-mismatch", "a tokenizer without <|image_pad|>",
          together(shown(), without_image_token), CURRENT, **HAND),
    Fault("image-longer-than-cutoff", "data-cutoff-truncates", "an image of 324 tokens and cutoff_len: 128",
          together(shown(png(500)), large_image), **HAND),
    Fault("images-for-a-text-template", "tmpl-wrong-for-model", "template: qwen with a Qwen2-VL and images",
          together(shown(), values(template="qwen")), **HAND),
]  # fmt: skip
