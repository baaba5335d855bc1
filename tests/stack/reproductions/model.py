"""Faults of the model folder and of its tokenizer."""

from __future__ import annotations

import json
import shutil

from tests.stack.reproductions.place import Place
from tests.stack.reproductions.run import Reproduction

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "5e" * 32 + "\nsize 471992\n"


def keep_a_copy(place: Place) -> None:
    """Another, whole copy of the model, as a user has who downloads it anew."""
    shutil.copytree(place.model, place.model.parent / "whole")


def folder_moved(place: Place) -> None:
    place.model.rename(place.model.parent / "moved")


def pointer(place: Place) -> None:
    keep_a_copy(place)
    (place.model / "model.safetensors").write_text(POINTER)


def truncated(place: Place) -> None:
    keep_a_copy(place)
    weights = place.model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:200_000])


def shard_missing(place: Place) -> None:
    """The index names two shards, one of them is not there."""
    keep_a_copy(place)
    (place.model / "model.safetensors").rename(place.model / "model-00001-of-00002.safetensors")
    weights = {
        "model.embed_tokens.weight": "model-00001-of-00002.safetensors",
        "lm_head.weight": "model-00002-of-00002.safetensors",
    }
    index = {"metadata": {"total_size": 471_000}, "weight_map": weights}
    (place.model / "model.safetensors.index.json").write_text(json.dumps(index))


def tokenizer_missing(place: Place) -> None:
    keep_a_copy(place)
    for file in place.model.glob("token*"):
        file.unlink()


def tokenizer_damaged(place: Place) -> None:
    keep_a_copy(place)
    file = place.model / "tokenizer.json"
    file.write_text(file.read_text()[:3000])


def config_comma(place: Place) -> None:
    file = place.model / "config.json"
    text = file.read_text()
    file.write_text(text[: text.rindex("\n}")] + ",\n}\n")


WHOLE = ("--model", "{root}/models/whole")
CASES = [
    Reproduction("model-path-not-found", folder_moved, arguments=("--model", "{root}/models/moved")),
    Reproduction("model-lfs-pointer", pointer, arguments=WHOLE),
    Reproduction("model-corrupt-safetensors", truncated, arguments=WHOLE),
    Reproduction("model-shards-missing", shard_missing, arguments=WHOLE),
    Reproduction("model-config-invalid-json", config_comma),
    Reproduction("tok-file-missing", tokenizer_missing, arguments=WHOLE),
    Reproduction("tok-load-failed", tokenizer_damaged, arguments=WHOLE),
]
CASES = [case.needing("safetensors", "tokenizers") for case in CASES]
