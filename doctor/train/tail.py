"""Follows a growing file, and cuts what was read into lines: a progress bar's carriage return ends one, too."""

from __future__ import annotations

import re
from pathlib import Path

_MOST = 1 << 22  # bytes of one read
_ENDS = re.compile(r"[\r\n]+")
_LONGEST = 1 << 16  # characters of a line without an end that are held back


class Tail:
    """`read` gives what was added since; a file that is not there yet is empty, one that shrank is read anew."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.path = path
        self.offset = offset

    def read(self) -> bytes:
        """At most 4 MiB of what is new. Raises OSError where the file is there and cannot be read."""
        try:
            with self.path.open("rb") as file:
                if file.seek(0, 2) < self.offset:
                    self.offset = 0
                file.seek(self.offset)
                data = file.read(_MOST)
        except FileNotFoundError:
            return b""
        self.offset += len(data)
        return data


class Lines:
    """Bytes in, whole lines out; one that has not ended yet is held back."""

    def __init__(self) -> None:
        self._bytes = b""

    def feed(self, data: bytes) -> list[str]:
        data = self._bytes + data
        cut = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        if not cut and len(data) > _LONGEST:
            cut = len(data)
        self._bytes = data[cut:]
        text = data[:cut].decode("utf-8", errors="replace")
        return [line for line in _ENDS.split(text) if line]

    @property
    def rest(self) -> str:
        """What stands in the line that has not ended yet, such as the bar that is being shown."""
        return self._bytes.decode("utf-8", errors="replace")

    def finish(self) -> list[str]:
        """The last line, of a file that does not end with a newline."""
        text, self._bytes = self._bytes.decode("utf-8", errors="replace"), b""
        return [text] if text else []
