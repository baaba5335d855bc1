"""Lines as one text that native searches can run over, with the way back from a place in it to the line."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import Any

import re2

FEW = 1 << 11  # bytes that are searched faster than they are cut into grams
GRAM = 5


class Corpus:
    """The texts of lines, joined by newlines and encoded once."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts
        encoded = [text.encode() for text in texts]
        self.data = b"\n".join(encoded)
        self.starts = [0, *accumulate(len(piece) + 1 for piece in encoded)]

    @cached_property
    def small_letters(self) -> bytes:
        """The same with ASCII in small letters; places are the same."""
        return self.data.lower()

    def may_hold(self, word: str) -> bool:
        """False: the word is not there in any case; True is no promise. Cheaper than to search for thousands of words."""
        begin = word.encode().lower()[:GRAM]
        return len(self.data) < FEW or len(begin) < GRAM or begin in self._grams

    @cached_property
    def _grams(self) -> frozenset[bytes]:
        text = self.small_letters
        return frozenset(text[at : at + GRAM] for at in range(len(text) - GRAM + 1))

    def lines_with(self, words: Iterable[str], any_case: bool = False) -> Iterator[int]:
        """Indexes of the lines that hold one of the words, each once; ascending for each word."""
        data = self.small_letters if any_case else self.data
        seen: set[int] = set()
        for word in words:
            wanted = word.encode().lower() if any_case else word.encode()
            at = data.find(wanted)
            while at >= 0:
                index = bisect_right(self.starts, at) - 1
                if index not in seen:
                    seen.add(index)
                    yield index
                at = data.find(wanted, self.starts[index + 1])

    def lines_matching(self, pattern: str) -> Iterator[int]:
        """Indexes of the lines in which the RE2 expression matches, ascending. `^` and `$` are the line's ends."""
        search = over_lines(pattern).search
        at = 0
        while at <= len(self.data) and (match := search(self.data, at)):
            index = bisect_right(self.starts, match.start()) - 1
            yield index
            at = self.starts[index + 1]


@lru_cache(maxsize=64)
def over_lines(pattern: str) -> Any:
    options = re2.Options()
    options.never_nl = False
    options.max_mem = 64 << 20
    return re2.compile(b"(?m)" + pattern.encode(), options=options)


@lru_cache(maxsize=4096)
def compiled(pattern: str, any_case: bool = False) -> Any:
    """The RE2 object for one line of text. Raises re2.error for what is no RE2 expression."""
    options = re2.Options()
    options.case_sensitive = not any_case
    options.log_errors = False
    return re2.compile(pattern, options=options)
