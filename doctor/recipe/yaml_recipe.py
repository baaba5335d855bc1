"""Reads a training recipe as LLaMA-Factory does: PyYAML, YAML 1.1, so that `1e-5` stays the string it will be there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from doctor.errors import BadInput, UnreadableRecipe

LARGEST = 4 << 20  # bytes; a recipe is a page of text, anything larger is another file by mistake
LONGEST_RECIPE = 64 << 10  # characters; more than any recipe that is written by hand
LONGEST_NUMBER = 256  # bits; beyond that a float is infinite or a conversion to text refused
MOST_VALUES = 100_000  # after aliases are followed: nine of nine of nine … fit into a page of text


class Recipe(msgspec.Struct, frozen=True):
    """`values` as YAML gives them, `lines` the 1-based line of each top-level key, `repeated` keys given twice. `tab`: the
    line of a tab that PyYAML refuses and libyaml takes."""

    values: dict[str, Any]
    lines: dict[str, int]
    repeated: dict[str, int] = {}
    tab: int | None = None


def read(path: Path, shown: str) -> Recipe:
    """Parse the file. Raises BadInput with one sentence naming the file as `shown` and, where there is one, the line."""
    return parse(_text(path, shown), shown)


def _text(path: Path, shown: str) -> str:
    try:
        raw = path.read_bytes() if path.stat().st_size <= LARGEST else None
    except FileNotFoundError:
        raise BadInput(f"The recipe {shown} does not exist; name it, or stand in the folder that holds it.") from None
    except IsADirectoryError:
        raise BadInput(f"The recipe {shown} is a directory; name the YAML file in it.") from None
    except PermissionError:
        raise BadInput(f"The recipe {shown} may not be read (permission denied); make it readable.") from None
    except OSError as error:
        raise BadInput(f"The recipe {shown} cannot be read ({error.strerror}).") from None
    if raw is None:
        raise BadInput(f"{shown} is larger than a recipe can be ({LARGEST >> 20} MiB); name the training YAML.")
    if b"\0" in raw[:4096] and not raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise BadInput(f"{shown} is a binary file, not a recipe; name the training YAML.")
    try:
        return raw.decode("utf-16" if raw.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        what = f"{shown}:{line} is not UTF-8 text; save the recipe as UTF-8."
        raise UnreadableRecipe(what, "data-encoding", f"{shown}:{line}") from None


def parse(text: str, shown: str) -> Recipe:
    """Parse a recipe's text; `shown` names it in errors."""
    import yaml

    # PyYAML's own loader refuses what libyaml takes: a tab behind a colon. It is slow.
    fast = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    loader, tab = (yaml.SafeLoader if len(text) <= LONGEST_RECIPE else fast), None
    try:
        try:
            root, values = yaml.compose(text, Loader=loader), yaml.load(text, Loader=loader)
        except yaml.MarkedYAMLError as error:
            tab = _line_of(error) if "\t" in _line(text, _line_of(error)) else None
            if tab is None or loader is fast:
                raise
            root, values = yaml.compose(text, Loader=fast), yaml.load(text, Loader=fast)
    except yaml.MarkedYAMLError as error:
        line = _line_of(error)
        stands = "; a tab stands there" if "\t" in _line(text, line) else ""
        what = f"{shown}:{line} is not valid YAML ({str(error.problem)[:200]}{stands}); correct that line."
        raise UnreadableRecipe(what, "cfg-yaml-syntax", f"{shown}:{line}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        what = f"{shown} is not valid YAML ({' '.join(str(error).split())[:200]}); correct it."
        raise UnreadableRecipe(what, "cfg-yaml-syntax", shown) from None
    if root is None or values is None:
        what = f"The recipe {shown} is empty; copy one from examples/train_full and edit it."
        raise UnreadableRecipe(what, "cfg-yaml-syntax", shown)
    if not isinstance(root, yaml.MappingNode) or not isinstance(values, dict):
        kind = {"list": "a list", "str": "plain text"}.get(type(values).__name__, f"a {type(values).__name__}")
        what = f"The recipe {shown} holds {kind}, not `key: value` lines; write it as a mapping."
        raise UnreadableRecipe(what, "cfg-yaml-syntax", shown)
    lines: dict[str, int] = {}
    repeated: dict[str, int] = {}
    for key, _ in root.value:
        name = str(key.value)
        if name in lines:
            repeated[name] = key.start_mark.line + 1
        lines[name] = key.start_mark.line + 1
    try:
        plain = _plain(values, count(1))
    except (OverflowError, RecursionError):
        raise BadInput(
            f"{shown} holds aliases that unfold to more than a recipe can be; write the values out."
        ) from None
    for key, value in plain.items():
        if said := _no_text(key) or _no_text(value):
            where = f"{shown}:{lines.get(key, 1)}"
            what = f"{where} holds {said}, which no name, path or number has; write the value without it."
            raise UnreadableRecipe(what, "cfg-yaml-syntax", where)
    return Recipe(plain, lines, repeated, tab)


def _line_of(error: Any) -> int:
    mark = error.problem_mark or error.context_mark
    return int(mark.line) + 1 if mark else 1


def _line(text: str, number: int) -> str:
    return "".join(text.splitlines()[number - 1 : number])


_HALF = re.compile("[\ud800-\udfff]")


@lru_cache(maxsize=1024)  # aliases make one long text a hundred thousand values
def _has_half(text: str) -> bool:
    return not text.isascii() and _HALF.search(text) is not None


def _joined(text: str) -> str:
    """JSON writes a character beyond the first 65,536 as two halves, which YAML's reader leaves apart."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass") if _has_half(text) else text


def _no_text(value: Any) -> str | None:
    """What an escape put into it that no text file can hold, in words."""
    if isinstance(value, dict):
        return next((said for pair in value.items() for part in pair if (said := _no_text(part))), None)
    if isinstance(value, list):
        return next((said for item in value if (said := _no_text(item))), None)
    if not isinstance(value, str):
        return None
    return "a NUL character" if "\0" in value else "half of a surrogate pair" if _has_half(value) else None


def _plain(value: Any, made: Iterator[int]) -> Any:
    """YAML's dates, sets and bytes as JSON can hold them, so that facts stay JSON-able. `made` counts the values; raises
    OverflowError above MOST_VALUES, RecursionError for an alias of what it stands in."""
    if next(made) > MOST_VALUES:
        raise OverflowError
    if isinstance(value, dict):
        return {_joined(str(key)): _plain(item, made) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(item, made) for item in value]
    if isinstance(value, str):
        return _joined(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if value.bit_length() <= LONGEST_NUMBER else "inf"
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else str(value)
    return str(value)


def parse_overrides(overrides: dict[str, str]) -> dict[str, Any]:
    """Values of KEY=VALUE arguments, read as a YAML value would be: `cutoff_len=512` is a number, `bf16=false` a bool."""
    if not overrides:
        return {}
    import yaml

    values = {}
    for key, text in overrides.items():
        try:
            value = _plain(yaml.safe_load(text), count(1))
            values[key] = text if _no_text(value) else value
        except (yaml.YAMLError, ValueError, OverflowError, RecursionError):
            values[key] = text
    return values
