"""Reads JSON that people edited by hand: every fault with its line and column, and what was meant as far as it is clear.

`json.load` stops at the first fault and names the place after it. This reader goes on, so that one pass names all
faults and the rest of the file can still be judged. What is strict JSON to Python is strict here: a document without a
fatal problem is exactly one that `json.loads` takes.
"""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_left
from typing import Any

import msgspec

DEEPEST = 100  # levels; the files read here have four
KEPT_LEVELS = 4  # lines are kept for keys down to this level

# Kinds of problem. Duplicate keys are legal JSON (the last one wins), so they alone are not fatal.
BOM = "byte order mark"
COMMENT = "comment"
TRAILING_COMMA = "trailing comma"
MISSING_COMMA = "missing comma"
SINGLE_QUOTES = "single quotes"
PYTHON_LITERAL = "Python literal"
FULL_WIDTH = "full-width punctuation"
CONTROL_CHARACTER = "control character in a string"
TRUNCATED = "truncated"
EXTRA_DATA = "text after the end"
SYNTAX = "syntax"
DUPLICATE_KEY = "duplicate key"
# Kinds of which only one repair is possible.
CLEAR = (BOM, COMMENT, TRAILING_COMMA, SINGLE_QUOTES, PYTHON_LITERAL, FULL_WIDTH)

