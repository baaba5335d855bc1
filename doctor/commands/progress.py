"""How far the reading of large files has come, on one line of a terminal; nothing where standard error is none."""

from __future__ import annotations

import sys
import time
from threading import Lock

from doctor.report.words import say

AFTER = 0.7  # seconds before the first line: what is quicker needs none
EVERY = 0.2


class Progress:
    """`told(subject, done, total)` may be called from any thread; `end()` wipes the line."""

    def __init__(self, lang: str) -> None:
        self.lang = lang
        self.shown = False
        self.next = time.monotonic() + AFTER
        self.ended = False
        self.lock = Lock()

    def told(self, subject: str, done: int, total: int) -> None:
        """`subject`: a word of the report; `done` of `total` bytes."""
        with self.lock:
            if self.ended or time.monotonic() < self.next or not sys.stderr.isatty():
                return
            self.next = time.monotonic() + EVERY
            self.shown = True
            line = f"{say(subject, self.lang)} {done / 1e6:,.0f} / {total / 1e6:,.0f} MB"
            sys.stderr.write(f"\r\x1b[2K{line}")
            sys.stderr.flush()

    def end(self) -> None:
        with self.lock:
            self.ended = True
            if self.shown:
                sys.stderr.write("\r\x1b[2K")
                sys.stderr.flush()
