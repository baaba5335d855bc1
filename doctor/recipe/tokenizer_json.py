"""tokenizer.json as the library tokenizers reads it: its ids, and what ends the loading.

What is refused was tried with tokenizers 0.20 and 0.22, under transformers 4.46 and 5.6.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from doctor.recipe.json_records import UNDECODABLE
from doctor.recipe.safetensors_header import LFS_MARK
from doctor.recipe.weight_files import UNREADABLE


class _Added(msgspec.Struct):
    """All of its fields are asked for."""

    id: int
    content: str
    single_word: bool
    lstrip: bool
    rstrip: bool
    normalized: bool
    special: bool


class _Truncation(msgspec.Struct):
    max_length: int
    strategy: str
    stride: int


class _File(msgspec.Struct):
    added_tokens: list[_Added]
    model: msgspec.Raw
    version: str = "1.0"
    truncation: _Truncation | None = None
    padding: dict[str, Any] | None = None
    normalizer: dict[str, Any] | None = None
    pre_tokenizer: dict[str, Any] | None = None
    post_processor: dict[str, Any] | None = None
    decoder: dict[str, Any] | None = None


class _Model(msgspec.Struct):
    """`vocab` is a mapping, of Unigram a list; `merges` are pairs, or texts with one space."""

    type: str | None = None
    vocab: msgspec.Raw = msgspec.Raw(b"")
    merges: msgspec.Raw = msgspec.Raw(b"")
    dropout: float | None = None
    unk_token: str | None = None
    continuing_subword_prefix: str | None = None
    end_of_word_suffix: str | None = None
    fuse_unk: bool | None = None
    byte_fallback: bool | None = None
    ignore_merges: bool | None = None


_MODELS = ("BPE", "WordPiece", "WordLevel", "Unigram")
_PRE_TOKENIZERS = ("BertPreTokenizer", "ByteLevel", "CharDelimiterSplit", "Metaspace", "Whitespace", "WhitespaceSplit",
                   "Sequence", "Split", "Punctuation", "Digits", "UnicodeScripts", "FixedLength")  # fmt: skip


_PARTS_OF_TOKENIZER = {
    "pre_tokenizer": _PRE_TOKENIZERS,
    "normalizer": ("BertNormalizer", "Strip", "StripAccents", "NFC", "NFD", "NFKC", "NFKD", "Sequence", "Lowercase", "Nmt",
                   "Precompiled", "Replace", "Prepend", "ByteLevel"),
    "post_processor": ("RobertaProcessing", "BertProcessing", "ByteLevel", "TemplateProcessing", "Sequence"),
    "decoder": ("BPEDecoder", "ByteLevel", "WordPiece", "Metaspace", "CTC", "Sequence", "Replace", "Fuse", "Strip",
                "ByteFallback"),
}  # fmt: skip


# What a part cannot be made without.
_NEEDED = {"TemplateProcessing": ("single", "pair", "special_tokens"), "RobertaProcessing": ("sep", "cls"),
           "BertProcessing": ("sep", "cls")}  # fmt: skip


def read(path: Path) -> tuple[int | None, list[str], str | None]:
    """The highest token id and the added tokens, or None, [] and why the file cannot be read."""
    try:
        raw = path.read_bytes()
        if raw.startswith(LFS_MARK):
            return None, [], None
        content = msgspec.json.decode(raw, type=_File)
        model = msgspec.json.decode(content.model, type=_Model)
        _known_parts(content, model)
        vocab = msgspec.json.decode(model.vocab)
        ids = [token.id for token in content.added_tokens]
        ids.append(max(vocab.values(), default=-1) if isinstance(vocab, dict) else len(vocab) - 1)
        if not isinstance(ids[-1], int) or any(number < 0 for number in ids[:-1]):
            raise TypeError("an id of its vocabulary is no whole number from 0 on")
        if model.merges and isinstance(vocab, dict):
            _merges_fit(msgspec.json.decode(model.merges), vocab, model.continuing_subword_prefix or "")
        return max(ids, default=None), [token.content for token in content.added_tokens], None
    except OSError as error:
        return None, [], f"{UNREADABLE} ({error.strerror})"
    except (*UNDECODABLE, TypeError) as error:
        return None, [], f"not a tokenizer file ({error})"


def _known_parts(content: _File, model: _Model) -> None:
    """What the library does not know, or cannot do without. Raises TypeError."""
    if content.version != "1.0":
        raise TypeError(f"version {content.version}; tokenizers reads 1.0")
    if model.type is not None and model.type not in _MODELS:
        raise TypeError(f"its model is of type {model.type}; known are {', '.join(_MODELS)}")
    if not model.vocab:
        raise TypeError("its model has no vocab")
    if model.type == "BPE" and not model.merges:
        raise TypeError("its model is BPE and has no merges")
    if model.type == "Unigram" and bytes(model.vocab).lstrip()[:1] == b"{":
        raise TypeError("its model is Unigram, and the vocabulary is not that of one")
    if model.type in ("BPE", "WordPiece", "WordLevel") and bytes(model.vocab).lstrip()[:1] == b"[":
        raise TypeError(f"its model is {model.type}, and the vocabulary is not that of one")
    if model.type in ("WordPiece", "WordLevel") and model.unk_token is None:
        raise TypeError(f"its model is {model.type} and names no unk_token")
    if model.dropout is not None and not 0 <= model.dropout <= 1:
        raise TypeError(f"its dropout is {model.dropout:g}; from 0 to 1 is allowed")
    for name, known in _PARTS_OF_TOKENIZER.items():
        parts = [getattr(content, name) or {}]
        for inner in ("pretokenizers", "normalizers", "decoders", "processors"):
            more = parts[0].get(inner)
            parts += more if isinstance(more, list) else []
        for part in parts:
            if isinstance(part, dict) and "type" in part and part["type"] not in known:
                raise TypeError(f"its {name} {part['type']} is unknown")
            for field in _NEEDED.get(part.get("type", ""), ()) if isinstance(part, dict) else ():
                if field not in part:
                    raise TypeError(f"its {name} {part['type']} has no {field}")


def _merges_fit(merges: Any, vocab: dict[str, Any], prefix: str) -> None:
    """Both halves of a merge, and what they make, are tokens. Raises TypeError."""
    if not isinstance(merges, list):
        raise TypeError("its merges are no list")
    of_text = bool(merges) and isinstance(merges[0], str)
    for merge in merges:  # 150,000 of a real vocabulary
        pair = merge.split(" ") if of_text and isinstance(merge, str) else merge
        if not (isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], str)):
            raise TypeError(f"its merge {str(merge)[:60]!r} is no pair of tokens as the others are")
        first, last = pair
        made = first + last.removeprefix(prefix)
        if first not in vocab or last not in vocab or made not in vocab:
            token = next(token for token in (first, last, made) if token not in vocab)
            raise TypeError(f"its merges name the token {token[:40]!r}, which the vocabulary does not have")
