"""Lines → signatures that fit.

A signature is tried only on lines that hold one of the words it cannot match without, so the cost hardly depends on how
many causes are known. The engine is RE2: its time is linear in the text, whatever the pattern.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache
from itertools import accumulate
from typing import Any

import re2

from doctor.diagnose.lines import Line
from knowledge_base.index import Index, Pattern, Sign

TRIED = 400  # lines that one pattern is tried on; an error printed ten thousand times says nothing new
KEPT = 40  # matches of one signature
WRAPPED_OVER = 4  # lines that one message may be wrapped over
BOX = re.compile(r"^\s*[│|]\s?|\s*[│|]\s*$")


class How(IntEnum):
    """How literally a signature was found; a weaker way is tried only when nothing was found by the stronger one."""

    LINE = 0
    WRAPPED = 1  # in lines joined to one: a message wrapped by a terminal, a chat or a box
    ANY_CASE = 2  # the log was typed in small letters


@dataclass(frozen=True)
class Match:
    """`sign` fits the line at `index`; `groups` are the pattern's named groups that took part."""

    sign: Sign
    index: int
    groups: dict[str, str] = field(default_factory=dict)
    how: How = How.LINE


def matches(lines: list[Line], index: Index) -> list[Match]:
    """Every signature that fits, with all the lines it fits (at most KEPT), in the order of the lines."""
    for how in How:
        corpus = _Corpus(lines, how)
        found = [match for sign in index.signs for match in corpus.search(sign)]
        if found:
            return sorted(found, key=lambda match: match.index)
    return []


class _Corpus:
    """The text in one of the three ways, with the means to find words in it and the lines they are in."""

    def __init__(self, lines: list[Line], how: How) -> None:
        self.how = how
        if how is How.WRAPPED:
            self.texts = [_joined(lines, i) for i in range(len(lines))]
        else:
            self.texts = [line.text for line in lines]
        self.text = "\n".join(self.texts)
        self.lower: str | None = None
        self.starts = [0, *accumulate(len(text) + 1 for text in self.texts)]
        self.holds: dict[Pattern, bool] = {}

    def search(self, sign: Sign) -> list[Match]:
        found = []
        for index, match in self._fits(sign.pattern):
            if not found and not self._allowed(sign):
                return []
            groups = {name: value for name, value in match.groupdict().items() if value is not None}
            found.append(Match(sign, index, groups, self.how))
            if len(found) == KEPT:
                break
        return found

    def _allowed(self, sign: Sign) -> bool:
        return all(map(self._somewhere, sign.with_)) and not any(map(self._somewhere, sign.without))

    def _somewhere(self, pattern: Pattern) -> bool:
        if pattern not in self.holds:
            self.holds[pattern] = next(self._fits(pattern), None) is not None
        return self.holds[pattern]

    def _fits(self, pattern: Pattern) -> Iterator[tuple[int, Any]]:
        tried = 0
        regex = None
        for index in self._candidates(pattern):
            regex = regex or compiled(pattern.regex, self.how is How.ANY_CASE)
            match = regex.search(self.texts[index])
            if match is not None:
                yield index, match
            tried += 1
            if tried == TRIED:
                return

    def _candidates(self, pattern: Pattern) -> Iterator[int]:
        """Indexes of the lines that hold a word of the pattern, ascending for each word."""
        if not pattern.words:
            yield from range(len(self.texts))
            return
        loose = pattern.any_case or self.how is How.ANY_CASE
        if loose and self.lower is None:
            self.lower = "\n".join(_lower(text) for text in self.texts)
        text = self.lower if loose and self.lower is not None else self.text
        seen: set[int] = set()
        for word in pattern.words:
            word = word.lower() if loose else word
            at = text.find(word)
            while at >= 0:
                index = bisect_right(self.starts, at) - 1
                if index not in seen:
                    seen.add(index)
                    yield index
                at = text.find(word, self.starts[index + 1])


def _lower(text: str) -> str:
    """Small letters, and never another length: positions must stay true."""
    lower = text.lower()
    return lower if len(lower) == len(text) else "".join(c.lower() if len(c.lower()) == 1 else c for c in text)


def _joined(lines: list[Line], start: int) -> str:
    """A line and what may be its continuation, as one line with single spaces."""
    first = lines[start]
    parts = []
    for line in lines[start : start + WRAPPED_OVER]:
        if (line.log, line.lane) != (first.log, first.lane) or not line.text.strip():
            break
        parts.append(BOX.sub("", line.text[:2000]))
    return " ".join(" ".join(parts).split())


@lru_cache(maxsize=4096)
def compiled(pattern: str, any_case: bool = False) -> Any:
    """The RE2 object. Raises re2.error for what is no RE2 expression."""
    options = re2.Options()
    options.case_sensitive = not any_case
    options.log_errors = False
    return re2.compile(pattern, options=options)
