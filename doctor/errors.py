"""What the doctor cannot work with: one sentence that says what, where and what to do (exit code 2)."""

from __future__ import annotations


class BadInput(Exception):
    """Unusable input. The message is one sentence for the user; the command ends with exit code 2, nothing changed."""
