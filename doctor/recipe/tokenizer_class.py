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
    if not falls_back or tokenizer_json is None:
        return Taken(falls_back)
    wanted = _algorithm(str(name).removesuffix("Fast"), auto, transformers)
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


def _algorithm(name: str, auto: str, transformers: Path) -> str | None:
    """By the source of the class, which stands beside one of the model types that the table gives it."""
    for kind in re.findall(rf'\("([\w-]+)", "{re.escape(name)}(?:Fast)?"', auto):
        folder = kind.replace("-", "_")
        source = text(transformers / f"models/{folder}/tokenization_{folder}.py")
        if f"class {name}(" in source:
            found = _ALGORITHM.search(source)
            return found[1] if found else None
    return None
