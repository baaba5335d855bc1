"""A compiled index of all causes, so that a command starts without parsing hundreds of YAML files.

The index is built from the YAML files and kept in the user's cache directory. Its key is the name, size and time of
every file that it was built from, so an edited cause is seen at the next start. Where the cache cannot be written or
read, the index is built in memory.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import msgspec

from knowledge_base import load
from knowledge_base.schema import Cause, Role, Severity, Signature, Text
from knowledge_base.words import Words, any_case, required, shortest

FILE_NAME = "causes.msgpack"
# The beginning of a pattern that asks for an exception's type before its message.
EXCEPTION_TYPE = re.compile(r"(?:\\b)?(?:\(\?:|\()?[\w.\\|()?:]*(?:Error|Exception)\)?\)?: ")
TELLING = 20  # letters of a message that say enough without the type


class Pattern(msgspec.Struct, frozen=True, array_like=True):
    """An RE2 expression and the words of which one must occur for it to match (none: it must be tried)."""

    regex: str
    words: Words = ()
    any_case: bool = False


class Sign(msgspec.Struct, frozen=True, array_like=True):
    """A signature of `cause`, ready to be searched for."""

    cause: str
    number: int
    pattern: Pattern
    strength: float
    with_: tuple[Pattern, ...] = ()
    without: tuple[Pattern, ...] = ()
    bare: Pattern | None = None  # the message without the type of its exception, where that says enough
    where: str = ""


class Summary(msgspec.Struct, frozen=True, array_like=True):
    """What ranking and listing need of a cause."""

    id: str
    area: str
    severity: Severity
    title: Text
    role: Role
    yields_to: tuple[str, ...]
    affected: dict[str, str]
    silent: bool = False
    kind_of: str = ""


class Index(msgspec.Struct, frozen=True, dict=True):
    """All causes: summaries, signatures, and the complete causes, each decoded only when it is asked for."""

    key: list[tuple[str, int, int]]
    summaries: dict[str, Summary]
    signs: tuple[Sign, ...]
    packed: dict[str, bytes]

    def cause(self, cause_id: str) -> Cause:
        """Raises knowledge_base.load.UnknownCause."""
        if cause_id not in self.packed:
            return load.cause(cause_id)
        return msgspec.msgpack.decode(self.packed[cause_id], type=Cause)

    @cached_property
    def all_words(self) -> tuple[frozenset[str], frozenset[str]]:
        """Every word that a signature needs: those to be searched as they stand, and those in any case."""
        patterns = [p for sign in self.signs for p in (sign.pattern, *sign.with_, *sign.without)]
        return (
            frozenset(word for p in patterns if not p.any_case for word in p.words),
            frozenset(word for p in patterns if p.any_case for word in p.words),
        )

    @cached_property
    def signs_of_word(self) -> dict[str, list[int]]:
        """Word -> places in `signs` of those that need it; "" -> of those that need no word."""
        found: dict[str, list[int]] = {}
        for number, sign in enumerate(self.signs):
            for word in sign.pattern.words or ("",):
                found.setdefault(word, []).append(number)
        return found

    @cached_property
    def attached(self) -> dict[str, Any]:
        """What others derive from this index and keep with it."""
        return {}

    @cached_property
    def conditions(self) -> frozenset[str]:
        """Words that only conditions (`with`, `without`) need: they make no signature fit by themselves."""
        own = {word for sign in self.signs for word in sign.pattern.words}
        asked = {word for sign in self.signs for p in (*sign.with_, *sign.without) for word in p.words}
        return frozenset(asked - own)

    @cached_property
    def silent_words(self) -> frozenset[str]:
        """Words of causes that show while a run goes on: no failure stands beside them."""
        return frozenset(
            word for sign in self.signs if self.summaries[sign.cause].silent for word in sign.pattern.words
        )


def build(causes: Iterable[tuple[str, Cause]], key: list[tuple[str, int, int]] | None = None) -> Index:
    """An index of (area, cause) pairs."""
    summaries: dict[str, Summary] = {}
    signs: list[Sign] = []
    packed: dict[str, bytes] = {}
    for area, cause in causes:
        summaries[cause.id] = Summary(
            id=cause.id,
            area=area,
            severity=cause.severity,
            title=cause.title,
            role=cause.role,
            yields_to=cause.yields_to,
            affected=dict(cause.affected),
            silent=cause.silent,
            kind_of=cause.kind_of,
        )
        signs.extend(_sign(cause.id, number, signature) for number, signature in enumerate(cause.signatures))
        packed[cause.id] = msgspec.msgpack.encode(cause)
    return Index(key or [], summaries, tuple(signs), packed)


def _sign(cause_id: str, number: int, signature: Signature) -> Sign:
    return Sign(
        cause_id,
        number,
        _pattern(signature.pattern),
        signature.strength,
        tuple(_pattern(p) for p in signature.with_),
        tuple(_pattern(p) for p in signature.without),
        _bare(signature.pattern),
        signature.where,
    )


def _bare(regex: str) -> Pattern | None:
    typed = EXCEPTION_TYPE.match(regex)
    if typed is None:
        return None
    message = regex[typed.end() :]
    return _pattern(message) if shortest(message) >= TELLING else None


def _pattern(regex: str) -> Pattern:
    return Pattern(regex, required(regex), any_case(regex))


@cache
def index() -> Index:
    """The index of the shipped causes, from the cache when that is fresh. Raises ValueError for a malformed cause."""
    key = _key()
    place = _cache_file()
    kept = _read(place, key)
    if kept is not None:
        return kept
    fresh = build(((load.area(cause.id), cause) for cause in load.all_causes()), key)
    _write(place, fresh)
    return fresh


def _key() -> list[tuple[str, int, int]]:
    """Name, time and size of everything that the index is made from, this code included."""
    here = Path(__file__).parent
    files = [here / "index.py", here / "words.py", here / "schema.py", *load.paths().values()]
    return [(f"{path.parent.name}/{path.name}", (stat := path.stat()).st_mtime_ns, stat.st_size) for path in files]


def _cache_file() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("skyt1-doctor") / FILE_NAME


def _read(place: Path, key: list[tuple[str, int, int]]) -> Index | None:
    """The cached index, or None where there is none, it is stale, unreadable or corrupt."""
    try:
        kept = msgspec.msgpack.decode(place.read_bytes(), type=Index)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    return kept if kept.key == key else None


def _write(place: Path, fresh: Index) -> None:
    """Replace the cached index in one step. A cache that cannot be written costs time at the next start, nothing else."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=place.parent, prefix=place.name)
    except OSError:
        return
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.msgpack.encode(fresh))
        os.replace(temporary, place)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
