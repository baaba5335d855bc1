"""The literal words that a text must hold for a pattern to match in it.

Searching a long log for hundreds of patterns is slow; searching it for the words that they cannot match without is
fast. `required` finds, for one RE2 pattern, a set of words of which at least one must occur wherever the pattern
matches.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

# The parser of Python's own `re`: private, but the only one that gives a syntax tree, and patterns that it cannot read
# merely have no words (they are then tried on every line, which tests/knowledge_base/test_drift.py forbids).
if sys.version_info >= (3, 11):
    from re import _parser as parser  # type: ignore[attr-defined]
else:
    import sre_parse as parser

SHORTEST = 4  # characters; a shorter word occurs everywhere
MOST = 12  # alternatives; more of them are no help
ANY_CASE = re.compile(r"\(\?[a-zA-Z]*i[a-zA-Z]*[:)-]")

Words = tuple[str, ...]


def any_case(pattern: str) -> bool:
    """Whether the pattern, or a part of it, ignores case."""
    return ANY_CASE.search(pattern) is not None


def required(pattern: str) -> Words:
    """Words of which one must occur in a match; empty when the pattern demands none of a useful length.

    Lower case when the pattern ignores case.
    """
    try:
        tree = parser.parse(pattern)
    except (re.error, OverflowError):
        return ()
    words = _best(_candidates(tree))
    return tuple(sorted({word.lower() for word in words})) if any_case(pattern) else words


def _best(candidates: Iterable[Words]) -> Words:
    useful = [words for words in candidates if words and len(words) <= MOST and min(map(len, words)) >= SHORTEST]
    return max(useful, key=lambda words: (min(map(len, words)) - 2 * len(words), words), default=())


def _candidates(tree: Sequence[tuple[Any, Any]]) -> list[Words]:
    """Every set of words that the sequence demands: runs of literals, and what its parts demand."""
    found: list[Words] = []
    run = ""
    for op, value in tree:
        name = str(op)
        if name == "LITERAL":
            run += chr(value)
            continue
        if name == "SUBPATTERN" and (inner := _plain(value[3])) is not None:
            run += inner
            continue
        found.append((run,))
        run = ""
        if name == "SUBPATTERN":
            found.extend(_candidates(value[3]))
        elif name == "BRANCH":
            branches = [_best(_candidates(branch)) for branch in value[1]]
            if all(branches):
                found.append(tuple(sorted({word for words in branches for word in words})))
        elif name in ("MAX_REPEAT", "MIN_REPEAT") and value[0] >= 1:
            found.extend(_candidates(value[2]))
    return [*found, (run,)]


def _plain(tree: Sequence[tuple[Any, Any]]) -> str | None:
    """The text of a group that holds nothing but literals."""
    return "".join(chr(value) for _, value in tree) if all(str(op) == "LITERAL" for op, _ in tree) else None
