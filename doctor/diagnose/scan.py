"""One fast pass over a log that keeps only the stretches worth reading.

A training log is millions of progress lines around a few hundred that matter. The pass searches every block for a set
of words (what the signatures cannot match without, and how failures begin) with Hyperscan's literal matcher, or with
one RE2 automaton where Hyperscan has no wheel, and keeps the text around the hits. A short log is kept whole.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from doctor.diagnose.read import Stream
from knowledge_base.words import pieces

WHOLE = 1 << 20  # bytes; a log up to this is kept whole
BEFORE, AFTER = 24_000, 12_000  # bytes kept around a hit: a deep traceback of eight interleaved ranks is about 20 kB
HEAD, TAIL = 32_000, 192_000  # always kept: the versions and arguments printed at the start, how it ended
FIRST, LAST = 2 << 20, 2 << 20  # bytes of stretches kept from the start and from the end of a log full of hits
OFTEN = 24  # blocks
SEAM = 256  # bytes looked at on both sides of where two blocks meet; longer than any word


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
    """A set of literal words, compiled to search blocks of bytes for all of them at once.

    A word that is found in block after block is everyday talk of this log (or its one error, told a million times):
    after OFTEN blocks it is no reason any more to keep what is around it. The end of a log is kept in any case. `quiet`
    words are no reason from the start.
    """

    def __init__(self, exact: Iterable[str], any_case: Iterable[str] = (), quiet: frozenset[str] = frozenset()) -> None:
        self.quiet = quiet
        self.of_form: dict[tuple[bytes, bool], str] = {
            (form, loose): word
            for words, loose in ((exact, False), (any_case, True))
            for word in words
            for form in _forms(word)
        }
        self.often: Counter[str] = Counter()

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
        if self._all is not None:
            return {word for word, _ in self._all(text)}
        lower = text.lower()
        return {word for (form, loose), word in self.of_form.items() if form in (lower if loose else text)}

    @cached_property
    def _all(self) -> Search | None:
        return self._with_hyperscan(list(self.of_form))

    @cached_property
    def _search(self) -> Search:
        if self._all is None:
            return self._with_re2()
        sieve = _Sieve((form, loose, word) for (form, loose), word in self.of_form.items() if word not in self.quiet)

        def search(block: bytes) -> list[tuple[str, int]]:
            caught = sieve.catch(block)
            if caught is None or self._all is None:
                return []
            found = self._all(block)
            sieve.learn(caught, {word for word, _ in found}, {word for word, n in self.often.items() if n >= OFTEN})
            return found

        return search

    def _with_hyperscan(self, forms: list[tuple[bytes, bool]]) -> Search | None:
        """Finds the first of every form in a text; None where Hyperscan is not installed."""
        try:
            database, scratch = _database(forms)
        except ImportError:
            return None

        def search(block: bytes) -> list[tuple[str, int]]:
            found: list[tuple[str, int]] = []

            def hit(number: int, _from: int, to: int, _flags: int, _context: object) -> None:
                found.append((self.of_form[forms[number]], to))

            database.scan(block, match_event_handler=hit, scratch=scratch)
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

    def __init__(self, forms: Iterable[tuple[bytes, bool, str]]) -> None:
        forms = list(forms)
        parts = {mode: pieces((form for form, loose, _ in forms if loose is mode), mode) for mode in (False, True)}
        self.holders: dict[tuple[bytes, bool], set[tuple[bytes, str]]] = {}  # piece -> forms and words that hold it
        for form, loose, word in forms:
            self.holders.setdefault((parts[loose][form], loose), set()).add((form, word))
        self.fruitless: Counter[tuple[bytes, bool]] = Counter()
        self._compile()

    def _compile(self) -> None:
        self.pieces = list(self.holders)
        self.database, self.scratch = _database(self.pieces)

    def catch(self, block: bytes) -> tuple[bytes, bool] | None:
        """A piece that the block holds, or None where it holds none."""
        import hyperscan

        caught: list[int] = []

        def hit(number: int, *_: object) -> bool:
            caught.append(number)
            return True  # enough

        with suppress(hyperscan.ScanTerminated):
            self.database.scan(block, match_event_handler=hit, scratch=self.scratch)
        return self.pieces[caught[0]] if caught else None

    def learn(self, caught: tuple[bytes, bool], found: set[str], everyday: set[str]) -> None:
        """A piece that keeps catching blocks without a word that matters gives way to its words, less the everyday ones."""
        if not any(word in found and word not in everyday for _, word in self.holders[caught]):
            self.fruitless[caught] += 1
        if self.fruitless[caught] == OFTEN:
            for form, word in self.holders.pop(caught):
                if word not in everyday:
                    self.holders.setdefault((form, caught[1]), set()).add((form, word))
            self._compile()


def _database(forms: list[tuple[bytes, bool]]) -> tuple[Any, Any]:
    """A Hyperscan database of literals, each reported once for a scan, and its scratch. Raises ImportError."""
    import hyperscan

    database = hyperscan.Database()
    database.compile(
        expressions=[form for form, _ in forms],
        ids=list(range(len(forms))),
        elements=len(forms),
        flags=[hyperscan.HS_FLAG_SINGLEMATCH | (hyperscan.HS_FLAG_CASELESS if loose else 0) for _, loose in forms],
        literal=True,
    )
    return database, hyperscan.Scratch(database)


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
    counting = not stream.rereadable
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
                _keep(kept, recent[-1], len(recent[-1].text) + start, len(recent[-1].text), counting)
            pending = max(pending, end - len(text))
            _keep(kept, block, start, end, counting)
        recent.append(block)
        size += len(text)
        if counting:
            line += text.count(b"\n")
    left = TAIL
    starts = []
    for block in reversed(recent):
        starts.append((block, len(block.text) - left))
        left = max(0, left - len(block.text))
    for block, start in reversed(starts):
        _keep(kept, block, start, len(block.text), counting)
    return Scan(stream, [*kept.first, *kept.last], size, skipped=kept.skipped, located=counting)


def _hits(words: Words, recent: deque[_Block], text: bytes) -> list[int]:
    """Offsets behind the hits in a block; a word that begins in the block before counts as at the beginning of this."""
    hits = words.hits(text)
    if recent:
        before = recent[-1].text[-SEAM:]
        hits = [max(0, hit - len(before)) for hit in words.hits(before + text[:SEAM])] + hits
    return hits


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
