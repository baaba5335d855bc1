"""The class that tokenizer_config.json names, as the installed transformers takes it: from its sources.

From 5 on a class makes its tokenizer anew from the vocabulary, by the algorithm that its source imports; one that is not
found gives way to a class that reads tokenizer.json as it stands (models/auto/tokenization_auto.py).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from doctor.recipe.source_tree import text

_FALLS_BACK = "Fallback to TokenizersBackend"
_ALGORITHM = re.compile(r"^from tokenizers\.models import (\w+)[ \t]*$", re.M)
_OF_FILE = re.compile(rb'"model"\s*:\s*\{\s*"type"\s*:\s*"(\w{1,20})"')
_OF_BYTES = re.compile(r"^class \w+\((?:PreTrainedTokenizer|PythonBackend)\)", re.M)
_NO_SUFFIX = re.compile(rb'"end_of_word_suffix"\s*:\s*(?:null|"")')
_FALLS_TO_BYTES = re.compile(rb'"byte_fallback"\s*:\s*true')
_FOREIGN = ("WordPiece", "Unigram")  # a vocabulary of another algorithm is not read as one of these


class Taken(msgspec.Struct, frozen=True):
    """`falls_back`: a class that is not found is no fault where there is a tokenizer.json. `refused`: why this one fails."""

    falls_back: bool = False
    refused: str | None = None


def of(name: Any, transformers: Path, tokenizer_json: Path | None) -> Taken:
    """`tokenizer_json`: the file of the model, None where it has none."""
    auto = text(transformers / "models/auto/tokenization_auto.py")
    falls_back = _FALLS_BACK in auto and isinstance(name, str) and tokenizer_json is not None
    if isinstance(name, str) and re.fullmatch(r"Auto(Tokenizer|Processor|Model\w*)", name):
        return Taken(falls_back, f"{name} chooses a class and is none: it would ask for itself without end")
    if isinstance(name, str) and tokenizer_json is not None and _FALLS_BACK not in auto:
        return Taken(False, _refused_by_older(name, auto, transformers, tokenizer_json))
    if not falls_back or tokenizer_json is None:
        return Taken(falls_back)
    source = _source(str(name).removesuffix("Fast"), auto, transformers)
    if instead := _bytes_instead(name, source):
        return Taken(falls_back, instead)
    if 'end_of_word_suffix="</w>"' in source and _NO_SUFFIX.search(_content(tokenizer_json)):
        return Taken(
            falls_back, f"{name} ends each word with </w>, and the vocabulary of tokenizer.json has none of that"
        )
    if "byte_fallback=True" in source and _of_levels(_content(tokenizer_json)):
        return Taken(
            falls_back, f"{name} marks spaces with ▁, and the vocabulary of tokenizer.json is of byte-level pieces"
        )
    algorithm = _ALGORITHM.search(source)
    wanted = algorithm[1] if algorithm else None
    if wanted not in _FOREIGN:
        return Taken(falls_back)
    try:
        found = _OF_FILE.search(tokenizer_json.read_bytes())
    except OSError:
        return Taken(falls_back)
    held = found[1].decode() if found else wanted
    return Taken(
        falls_back, f"{name} makes a {wanted} tokenizer, and tokenizer.json is {held}" if held != wanted else None
    )


# What the constructor of a class before 5 does with tokenizer.json -> what must be there, and what is said without it.
_ASKS = (
    ("backend_tokenizer.normalizer.__getstate__", re.compile(rb'"normalizer"\s*:\s*\{'),
     "{name} changes the normalizer, and tokenizer.json has none"),
    ("backend_tokenizer.pre_tokenizer, pre_tokenizers.Sequence",
     re.compile(rb'"pre_tokenizer"\s*:\s*\{\s*"type"\s*:\s*"Sequence"'),
     "{name} wants a sequence of pre-tokenizers, and tokenizer.json has none"),
)  # fmt: skip


def _refused_by_older(name: str, auto: str, transformers: Path, tokenizer_json: Path) -> str | None:
    """Before 5 a class reads tokenizer.json as it stands, and some change it then; one without a fast form reads its own
    files, and bytes where it has none."""
    plain = name.removesuffix("Fast")
    for kind in re.findall(rf'"([\w-]+)",\s*\(?\s*\(?"{re.escape(plain)}"', auto):
        folder = kind.replace("-", "_")
        slow, fast = (text(transformers / f"models/{folder}/tokenization_{folder}{form}.py") for form in ("", "_fast"))
        if f"class {plain}(" not in slow:
            continue
        if not fast:
            return _bytes_instead(name, slow)
        held = _content(tokenizer_json)
        return next(
            (why.format(name=name) for asks, there, why in _ASKS if asks in fast and not there.search(held)), None
        )
    return None


def _bytes_instead(name: Any, source: str) -> str | None:
    of_bytes = _OF_BYTES.search(source) and "vocab_files_names" not in source
    return f"{name} makes ids of bytes, and reads no tokenizer.json" if of_bytes else None


def _of_levels(held: bytes) -> bool:
    """Pieces as GPT-2 spells them. Made anew by such a class, spaces and all beyond ASCII become other ids."""
    return b'"ByteLevel"' in held and not _FALLS_TO_BYTES.search(held)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b'"normalizer": {"pre_tokenizer": {"type": "Sequence"'  # what is not read is not judged


def _source(name: str, auto: str, transformers: Path) -> str:
    """Of the class, which stands beside one of the model types that the table gives it, or beside that of its own name;
    empty where it is not found."""
    own = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.removesuffix("Tokenizer")).lower()
    kinds = re.findall(rf'\("([\w-]+)", "{re.escape(name)}(?:Fast)?"', auto)
    for kind in (*kinds, *((own,) if kinds and own.isidentifier() else ())):
        folder = kind.replace("-", "_")
        source = text(transformers / f"models/{folder}/tokenization_{folder}.py")
        if f"class {name}(" in source:
            return source
    return ""
