"""Repairs JSON that Python's json refuses, where only one reading is possible: trailing commas, comments, a byte-order
mark, single quotes, Python's True, False and None, full-width punctuation, a comma missing between two entries on different
lines. Anything else is refused with its line.

Only the offending characters go (or one comma comes); every other byte stays.
"""

from __future__ import annotations

import codecs
import json
import re

from fixes.edit.text import Edit, apply, decode, line_of
from fixes.errors import CannotEdit

_TOKEN = re.compile(
    r"(?P<space>[ \t\r\n]+)|(?P<comment>//[^\r\n]*|#[^\r\n]*|/\*[\s\S]*?\*/)"
    r'|(?P<string>"(?:[^"\\\x00-\x1f]|\\.)*")|(?P<mark>[{}\[\]:,])'
    r"|(?P<quoted>'(?:[^'\\\x00-\x1f]|\\.)*'|[“”＂][^“”＂\\\x00-\x1f]*[“”＂])|(?P<wide>[，：｛｝［］])|(?P<python>(?:True|False|None)\b)"
    r"|(?P<scalar>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.])|(?:true|false|null|NaN|-?Infinity)\b)"
)
_NARROW = str.maketrans("，：｛｝［］", ",:{}[]")
_PYTHON = {"True": "true", "False": "false", "None": "null"}
_VALUE_ENDS = {"string", "scalar", "}", "]"}
_VALUE_STARTS = {"string", "scalar", "{", "["}


def repair(data: bytes, name: str) -> tuple[bytes, list[str]]:
    """The repaired bytes and what was done, one line each (empty when the file is valid). Raises CannotEdit."""
    done = []
    if data.startswith(codecs.BOM_UTF8):
        data = data[len(codecs.BOM_UTF8) :]
        done.append("byte-order mark removed")
    text = decode(data, name).text
    if _error(text) is None:
        return data, done
    edits, said = _edits(text, name)
    repaired = apply(text, edits)
    if error := _error(repaired):
        # Lines do not shift: comments keep their line breaks, commas hold none.
        raise CannotEdit(f"{name} line {error.lineno} cannot be repaired safely ({error.msg}); correct it by hand.")
    return repaired.encode("utf-8"), done + said


def _error(text: str) -> json.JSONDecodeError | None:
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return error
    return None


def _edits(text: str, name: str) -> tuple[list[Edit], list[str]]:
    edits: list[Edit] = []
    said: list[str] = []
    previous, previous_end, comma = "", 0, -1  # the last token that is neither space nor comment; an open comma
    stack: list[str] = []
    for kind, start, end in _tokens(text, name):
        if kind in ("quoted", "wide", "python"):
            word, edit, kind = _as_json(kind, text[start:end])
            edits.append(Edit(start, end, edit))
            said.append(f"line {line_of(text, start)}: {word}")
        token = text[start:end].translate(_NARROW) if kind == "mark" else kind
        if kind == "space":
            continue
        if kind == "comment":
            breaks = "".join(c for c in text[start:end] if c in "\r\n")
            edits.append(Edit(start, end, breaks))
            said.append(f"line {line_of(text, start)}: comment removed")
            continue
        if token in ("}", "]") and previous == ",":
            edits = [edit for edit in edits if edit.start != comma]
            edits.append(Edit(comma, comma + 1, ""))
            said.append(f"line {line_of(text, comma)}: trailing comma removed")
        elif (
            token in _VALUE_STARTS
            and previous in _VALUE_ENDS
            and "\n" in text[previous_end:start]
            and stack
            and (stack[-1] == "[" or _is_entry(text, kind, end))
        ):
            edits.append(Edit(previous_end, previous_end, ","))
            said.append(f"line {line_of(text, previous_end)}: missing comma added")
        if token in ("{", "["):
            stack.append(token)
        elif token in ("}", "]") and stack:
            stack.pop()
        if token == ",":
            if previous == ",":
                raise CannotEdit(f"{name} line {line_of(text, start)} has two commas in a row; correct it by hand.")
            comma = start
        previous, previous_end = token, end
    return edits, said


def _as_json(kind: str, text: str) -> tuple[str, str, str]:
    """What was done, the text in JSON, and the kind of token that it is there."""
    if kind == "wide":
        return "full-width punctuation replaced", text.translate(_NARROW), "mark"
    if kind == "python":
        return f"{text} written as {_PYTHON[text]}", _PYTHON[text], "scalar"
    inner = re.sub(r"\\'", "'", text[1:-1])
    return "quotes replaced", '"' + re.sub(r'(\\.)|"', lambda found: found[1] or '\\"', inner) + '"', "string"


def _is_entry(text: str, kind: str, end: int) -> bool:
    """Whether a token in an object is a key: a string with a colon after it."""
    return kind == "string" and bool(re.compile(r"[ \t\r\n]*:").match(text, end))


def _tokens(text: str, name: str) -> list[tuple[str, int, int]]:
    found, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if not match or match.lastgroup is None:
            raise CannotEdit(
                f"{name} line {line_of(text, at)} cannot be repaired safely (at {text[at : at + 20].split()[0]!r}); "
                "correct it by hand."
            )
        found.append((match.lastgroup, at, match.end()))
        at = match.end()
    return found
