"""How a facts document travels over a stream that others write to as well: short lines with a mark, put together again.

srun and Ray mix the output of many nodes line by line; a document of 20 KB in one line could be broken. A line holds the
node's name, its number, how many there are, and a piece in base64.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator

MARK = "@skyt1-facts"
PIECE = 600  # characters of base64; the whole line stays under the 1,024 bytes that srun sends at once
_LINE = re.compile(rf"(?:\d+: )?{MARK} (?P<node>\S+) (?P<number>\d+)/(?P<count>\d+) (?P<piece>[A-Za-z0-9+/=]*)\s*")


def lines(node: str, data: bytes) -> Iterator[str]:
    text = base64.b64encode(data).decode()
    pieces = [text[start : start + PIECE] for start in range(0, len(text), PIECE)] or [""]
    for number, piece in enumerate(pieces, start=1):
        yield f"{MARK} {node} {number}/{len(pieces)} {piece}\n"


class Receiver:
    """Feed it every line; `feed` gives (node, document) when one is whole, None before that and for other lines."""

    def __init__(self) -> None:
        self._pieces: dict[str, dict[int, str]] = {}

    def feed(self, line: str) -> tuple[str, bytes] | None:
        match = _LINE.fullmatch(line)
        if match is None:
            return None
        node, count = match["node"], int(match["count"])
        pieces = self._pieces.setdefault(node, {})
        pieces[int(match["number"])] = match["piece"]
        if len(pieces) < count:
            return None
        del self._pieces[node]
        return node, base64.b64decode("".join(pieces[number] for number in range(1, count + 1)))

    @property
    def begun(self) -> list[str]:
        """Nodes whose document broke off."""
        return list(self._pieces)
