"""The tokenizer's files in a model folder: which are there, which are damaged, the values that no tokenizer is made from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from doctor.recipe import json_object, safetensors_header, tokenizer_json
from doctor.recipe.safetensors_header import LFS_MARK
from doctor.recipe.weight_files import MISSING

MOST_ADDED = 300  # added tokens kept as facts
NOTHING: tuple[int | None, list[str], str | None] = (None, [], None)

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "tokenizer_config.json",
                    "special_tokens_map.json", "spiece.model", "vocab.txt")  # fmt: skip


def read(folder: Path, names: list[str]) -> dict[str, Any]:
    """Facts of the tokenizer: files `missing`, git-lfs `pointers`, `class`, `special` tokens, `highest_id`, `error`s."""
    config, why = json_object.read(folder / "tokenizer_config.json")
    present = [n for n in _TOKENIZER_FILES if n in names] + [n for n in names if n.endswith(".tiktoken")]
    loadable = {"tokenizer.json", "tokenizer.model", "spiece.model", "vocab.txt"} & set(present)
    loadable |= {n for n in present if n.endswith(".tiktoken")}
    missing: list[str] = []
    if not loadable:
        pair = ("vocab.json", "merges.txt")  # byte-level BPE without tokenizer.json needs both
        missing = [n for n in pair if n not in present] if set(pair) & set(present) else ["tokenizer.json"]
    pointers = [n for n in present if _starts_with_pointer(folder / n)]
    special = {k: _content(v) for k, v in (config or {}).items() if k.endswith("_token")}
    why = why or _config_fault(config or {}, names)
    of_model = _model_cut(folder / "tokenizer.model") if "tokenizer.json" not in names else None
    highest, added, error = tokenizer_json.read(folder / "tokenizer.json") if "tokenizer.json" in names else NOTHING
    return {
        "files": present,
        "missing": missing,
        "pointers": pointers,
        "config_error": None if why == MISSING else why,
        "broken": {n: fault for n in _objects(names) if (fault := _fault(folder / n))},
        "class": (config or {}).get("tokenizer_class"),
        "auto_map": bool((config or {}).get("auto_map")),
        "own_code": own_code((config or {}).get("auto_map")),
        "chat_template": bool((config or {}).get("chat_template")) or "chat_template.jinja" in names,
        "special": {k: v for k, v in special.items() if isinstance(v, str)},
        "highest_id": highest,
        "added": added[:MOST_ADDED],
        "error": error,
        "model_error": of_model,
        "padding_side": str((config or {}).get("padding_side", "right"))[:40],
    }


def _model_cut(path: Path) -> str | None:
    """Why a SentencePiece model cannot be one. It is a protocol buffer: fields, each with its length, to the end of the
    file; its pieces come first."""
    try:
        data = path.read_bytes() if path.stat().st_size <= json_object.LARGEST else b""
    except OSError:
        return None
    text = bool(data) and data[:200].isascii() and data[:200].decode().replace("\n", "").isprintable()
    if text or (not data and path.stat().st_size):
        return None  # a pointer, or the ranks of tiktoken
    at, pieces, size = 0, 0, len(data)
    while at < size:
        if data[at] == 10 and at + 1 < size and data[at + 1] < 128:  # a piece, as nearly all are
            at, pieces = at + 2 + data[at + 1], pieces + 1
            continue
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == 2:
            length, at = _varint(data, at)
            at += length
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        elif kind == 0:
            _, at = _varint(data, at)
        else:
            return "it is no SentencePiece model" if pieces == 0 else "it is damaged"
        pieces += number == 1
    if pieces and at > size:
        return "it is cut off"
    return None if pieces > 2 else "it is no SentencePiece model"


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number in groups of seven bits, and where it ends; behind the end of the data where it does not."""
    value = 0
    for place in range(10):
        if at + place >= len(data):
            return value, len(data) + 1
        value |= (data[at + place] & 127) << 7 * place
        if data[at + place] < 128:
            return value, at + place + 1
    return value, len(data) + 1


