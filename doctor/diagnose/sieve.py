"""A few short pieces that stand for thousands of words.

A block of a log that holds none of a hundred pieces holds none of the words that are made of them, and a hundred pieces
are searched for several times faster than thousands of words. Which pieces is found by a greedy cover: the piece that
the most words hold, then the one that the most of the rest hold, and so on.
"""

from __future__ import annotations

import heapq
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

from knowledge_base.words import EVERYDAY

MOST = 96  # pieces; with more of them the search slows down, whatever the number of words
LENGTHS = (4, 5, 6)  # bytes; shorter ones occur everywhere, longer ones in few words
READ = 48  # bytes of a word in which pieces are looked for
DIGIT, DIGITS = re.compile(rb"\d"), re.compile(rb"\d+")
PLAIN, LOOSE = EVERYDAY.encode(), EVERYDAY.lower().encode()
ANY_DIGIT = DIGIT.sub(b"0", PLAIN)

Form = tuple[bytes, bool]


def cover(forms: Iterable[Form], always: frozenset[Form]) -> list[Form]:
    """Pieces of which every form of `always` holds one, and of the other forms as many as MOST pieces can cover.

    No piece is everyday talk of a training log; a form that has no other is its own piece. The few forms that stay
    uncovered are messages of one kind each; a failure says so in other words too, by which its place is found.
    """
    every = list(forms)
    holders: defaultdict[Form, list[int]] = defaultdict(list)  # piece -> numbers of the forms that hold it
    chosen: list[Form] = []
    left: set[int] = set()
    for number, form in enumerate(every):
        parts = _parts(form)
        if parts:
            left.add(number)
        elif form in always:
            chosen.append(form)
        for part in parts:
            holders[part].append(number)
    chosen += _greedy(holders, left, MOST - len(chosen))
    must = {number for number in left if every[number] in always}
    return chosen + _greedy({part: its for part, its in holders.items() if not must.isdisjoint(its)}, must, len(must))


def _greedy(holders: Mapping[Form, list[int]], left: set[int], most: int) -> list[Form]:
    """At most `most` pieces, each the one that the most forms of `left` hold; what they hold is taken out of `left`.
    Of pieces that equally many hold the longest is found in the least other text."""
    chosen: list[Form] = []
    heap = [(-len(its), -len(part[0]), part) for part, its in holders.items()]
    heapq.heapify(heap)
    while left and heap and len(chosen) < most:
        worth, length, part = heapq.heappop(heap)
        now = -sum(number in left for number in holders[part])
        if now == worth:
            chosen.append(part)
            left.difference_update(holders[part])
        elif now:
            heapq.heappush(heap, (now, length, part))
    return chosen


def _parts(form: Form) -> set[Form]:
    """Pieces of the form that are not everyday talk: without digits, or where it has none, eight bytes as they are.

    Of these the last four are new too: a search that meets the end of a piece on every line is slow."""
    text, loose = form
    everyday = LOOSE if loose else PLAIN
    parts = {
        part
        for run in DIGITS.split(text[:READ])
        for length in LENGTHS
        for start in range(len(run) - length + 1)
        if (part := run[start : start + length]) not in everyday
    } or {
        text[end - 8 : end] for end in range(8, len(text) + 1) if DIGIT.sub(b"0", text[end - 4 : end]) not in ANY_DIGIT
    }
    return {(part, loose) for part in parts}
