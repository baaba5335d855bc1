"""The exit codes of every command: one meaning each, the same everywhere."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    OK = 0  # healthy, or done
    FINDINGS = 1  # findings of severity error
    BAD_INPUT = 2  # could not run: usage, unreadable input
    ROLLED_BACK = 3  # a fix failed and was rolled back
    REFUSED = 4  # a gate, a lock, no consent
    UNKNOWN_FAILURE = 5  # a failure was seen, its cause is not known
    INTERRUPTED = 130
