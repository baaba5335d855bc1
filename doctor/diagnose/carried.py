"""Logs that went through something else on their way here: the text as the run wrote it.

A container runtime or a service that collects logs writes each line as a field of a JSON object, a report of an error
holds a traceback as one JSON string, a page shows `&quot;` for a quotation mark, and a terminal breaks lines at its width.
The beginning of a log tells; where none of it is so, every block passes as it is.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from itertools import chain

import msgspec

from doctor.diagnose.lines import ANSI

DECIDED_BY = 1 << 18  # bytes; what went through a page or a terminal's clipboard is no longer
FIELDS = ("log", "message", "msg", "textPayload", "line")  # of docker and the kubelet, of services that collect logs
LONGEST = 1 << 20  # bytes of one such line
LOOKED_AT = 20  # lines that must nearly all be such objects
NARROWEST = 60  # columns of a terminal
USUAL = (80, 100, 120)  # of one that nobody has resized

_ENTITY = re.compile(r"&(?:quot|#39|#x27|lt|gt);")
_ESCAPED = re.compile(r"(?:Traceback \(most recent call last\):|, line \d+, in [\w<>.]+)\\{1,2}n")
_ESCAPE = re.compile(r"""\\(?:([nt"'\\/])|u([\da-fA-F]{4}))""")
_QUOTED = re.compile(r"^> ?", re.M)  # of an answer to a message
_STRAIGHT = str.maketrans("‘’“”", "''\"\"")
_MEANS = {"n": "\n", "t": "\t"}
# How a line begins that goes on with nothing.
_STARTS = re.compile(
    r'\s*(?:File "|Traceback |[\[(#>*=|~^+-]|\d{4}[-/]\d\d|[WEIF]\d{4} |[\w.]+(?:Error|Exception|Warning):|$)'
)


def as_written(pieces: Iterator[bytes], notes: list[str], name: str) -> Iterator[bytes]:
    """The blocks of a log without what was put around it; `notes` hears where its lines are counted otherwise."""
    begun, whole = bytearray(), False
    while len(begun) < DECIDED_BY and not whole:
        piece = next(pieces, None)
        begun += piece or b""
        whole = piece is None
    head = bytes(begun)
    if _in_json(head):
        yield from _fields(chain((head,), pieces))
        return
    yield _as_shown(head, notes, name) if whole else head
    yield from pieces


# -- one JSON object a line ------------------------------------------------------------------------------------------
def _in_json(head: bytes) -> bool:
    lines = [line for line in head[:65536].split(b"\n") if line.strip()][:LOOKED_AT]
    if not lines or not lines[0].lstrip().startswith(b"{"):
        return False
    found = [_field(line) is not None for line in lines]
    return found[0] and sum(found) >= 0.8 * len(found)


def _field(line: bytes) -> str | None:
    try:
        held = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(held, dict):
        return None
    return next((held[name] for name in FIELDS if isinstance(held.get(name), str)), None)


def _fields(pieces: Iterator[bytes]) -> Iterator[bytes]:
    left = b""
    for piece in pieces:
        *lines, left = (left + piece).split(b"\n")
        over = b""
        if len(left) > LONGEST:  # no runtime writes such an object
            over, left = left, b""
        yield b"".join([*map(_line, lines), over])
    if left:
        yield _line(left)


def _line(line: bytes) -> bytes:
    """Docker parts a line that is too long for it: only the last part ends with the line's end."""
    text = _field(line) if line.lstrip().startswith(b"{") else None
    if text is None:
        return line + b"\n"
    goes_on = line.lstrip().startswith(b'{"log"') and not text.endswith("\n")
    return text.removesuffix("\n").encode("utf-8", "replace") + (b"" if goes_on else b"\n")


# -- what a page, a report or a terminal made of it ------------------------------------------------------------------
def _as_shown(log: bytes, notes: list[str], name: str) -> bytes:
    text = log.decode("utf-8", "surrogateescape")
    if _ENTITY.search(text):
        text = html.unescape(text)
    if "'" not in text and '"' not in text:  # a compiler's are curly too, but Python's are straight
        text = text.translate(_STRAIGHT)
    lines = [line for line in text.split("\n") if line.strip()]
    if lines and all(line.startswith((">", "```")) for line in lines):
        text = _QUOTED.sub("", text)
    if _ESCAPED.search(text):
        notes.append(f"{name}: a traceback stands in it as one line of text; lines are counted after its line ends.")
        for _ in range(2):  # a report within a report
            text = "\n".join(_unescaped(line) if _ESCAPED.search(line) else line for line in text.split("\n"))
    return _unbroken(text).encode("utf-8", "surrogateescape")


def _unescaped(line: str) -> str:
    text = _ESCAPE.sub(lambda found: chr(int(found[2], 16)) if found[2] else _MEANS.get(found[1], found[1]), line)
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")  # halves of a pair become one


def _unbroken(text: str) -> str:
    """Lines that a terminal broke at its width, whole again; each with so many empty ones behind it that lines keep their
    numbers."""
    if "\r" in text.replace("\r\n", "\n"):
        return text
    lines = text.split("\n")
    seen = [ANSI.sub("", line).rstrip("\r") for line in lines]
    width = max(map(len, seen))
    if width < NARROWEST or not _broken_at(width, seen):
        return text
    made: list[str] = []
    gap = 0  # lines that the last one of `made` has swallowed
    for number, line in enumerate(lines):
        if number and len(seen[number - 1]) == width and _goes_on(seen[number]):
            made[-1] = made[-1].rstrip("\r") + line
            gap += 1
        else:
            made += [""] * gap + [line]
            gap = 0
    return "\n".join(made + [""] * gap)


def _goes_on(line: str) -> bool:
    return not _STARTS.match(line)


def _broken_at(width: int, lines: list[str]) -> bool:
    """Whether lines pile up at this width, as they do where longer ones were broken, and are broken inside words."""
    full = {line: number for number, line in enumerate(lines[:-1]) if len(line) == width and len(set(line)) > 4}
    almost = {line for line in lines if width - 12 <= len(line) < width}
    inside = [line for line, number in full.items() if line[-1].isalnum() and lines[number + 1][:1].isalnum()]
    least = 1 if width in USUAL else 2
    return len(full) > least and len(almost) <= len(full) and len(inside) >= max(least, 0.3 * len(full))
