"""The encodings that the target's Python will read and print with, by its environment, and what they cannot hold.

PEP 538 and 540: in the locale C or POSIX Python takes UTF-8 of its own accord, unless it is told not to.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from doctor.facts import Facts
from doctor.findings import Finding, found

BEGINNING = 4096  # bytes in which the first record stands, one example of which is printed before training
_HIGHEST = {"ascii": 0x7F, "iso8859-1": 0xFF, "cp1252": 0xFF}
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")
_finding = partial(found, "dataset")


def of_files(environ: Mapping[str, str]) -> str | None:
    """The encoding of `open()` where it is not UTF-8."""
    if environ.get("PYTHONUTF8") == "1":
        return None
    named = next((name for name in ("LC_ALL", "LC_CTYPE", "LANG") if environ.get(name)), "")
    chosen = environ.get(named, "C")
    encoding = chosen.partition(".")[2].partition("@")[0]
    if chosen in ("C", "POSIX") and environ.get("PYTHONUTF8") == "0":
        coerced = named != "LC_ALL" and environ.get("PYTHONCOERCECLOCALE") != "0"
        return None if coerced else "ASCII"
    return encoding if encoding and encoding.lower().replace("-", "") != "utf8" else None


def of_output(environ: Mapping[str, str]) -> str | None:
    """The encoding of print() where it ends at what it cannot hold."""
    encoding, _, errors = environ.get("PYTHONIOENCODING", "").partition(":")
    if errors not in ("", "strict", "surrogateescape"):
        return None
    return encoding or of_files(environ)


def beyond(path: Path, encoding: str) -> bool:
    """Whether the beginning of a data file holds what the encoding does not; asked of those that hold little."""
    try:
        highest = _HIGHEST.get(codecs.lookup(encoding).name)
        with path.open("rb") as file:
            beginning = file.read(BEGINNING)
    except (LookupError, OSError, ValueError):
        return False
    text = beginning.decode("utf-8", "ignore")
    escaped = (int(code, 16) for code in _ESCAPED.findall(text))
    return highest is not None and any(code > highest for code in (*map(ord, text), *escaped))


def output_holds(facts: Facts) -> Iterator[Finding]:
    encoding, files = facts["dataset.output_encoding"], facts["dataset.beyond_output"]
    if encoding and files:
        what = (
            f"print() writes {encoding} here, and {files[0]} begins with characters beyond it: one example is printed"
        )
        yield _finding("env-stdout-encoding", what, files[0], encoding=encoding, file=files[0])


ALL = (output_holds,)