_BLANK = re.compile(r"[ \t\r\n]+")
_COMMENT = re.compile(r"//[^\n]*|#[^\n]*|/\*.*?(?:\*/|\Z)", re.S)
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"', re.S)
_QUOTED_OTHERWISE = re.compile(r"'((?:[^'\\\n]|\\.)*)'|[“”＂]([^“”＂\n]*)[“”＂]")
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?")
_WORD = re.compile(r"[A-Za-z_]\w*|-Infinity")
_WORDS = {"true": True, "false": False, "null": None, "NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_PYTHON_WORDS = {"True": True, "False": False, "None": None}
_FULL_WIDTH = {"，": ",", "：": ":", "｛": "{", "｝": "}", "［": "[", "］": "]"}


class Problem(msgspec.Struct, frozen=True):
    """One fault: its kind, where it stands (1-based line and column) and the text at fault."""

    kind: str
    line: int
    column: int
    text: str

    @property
    def fatal(self) -> bool:
        return self.kind != DUPLICATE_KEY


class Document(msgspec.Struct, frozen=True):
    """`value` as it was meant (None where nothing could be read), `lines` of keys: `("entry", "file_name")` -> line."""

    value: Any
    problems: tuple[Problem, ...]
    lines: dict[tuple[str, ...], int]

    @property
    def error(self) -> Problem | None:
        """The first problem that makes `json.load` refuse the file."""
        return next((p for p in self.problems if p.fatal), None)


class _Stop(Exception):
    """Raised inside the parser where it cannot tell what was meant."""


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.problems: list[Problem] = []
        self.lines: dict[tuple[str, ...], int] = {}
        self.outermost: dict[str, Any] | None = None  # what was read before a fault that stops the parser
        self.newlines = [found.start() for found in re.finditer("\n", text)]

    def line(self, at: int) -> int:
        return bisect_left(self.newlines, at) + 1

    def note(self, kind: str, at: int, text: str) -> None:
        line = self.line(at)
        column = at - (self.newlines[line - 2] + 1 if line > 1 else 0) + 1
        self.problems.append(Problem(kind, line, column, text[:60]))

    def stop(self, kind: str = SYNTAX) -> _Stop:
        at = min(self.at, len(self.text))
        line_end = self.text.find("\n", at)
        self.note(kind, at, self.text[at : line_end if line_end >= 0 else len(self.text)])
        return _Stop()

    def blank(self) -> None:
        while True:
            if found := _BLANK.match(self.text, self.at):
                self.at = found.end()
            elif found := _COMMENT.match(self.text, self.at):
                self.note(COMMENT, self.at, found[0])
                self.at = found.end()
            else:
                return

    def peek(self) -> str:
        """The next character that counts; a full-width one is noted once and read as the ASCII one."""
        self.blank()
        if self.at >= len(self.text):
            raise self.stop(TRUNCATED)
        return _FULL_WIDTH.get(self.text[self.at], self.text[self.at])

    def take(self) -> None:
        if self.text[self.at] in _FULL_WIDTH:
            self.note(FULL_WIDTH, self.at, self.text[self.at])
        self.at += 1

    def string(self) -> str:
        if found := _STRING.match(self.text, self.at):
            at, self.at = self.at, found.end()
            if control := re.search(r"[\x00-\x1f]", found[1]):
                self.note(CONTROL_CHARACTER, at + 1 + control.start(), repr(control[0]))
            try:
                return str(json.loads(found[0], strict=False))
            except ValueError:
                self.note(SYNTAX, at, found[0])
                return found[1]
        if found := _QUOTED_OTHERWISE.match(self.text, self.at):
            self.note(SINGLE_QUOTES if found[0][0] == "'" else FULL_WIDTH, self.at, found[0])
            self.at = found.end()
            return found[1] if found[1] is not None else found[2]
        raise self.stop(TRUNCATED if self.text[self.at] == '"' else SYNTAX)

    def value(self, path: tuple[str, ...]) -> Any:
        if len(path) > DEEPEST:
            raise self.stop()
        first = self.peek()
        if first == "{":
            return self.mapping(path)
        if first == "[":
            return self.sequence(path)
        if first in "\"'“”＂":
            return self.string()
        if found := _WORD.match(self.text, self.at):
            if found[0] in _WORDS:
                self.at = found.end()
                return _WORDS[found[0]]
            if found[0] in _PYTHON_WORDS:
                self.note(PYTHON_LITERAL, self.at, found[0])
                self.at = found.end()
                return _PYTHON_WORDS[found[0]]
        elif found := _NUMBER.match(self.text, self.at):
            self.at = found.end()
            whole = found[0].lstrip("-").isdigit()
            return int(found[0]) if whole and len(found[0]) < 400 else float(found[0])
        raise self.stop()

    def separator(self, closing: str) -> bool:
        """After an item: True when another follows. Notes a missing comma and a trailing one."""
        nothing_between = self.at
        found = self.peek()
        if found == closing:
            self.take()
            return False
        if found != ",":
            if found in "\"'“”{[" or found.isalnum() or found == "-":
                self.note(MISSING_COMMA, nothing_between, self.text[nothing_between : nothing_between + 20].strip())
                return True
            raise self.stop()
        comma = self.at
        self.take()
        if self.peek() == closing:
            self.note(TRAILING_COMMA, comma, ",")
            self.take()
            return False
        return True

    def mapping(self, path: tuple[str, ...]) -> dict[str, Any]:
        self.take()
        result: dict[str, Any] = {}
        if self.outermost is None and not path:
            self.outermost = result
        if self.peek() == "}":
            self.take()
            return result
        while True:
            self.peek()
            key_at = self.at
            key = self.string()
            inner = (*path, key)
            if key in result:
                self.note(DUPLICATE_KEY, key_at, key)
            if len(inner) <= KEPT_LEVELS:
                self.lines[inner] = self.line(key_at)
            if self.peek() != ":":
                raise self.stop()
            self.take()
            result[key] = None  # so that a document cut off here keeps the key
            result[key] = self.value(inner)
            if not self.separator("}"):
                return result

    def sequence(self, path: tuple[str, ...]) -> list[Any]:
        self.take()
        result: list[Any] = []
        if self.peek() == "]":
            self.take()
            return result
        while True:
            result.append(self.value((*path, str(len(result)))))
            if not self.separator("]"):
                return result


def parse(text: str) -> Document:
    """Read `text`. Never raises: what cannot be understood is a problem of the kind `syntax` or `truncated`."""
    parser = _Parser(text)
    if text.startswith("\ufeff"):
        parser.note(BOM, 0, "BOM")
        parser.at = 1
    value: Any = None
    try:
        value = parser.value(())
        parser.blank()
        if parser.at < len(text):
            parser.stop(EXTRA_DATA)
    except _Stop:
        value = value if value is not None else parser.outermost
    return Document(value, _agreed(text, parser.problems), parser.lines)


def _agreed(text: str, problems: list[Problem]) -> tuple[Problem, ...]:
    """The problems, brought into agreement with `json.loads`, which is what LLaMA-Factory will ask."""
    try:
        json.loads(text)
    except RecursionError:
        return (*problems, Problem(SYNTAX, 1, 1, "nested too deep"))
    except json.JSONDecodeError as error:
        if not any(p.fatal for p in problems):
            problems.append(Problem(SYNTAX, error.lineno, error.colno, error.msg))
        return tuple(problems)
    except ValueError as error:  # an integer of more digits than Python converts
        return (*problems, Problem(SYNTAX, 1, 1, str(error)[:60]))
    return tuple(p for p in problems if not p.fatal)
