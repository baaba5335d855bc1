"""One fast pass over a log that keeps only the stretches worth reading.

A training log is millions of progress lines around a few hundred that matter. The pass searches every block for a set
of words (what the signatures cannot match without, and how failures begin) with Hyperscan's literal matcher, or with
one RE2 automaton where Hyperscan has no wheel, and keeps the text around the hits. A short log is kept whole.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from doctor.diagnose.databases import Form, Tables, database, tables

if TYPE_CHECKING:
    from doctor.diagnose.read import Stream  # which needs lines, and lines this

WHOLE = 1 << 20  # bytes; a log up to this is kept whole
BEFORE, AFTER = 24_000, 12_000  # bytes kept around a hit: a deep traceback of eight interleaved ranks is about 20 kB
HEAD, TAIL = 32_000, 192_000  # always kept: the versions and arguments printed at the start, how it ended
FIRST, LAST = 2 << 20, 2 << 20  # bytes of stretches kept from the start and from the end of a log full of hits
OFTEN = 24  # blocks
SEAM = 256  # bytes looked at on both sides of where two blocks meet; longer than any word


@dataclass
class Stretch:
    """Consecutive text of a log. `line` is the number of its first line; `joined` tells that nothing was left out
    between it and the stretch before."""

    text: bytes
    line: int
    joined: bool = False


@dataclass
class Scan:
    """What was kept of one log, in its order. `skipped` tells that stretches between were dropped as too many."""

    stream: Stream
    stretches: list[Stretch]
    size: int
    skipped: bool = False


class Words:
    """A set of literal words, compiled to search blocks of bytes for all of them at once.

    A word that is found in block after block is everyday talk of this log (or its one error, told a million times):
    after OFTEN blocks it is no reason any more to keep what is around it. The end of a log is kept in any case. `quiet`
    words are no reason from the start; `always` are those that no block may be passed over with (sieve.py).
    """

    def __init__(
        self,
        exact: Iterable[str],
        any_case: Iterable[str] = (),
        quiet: frozenset[str] = frozenset(),
        always: frozenset[str] = frozenset(),
    ) -> None:
        self.quiet, self.always = quiet, always
        self.of_form: dict[Form, str] = {
            (form, loose): word
            for words, loose in ((exact, False), (any_case, True))
            for word in sorted(words)
            for form in _forms(word)
        }
        self.often: Counter[str] = Counter()
        self.origin: Words | None = None

    def afresh(self) -> Words:
        """The same words for another log, of which nothing is everyday talk yet."""
        other = copy(self)
        other.often, other.origin = Counter(), self
        return other

    def hits(self, block: bytes) -> list[int]:
        """Offsets just behind hits, ascending. Every word that occurs in the block, and is not everyday talk, has one
        of its hits among them or within AFTER bytes behind one."""
        found = []
        for word, end in self._search(block):
            if word not in self.quiet and self.often[word] <= OFTEN:
                found.append(end)
                self.often[word] += 1
        return sorted(found)

    def present(self, text: bytes) -> set[str]:
        """The words that occur in a text, the quiet ones too."""
        if self._tables is not None:
            return {word for word, _ in self._all(text)}
        lower = text.lower()
        return {word for (form, loose), word in self.of_form.items() if form in (lower if loose else text)}

    @cached_property
    def _tables(self) -> Tables | None:
        if self.origin is not None:
            return self.origin._tables
        forms = tuple(self.of_form)
        wanted = tuple(form for form in forms if self.of_form[form] not in self.quiet)
        return tables(forms, wanted, frozenset(form for form in wanted if self.of_form[form] in self.always))

    @cached_property
    def _all(self) -> Search:
        """Finds the first of every form in a text."""
        assert self._tables is not None
        database, scratch = self._tables.words
        word_of = list(self.of_form.values())

        def search(block: bytes) -> list[tuple[str, int]]:
            found: list[tuple[str, int]] = []

            def hit(number: int, _from: int, to: int, _flags: int, _context: object) -> None:
                found.append((word_of[number], to))

            database.scan(block, match_event_handler=hit, scratch=scratch)
            return found

        return search

    @cached_property
    def _search(self) -> Search:
        if self._tables is None:
            return self._with_re2()
        sieve = _Sieve(self._tables, {form: word for form, word in self.of_form.items() if word not in self.quiet})

        def search(block: bytes) -> list[tuple[str, int]]:
            caught = sieve.catch(block)
            if caught is None:
                return []
            found = self._all(block)
            sieve.learn(caught, {word for word, _ in found}, {word for word, n in self.often.items() if n >= OFTEN})
            return found

        return search

    def _with_re2(self) -> Search:
        """The same by one automaton, at a third of the speed; compiled anew when a word has become everyday talk."""
        import re2

        options = re2.Options()
        options.encoding = re2.Options.Encoding.LATIN1
        options.max_mem = 256 << 20
        options.never_capture = True
        state: dict[str, Any] = {"everyday": -1}

        def search(block: bytes) -> list[tuple[str, int]]:
            everyday = sum(count > OFTEN for count in self.often.values())
            if everyday != state["everyday"]:
                parts = [
                    (b"(?i:%s)" if loose else b"%s") % re2.escape(form)
                    for (form, loose), word in self.of_form.items()
                    if word not in self.quiet and self.often[word] <= OFTEN
                ]
                state.update(everyday=everyday, automaton=re2.compile(b"|".join(parts) or rb"[^\x00-\xff]", options))
            found, start = [], 0
            while match := state["automaton"].search(block, start):
                text = match.group()
                word = self.of_form.get((text, False)) or self.of_form.get((text.lower(), True), "")
                found.append((word, match.end()))
                start = match.end() + AFTER // 2
            return found

        return search


Search = Callable[[bytes], list[tuple[str, int]]]


class _Sieve:
    """Tells quickly that a block has none of the words: it holds none of the pieces that they are made of."""

    def __init__(self, made: Tables, word_of: dict[Form, str]) -> None:
        self.word_of = word_of
        self.pieces, (self.database, self.scratch) = list(made.pieces), made.sieve
        self.fruitless: Counter[Form] = Counter()

    def catch(self, block: bytes) -> Form | None:
        """A piece that the block holds, or None where it holds none."""
        import hyperscan

        caught: list[int] = []

        def hit(number: int, *_: object) -> bool:
            caught.append(number)
            return True  # enough

        with suppress(hyperscan.ScanTerminated):
            self.database.scan(block, match_event_handler=hit, scratch=self.scratch)
        return self.pieces[caught[0]] if caught else None

    def learn(self, caught: Form, found: set[str], everyday: set[str]) -> None:
        """A piece that keeps catching blocks without a word that matters gives way to its words, less the everyday ones."""
        held = {form for form in self.word_of if form[1] == caught[1] and caught[0] in form[0]}
        if not any(self.word_of[form] in found and self.word_of[form] not in everyday for form in held):
            self.fruitless[caught] += 1
        if self.fruitless[caught] == OFTEN:
            self.pieces.remove(caught)
            self.pieces += sorted(
                form for form in held if self.word_of[form] not in everyday and form not in self.pieces
            )
            self.database, self.scratch = database(self.pieces)


def _newlines(block: bytes) -> int:
    """Taking them out is done with memchr, four times as fast as bytes.count before Python 3.13."""
    return len(block) - len(block.replace(b"\n", b""))


def _forms(word: str) -> Iterator[bytes]:
    """The word in UTF-8, and in GBK where that differs."""
    yield word.encode()
    if not word.isascii():
        yield word.encode("gb18030")


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
    line, size = 1, 0
    recent: deque[_Block] = deque(maxlen=3)  # what may still be wanted because of what comes after it
    pending = HEAD  # bytes of the coming block that are wanted because of what came before
    for number, text in enumerate(blocks):
        block = _Block(text, number, line)
        wanted = [(0, pending)] if pending else []
        wanted += [(hit - BEFORE, hit + AFTER) for hit in _hits(words, recent, text)]
        pending = 0
        for start, end in wanted:
            if start < 0 and recent:
                _keep(kept, recent[-1], len(recent[-1].text) + start, len(recent[-1].text))
            pending = max(pending, end - len(text))
            _keep(kept, block, start, end)
        recent.append(block)
        size += len(text)
        line += _newlines(text)
    left = TAIL
    starts = []
    for block in reversed(recent):
        starts.append((block, len(block.text) - left))
        left = max(0, left - len(block.text))
    for block, start in reversed(starts):
        _keep(kept, block, start, len(block.text))
    return Scan(stream, [*kept.first, *kept.last], size, skipped=kept.skipped)


def _hits(words: Words, recent: deque[_Block], text: bytes) -> list[int]:
    """Offsets behind the hits in a block; a word that begins in the block before counts as at the beginning of this."""
    hits = words.hits(text)
    if recent:
        before = recent[-1].text[-SEAM:]
        hits = [max(0, hit - len(before)) for hit in words.hits(before + text[:SEAM])] + hits
    return hits


def _keep(kept: _Kept, block: _Block, start: int, end: int) -> None:
    """Keep block.text[start:end] as far as it is not kept yet, widened to whole lines where lines are short."""
    text = block.text
    start, end = max(start, block.kept_to), min(end, len(text))
    if start >= end:
        return
    if start > block.kept_to:
        start = max(block.kept_to, text.rfind(b"\n", max(0, start - 4096), start) + 1 or start)
    if end < len(text):
        end = text.find(b"\n", end, end + 4096) + 1 or end
    line = block.line + _newlines(text[:start])
    kept.add(Stretch(text[start:end], line, joined=kept.reaches(block.number, start)))
    kept.end, block.kept_to = (block.number, end, len(text)), end
