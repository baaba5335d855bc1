"""Hyperscan databases of literal words, compiled once and kept in the user's cache directory.

Compiling thousands of words takes a fifth of a second, ten times as many two seconds; loading them a tenth of a
millisecond. The kept file begins with a digest of what it was compiled from, so a changed knowledge base is seen at the
next start. Hyperscan itself refuses a database that is damaged, of another release or for another processor; then, and
where nothing can be kept, it is compiled anew.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from doctor.diagnose import sieve
from knowledge_base import words

FILE_NAME = "words.msgpack"
Form = tuple[bytes, bool]  # a literal; whether its case is of no matter (then it is in small letters)


class Kept(msgspec.Struct, array_like=True):
    """What stands in the file: a digest, the pieces of the sieve, and both databases as Hyperscan serialises them."""

    digest: bytes
    pieces: list[Form]
    sieve: bytes
    words: bytes


class Tables(msgspec.Struct):
    """`words` reports each form once by its number in the list it was made from; `sieve` each of `pieces`."""

    pieces: list[Form]
    sieve: tuple[Any, Any]
    words: tuple[Any, Any]


@lru_cache(maxsize=4)
def tables(forms: tuple[Form, ...], wanted: tuple[Form, ...], always: frozenset[Form]) -> Tables | None:
    """Databases of all `forms`, and of the pieces that the `wanted` ones among them are sieved by (`always`: none of
    them may slip through). None where Hyperscan is not installed."""
    if find_spec("hyperscan") is None:
        return None
    code = [(stat.st_mtime_ns, stat.st_size) for stat in map(os.stat, (sieve.__file__, words.__file__))]
    made_of = msgspec.msgpack.encode((code, forms, wanted, sorted(always)))
    digest = hashlib.sha256(made_of).digest()
    place = _place()
    return _read(place, digest) or _compile(place, digest, forms, wanted, always)


def database(forms: list[Form]) -> tuple[Any, Any]:
    """A Hyperscan database of literals, each reported once for a scan, and its scratch. Raises ImportError."""
    import hyperscan

    made = hyperscan.Database()
    made.compile(
        expressions=[form for form, _ in forms],
        ids=list(range(len(forms))),
        elements=len(forms),
        flags=[hyperscan.HS_FLAG_SINGLEMATCH | (hyperscan.HS_FLAG_CASELESS if loose else 0) for _, loose in forms],
        literal=True,
    )
    return made, hyperscan.Scratch(made)


def _compile(
    place: Path, digest: bytes, forms: tuple[Form, ...], wanted: tuple[Form, ...], always: frozenset[Form]
) -> Tables:
    import hyperscan

    pieces = sieve.cover(wanted, always)
    made = Tables(pieces, database(pieces), database(list(forms)))
    _write(place, Kept(digest, pieces, hyperscan.dumpb(made.sieve[0]), hyperscan.dumpb(made.words[0])))
    return made


def _place() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("skyt1-doctor") / FILE_NAME


def _read(place: Path, digest: bytes) -> Tables | None:
    """What was kept, or None where there is nothing, it is stale, unreadable, damaged or for another machine."""
    import hyperscan

    try:
        kept = msgspec.msgpack.decode(place.read_bytes(), type=Kept)
        if kept.digest != digest:
            return None
        small, large = (hyperscan.loadb(raw, hyperscan.HS_MODE_BLOCK) for raw in (kept.sieve, kept.words))
        return Tables(kept.pieces, (small, hyperscan.Scratch(small)), (large, hyperscan.Scratch(large)))
    except (OSError, msgspec.DecodeError, hyperscan.HyperscanError):
        return None


def _write(place: Path, kept: Kept) -> None:
    """Replace the file in one step. A cache that cannot be written costs time at the next start, nothing else."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=place.parent, prefix=place.name)
    except OSError:
        return
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.msgpack.encode(kept))
        os.replace(temporary, place)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
