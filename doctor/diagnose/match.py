"""Lines → signatures that fit.

A signature is tried only on lines that hold one of the words it cannot match without, so the cost hardly depends on how
many causes are known. The engine is RE2: its time is linear in the text, whatever the pattern.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property, lru_cache
from itertools import islice
from typing import Any

from doctor.diagnose.corpus import Corpus, compiled
from doctor.diagnose.lines import Line
from doctor.diagnose.relations import holds
from doctor.diagnose.scan import Words
from knowledge_base.index import Index, Pattern, Sign

FEW = 1 << 15  # bytes; in more text than this the words are searched for all at once first
LOOSE_WITHIN = 1500  # lines from the end in which the looser ways are tried
TRIED = 400  # lines that one pattern is tried on; an error printed ten thousand times says nothing new
KEPT = 40  # matches of one signature
WRAPPED_OVER = 4  # lines that one message may be wrapped over
USUAL = (79, 80, 100, 120, 132)  # columns of a terminal
# What transformers and DeepSpeed tell of every run (files loaded and saved, settings printed): it meets no condition.
CHATTER = re.compile(
    r"\[INFO\|\w+\.py:\d+\].{0,40}>> (?:loading|Loading|Saving|.{0,40} saved in)"
    r"|\[[\d :,-]+\] \[INFO\] \[config\.py:\d+:print"
)
CAMEL = re.compile(r"[a-z\d][A-Z]")
WARNED = re.compile(r"(?:\S+:\d+: )?\w*Warning: ")
BOX = re.compile(r"^\s*[│|]\s?|\s*[│|]\s*$")
# Not in a class, where a quotation mark is one of several anyway. What was quoted still begins and ends there.
LOOSENED = {"`": "(?:['´\"])?", "'": r"(?:['´\"]|\b)"}
APOSTROPHE = re.compile(r"(?<=[a-z])`(?=[a-z])")  # a backtick in its place
# the quotation marks of a page, where software printed plain ones, and what an input method writes for its other marks
STRAIGHT = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "：": ": ", "，": ", ", "（": "(", "）": ")"})
WINDOWS = re.compile(r"\W*(?:File \"?)?[A-Za-z]:\\[^\"]*")  # a frame, or a line that begins with a file
BOLD = re.compile(r"(\b[A-Z]\w+\.|(?<=TypeError: ))init\(\)(?= (?:got an|missing \d|takes ))")  # Markdown ate __init__


class How(IntEnum):
    """How literally a signature was found; a weaker way is tried only where a stronger one told no cause."""

    LINE = 0
    WRAPPED = 1  # in lines joined to one: a message wrapped by a terminal, a chat or a box, or set in type by one
    UNQUOTED = 2  # a page took the backticks for its own marks, or a person typed other quotation marks or none
    ANY_CASE = 3  # the message was typed by a person; software, which writes CamelCase, spells it as it does
    BARE = 4  # the message without the exception's type, or with that of another release


@dataclass(frozen=True)
class Match:
    """`sign` fits the line at `index`; `groups` are the pattern's named groups that took part. A `blocked` one fits but
    for its conditions: it says nothing for its cause, only that the line is no news."""

    sign: Sign
    index: int
    groups: dict[str, str] = field(default_factory=dict)
    how: How = How.LINE
    blocked: bool = False


def matches(lines: list[Line], index: Index, words: Words, messages: Container[int]) -> Iterator[list[Match]]:
    """For each way, the strongest first, every signature that fits, with all the lines it fits (at most KEPT), in the
    order of the lines. Who finds no cause in what one way found asks for the next. Where a way found something, the next
    ones read only `messages`, the places of lines with the message of a failure, and lines are not joined: joined lines of
    settings and steps say much that no software said."""
    late = range(max(0, len(lines) - LOOSE_WITHIN), len(lines))
    fitted = False
    for how in How:
        if how is How.WRAPPED and fitted:
            continue
        places = range(len(lines)) if how is How.LINE else late
        search = _Search(lines, how, words, [i for i in places if i in messages] if fitted else places)
        found = [match for sign in search.worth_trying(index) for match in search.fits(sign)]
        if any(not match.blocked for match in found):
            fitted = True
            yield sorted(found, key=lambda match: match.index)


class _Search:
    """The lines at `places`, read in one way and searched for signatures; conditions are met by any late line."""

    def __init__(self, lines: list[Line], how: How, words: Words, places: Sequence[int]) -> None:
        self.lines, self.how, self.places = lines, how, places
        self.corpus = self._read(places)
        searched = how < How.UNQUOTED and len(self.corpus.data) > FEW  # later ways know words by their parts only
        self.present = words.present(self.corpus.data) if searched else None
        self.holds: dict[Pattern, bool] = {}

    def _read(self, places: Sequence[int]) -> Corpus:
        if self.how is How.WRAPPED:
            width = _width(self.lines[-LOOSE_WITHIN:])
            return Corpus([_joined(self.lines, place, width) for place in places])
        texts = (_slashed(self.lines[place].text) for place in places)
        if self.how is How.LINE:
            return Corpus(list(texts))
        return Corpus([APOSTROPHE.sub("'", text.translate(STRAIGHT)).replace("`", "") for text in texts])

    @cached_property
    def around(self) -> Corpus:
        """The lines in which conditions are looked for."""
        late = range(max(0, len(self.lines) - LOOSE_WITHIN), len(self.lines))
        return self.corpus if self.how is How.LINE or self.places == late else self._read(late)

    def worth_trying(self, index: Index) -> Iterable[Sign]:
        """The signatures of which a word is there, in their order; all of them where the words were not searched for."""
        if self.how is How.BARE:
            return [sign for sign in index.signs if sign.bare]
        if self.present is None or self.how >= How.UNQUOTED:
            return index.signs
        numbers = {number for word in self.present for number in index.signs_of_word.get(word, ())}
        return [index.signs[number] for number in sorted(numbers.union(index.signs_of_word.get("", ())))]

    def fits(self, sign: Sign) -> list[Match]:
        found: list[Match] = []
        blocked = False
        pattern = sign.bare if self.how is How.BARE and sign.bare else sign.pattern
        for index, match in self._places(pattern, self.corpus, self.present):
            if self.how is How.ANY_CASE and CAMEL.search(match[0]):
                continue
            if self.how is How.BARE and WARNED.match(self.corpus.texts[index]):
                continue  # what another release raises as an error is not what this one warns of
            groups = {name: value for name, value in match.groupdict().items() if value is not None}
            if sign.where and not holds(sign.where, groups):
                continue
            if not found:
                blocked = not self._allowed(sign)
            found.append(Match(sign, self.places[index], groups, self.how, blocked))
            if len(found) == KEPT:
                break
        return found

    def _allowed(self, sign: Sign) -> bool:
        return all(map(self._somewhere, sign.with_)) and not any(map(self._somewhere, sign.without))

    def _somewhere(self, pattern: Pattern) -> bool:
        if pattern not in self.holds:
            present = self.present if self.around is self.corpus else None
            places = (index for index, _ in self._places(pattern, self.around, present))
            self.holds[pattern] = any(not CHATTER.match(self.around.texts[index]) for index in places)
        return self.holds[pattern]

    def _places(self, pattern: Pattern, corpus: Corpus, present: set[str] | None) -> Iterator[tuple[int, Any]]:
        """Indexes in the corpus where the pattern fits. `present`: the words that the corpus is known to hold."""
        any_case = pattern.any_case or self.how is How.ANY_CASE
        places: Iterable[int] = range(len(corpus.texts))
        unmarked = self.how >= How.UNQUOTED
        words = _parts(pattern.words) if unmarked else pattern.words
        if words:
            if present is not None:
                words = tuple(word for word in words if word in present)
            elif unmarked:
                words = tuple(filter(corpus.may_hold, words))
            places = corpus.lines_with(words, any_case)
        for index in islice(places, TRIED):  # few patterns have one, and rewriting all of them would take longest
            regex = unquoted(pattern.regex) if unmarked else pattern.regex
            match = compiled(regex, self.how is How.ANY_CASE).search(corpus.texts[index])
            if match is not None:
                yield index, match


@lru_cache(maxsize=4096)
def unquoted(pattern: str) -> str:
    """The pattern for a text whose backticks were taken out, and whose other quotation marks may be gone or others."""
    written, escaped, inside = [], False, False
    for letter in pattern:
        written.append(letter if escaped or inside else LOOSENED.get(letter, letter))
        if not escaped:
            inside = letter != "]" if inside else letter == "["
        escaped = letter == "\\" and not escaped
    return "".join(written)


@lru_cache(maxsize=4096)
def _parts(words: tuple[str, ...]) -> tuple[str, ...]:
    """What is sure to stand in a line of each word, however its quotation marks are written; none where that is little."""
    parts = tuple(max(re.split("[`']", word), key=len) for word in words)
    return parts if all(len(part) > 2 for part in parts) else ()


def _slashed(text: str) -> str:
    """The line with the file of a frame as signatures spell it, also where Windows ran it."""
    if "\\" not in text or (match := WINDOWS.match(text)) is None:
        return text
    return match[0].replace("\\", "/") + text[match.end() :]


def _width(lines: list[Line]) -> int:
    """The width at which a terminal cut the lines: none is longer, and several have it or it is a usual one. 0 where that
    is not so."""
    lengths = Counter(len(line.text) for line in lines)
    longest = max(lengths, default=0)
    return longest if longest in USUAL or (longest >= min(USUAL) and lengths[longest] > 1) else 0


def _joined(lines: list[Line], start: int, width: int) -> str:
    """A line and what may be its continuation, as one line with single spaces; none where a word was cut in two.
    What a page that was copied shows in bold type is underlined again, and its quotation marks are plain ones."""
    first = lines[start]
    joined = ""
    for line in lines[start : start + WRAPPED_OVER]:
        if (line.log, line.lane) != (first.log, first.lane) or not line.text.strip():
            break
        joined += BOX.sub("", _slashed(line.text[:2000])) + ("" if len(line.text) == width else " ")
    return BOLD.sub(r"\1__init__()", " ".join(joined.translate(STRAIGHT).split()))
