"""One fast pass over a log that keeps only the stretches worth reading.

A training log is millions of progress lines around a few hundred that matter. The pass searches every block for a set
of words (what the signatures cannot match without, and how failures begin) with Hyperscan's literal matcher, or with
one RE2 automaton where Hyperscan has no wheel, and keeps the text around the hits. A short log is kept whole.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from doctor.diagnose.read import Stream

WHOLE = 1 << 20  # bytes; a log up to this is kept whole
BEFORE, AFTER = 24_000, 12_000  # bytes kept around a hit: a deep traceback of eight interleaved ranks is about 20 kB
HEAD, TAIL = 32_000, 96_000  # always kept: the versions and arguments printed at the start, how it ended
FIRST, LAST = 2 << 20, 3 << 20  # bytes of stretches kept from the start and from the end of a log full of hits


@dataclass
class Stretch:
    """Consecutive text of a log. `line` is the number of its first line, 0 until `locate` has counted; `joined` tells
    that nothing was left out between it and the stretch before."""

    text: bytes
    line: int
    block: int = 0
    offset: int = 0
    joined: bool = False


@dataclass
class Scan:
    """What was kept of one log, in its order. `skipped` tells that stretches between were dropped as too many."""

    stream: Stream
    stretches: list[Stretch]
    size: int
    skipped: bool = False
    located: bool = True

    def locate(self) -> None:
        """Count the lines before each stretch of a file that was scanned without counting (it costs half the pass)."""
        if self.located:
            return
        waiting = deque(self.stretches)
        lines = 0
        for number, block in enumerate(self.stream.open()):
            while waiting and waiting[0].block == number:
                stretch = waiting.popleft()
                stretch.line = lines + block.count(b"\n", 0, stretch.offset) + 1
            if not waiting:
                break
            lines += block.count(b"\n")
        self.located = True


class Words:
    """A set of literal words, compiled to search blocks of bytes for all of them at once."""

    def __init__(self, exact: Iterable[str], any_case: Iterable[str] = ()) -> None:
        self.exact = sorted({form for word in exact for form in _forms(word)})
        self.any_case = sorted({form for word in any_case for form in _forms(word)})

    def hits(self, block: bytes) -> list[int]:
        """Offsets just behind hits, ascending; every word that occurs in the block has at least one among them, or
        lies within AFTER bytes behind one."""
        return self._search(block)

    @cached_property
    def _search(self) -> Callable[[bytes], list[int]]:
        try:
            return _hyperscan(self.exact, self.any_case)
        except ImportError:
            return _re2(self.exact, self.any_case)


def _forms(word: str) -> Iterator[bytes]:
    yield word.encode()
    if not word.isascii():
        yield word.encode("gb18030")


def _hyperscan(exact: list[bytes], any_case: list[bytes]) -> Callable[[bytes], list[int]]:
    import hyperscan

    words = [*exact, *any_case]
    single, caseless = hyperscan.HS_FLAG_SINGLEMATCH, hyperscan.HS_FLAG_SINGLEMATCH | hyperscan.HS_FLAG_CASELESS
    database = hyperscan.Database()
    database.compile(
        expressions=words,
        ids=list(range(len(words))),
        elements=len(words),
        flags=[single] * len(exact) + [caseless] * len(any_case),
        literal=True,
    )
    scratch = hyperscan.Scratch(database)

    def search(block: bytes) -> list[int]:
        found: list[int] = []
        database.scan(block, match_event_handler=lambda _id, _from, to, _flags, _context: found.append(to), scratch=scratch)
        return sorted(found)

    return search


def _re2(exact: list[bytes], any_case: list[bytes]) -> Callable[[bytes], list[int]]:
    import re2

    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.max_mem = 256 << 20
    options.never_capture = True
    parts = [re2.escape(word) for word in exact]
    if any_case:
        parts.append(b"(?i:" + b"|".join(re2.escape(word) for word in any_case) + b")")
    automaton = re2.compile(b"|".join(parts), options=options)

    def search(block: bytes) -> list[int]:
        found, start = [], 0
        while match := automaton.search(block, start):
            found.append(match.end())
            start = match.end() + AFTER // 2
        return found

    return search


class _Kept:
    """Stretches within a fixed budget: the first ones, and the last ones once the first are full."""

    def __init__(self) -> None:
        self.first: list[Stretch] = []
        self.last: deque[Stretch] = deque()
        self.first_size = self.last_size = 0
        self.skipped = False
        self.end = (0, 0, 0)  # block, offset behind the newest stretch, length of that block

    def reaches(self, number: int, start: int) -> bool:
        """Whether the newest stretch ends where one at (number, start) begins."""
        block, end, length = self.end
        return (number, start) == (block, end) or (start == 0 and end == length and number == block + 1)

    def add(self, stretch: Stretch) -> None:
        if self.first_size < FIRST:
            self.first.append(stretch)
            self.first_size += len(stretch.text)
            return
        self.last.append(stretch)
        self.last_size += len(stretch.text)
        while self.last_size > LAST:
            self.last_size -= len(self.last.popleft().text)
            self.skipped = True


def scan(stream: Stream, words: Words) -> Scan:
    """Read the stream once. Raises UnreadableLog."""
    blocks = stream.open()
    begun: list[bytes] = []
    size = 0
    for block in blocks:
        begun.append(block)
        size += len(block)
        if size > WHOLE:
            break
    else:
        return Scan(stream, [Stretch(b"".join(begun), 1)], size)
    return _long(stream, words, _again(begun, blocks))


def _again(begun: list[bytes], rest: Iterator[bytes]) -> Iterator[bytes]:
    yield from begun
    yield from rest


@dataclass
class _Block:
    """One block on its way through the pass. `kept_to` is the offset up to which it is kept already."""

    text: bytes
    number: int
    line: int
    kept_to: int = 0


def _long(stream: Stream, words: Words, blocks: Iterator[bytes]) -> Scan:
    kept = _Kept()
    counting = not stream.rereadable
    line, size = 1, 0
    recent: deque[_Block] = deque(maxlen=2)  # what may still be wanted because of what comes after it
    pending = HEAD  # bytes of the coming block that are wanted because of what came before
    for number, text in enumerate(blocks):
        block = _Block(text, number, line)
        wanted = [(0, pending)] if pending else []
        wanted += [(hit - BEFORE, hit + AFTER) for hit in words.hits(text)]
        pending = 0
        for start, end in wanted:
            if start < 0 and recent:
                _keep(kept, recent[-1], len(recent[-1].text) + start, len(recent[-1].text), counting)
            pending = max(pending, end - len(text))
            _keep(kept, block, start, end, counting)
        recent.append(block)
        size += len(text)
        if counting:
            line += text.count(b"\n")
    last = len(recent[-1].text)
    if last < TAIL and len(recent) > 1:
        _keep(kept, recent[0], len(recent[0].text) - (TAIL - last), len(recent[0].text), counting)
    _keep(kept, recent[-1], last - TAIL, last, counting)
    return Scan(stream, [*kept.first, *kept.last], size, skipped=kept.skipped, located=counting)


def _keep(kept: _Kept, block: _Block, start: int, end: int, counting: bool) -> None:
    """Keep block.text[start:end] as far as it is not kept yet, widened to whole lines where lines are short."""
    text = block.text
    start, end = max(start, block.kept_to), min(end, len(text))
    if start >= end:
        return
    if start > block.kept_to:
        start = max(block.kept_to, text.rfind(b"\n", max(0, start - 4096), start) + 1 or start)
    if end < len(text):
        end = text.find(b"\n", end, end + 4096) + 1 or end
    line = block.line + text.count(b"\n", 0, start) if counting else 0
    kept.add(Stretch(text[start:end], line, block.number, start, joined=kept.reaches(block.number, start)))
    kept.end, block.kept_to = (block.number, end, len(text)), end