def own_code(auto_map: Any) -> list[str]:
    """Files of this folder that an auto_map names; of a tokenizer it may be a list, of the slow and the fast class."""
    named = [auto_map] if isinstance(auto_map, list) else list(auto_map.values()) if isinstance(auto_map, dict) else []
    names = [name for entry in named for name in (entry if isinstance(entry, list) else [entry])]
    return sorted({f"{n.partition('.')[0]}.py" for n in names if isinstance(n, str) and "." in n and "--" not in n})


def _objects(names: list[str]) -> list[str]:
    """Files of one JSON object each; the vocabulary is only read where nothing newer has it."""
    return ["special_tokens_map.json", "added_tokens.json", *(["vocab.json"] if "tokenizer.json" not in names else [])]


def _fault(path: Path) -> str | None:
    """Of these: not JSON, or a token that is no text, an id that is no number."""
    held, why = json_object.read(path)
    if held is None:
        return None if why in (MISSING, safetensors_header.POINTER) else why
    if path.name in ("added_tokens.json", "vocab.json"):
        odd = next((name for name, number in held.items() if not isinstance(number, int)), None)
        return f"the id of {odd!r} is no whole number" if odd is not None else None
    odd = next(
        (n for n, token in held.items() if n in _SPECIAL and not isinstance(_content(token), (str, type(None)))), None
    )
    return f"{odd} is {_content(held[odd])!r}; text is needed" if odd else None


def _config_fault(config: dict[str, Any], names: list[str]) -> str | None:
    """Values of tokenizer_config.json that no tokenizer is made from."""
    # Without added_tokens_decoder the tokens of special_tokens_map.json take the place of these.
    legacy = "added_tokens_decoder" not in config and "special_tokens_map.json" in names
    longest = config.get("model_max_length")
    if longest is not None and (not isinstance(longest, (int, float)) or isinstance(longest, bool)):
        return f"model_max_length is {longest!r}; a number is needed"
    added = config.get("added_tokens_decoder", {})
    if not isinstance(added, dict) or not all(isinstance(one, dict) for one in added.values()):
        return f"added_tokens_decoder is {str(added)[:60]!r}; a mapping of ids to tokens is needed"
    if (odd := next((key for key in added if not key.isdecimal()), None)) is not None:
        return f"added_tokens_decoder has {odd!r} where a token id is needed"
    more = config.get("additional_special_tokens")
    if more is not None and (not isinstance(more, list) or not all(isinstance(_content(one), str) for one in more)):
        return f"additional_special_tokens is {str(more)[:60]!r}; a list of text is needed"
    inputs = config.get("model_input_names", ["input_ids"])
    if inputs is not None and (not isinstance(inputs, list) or "input_ids" not in inputs):
        return f"model_input_names is {str(inputs)[:60]!r}; a list with input_ids in it is needed"
    if config.get("truncation_side", "right") not in ("right", "left"):
        return f"truncation_side is {str(config['truncation_side'])[:40]!r}; right or left is needed"
    chat = config.get("chat_template")
    if isinstance(chat, list) and not all(isinstance(one, dict) and {"name", "template"} <= one.keys() for one in chat):
        return "chat_template is a list whose entries lack name and template"
    elsewhere = config.get("tokenizer_file")
    if isinstance(elsewhere, str) and os.path.isabs(elsewhere) and not os.path.isfile(elsewhere):
        return f"tokenizer_file is {elsewhere[:200]}, which is not there"
    for name, token in config.items():
        if name in _SPECIAL and isinstance(token, dict) and "__type" not in token and not legacy:
            return f'{name} is an object without "__type": "AddedToken"; text, or an object with it, is needed'
        content = _content(token)
        if name in _SPECIAL and content is not None and not isinstance(content, str):
            return f"{name} is {content!r}; text is needed"
    return None


_SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def _content(token: Any) -> Any:
    return token.get("content") if isinstance(token, dict) else token


def _starts_with_pointer(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(LFS_MARK)) == LFS_MARK
    except OSError:
        return False
