"""Why a command ends without doing its work: one sentence that says what, where and what to do."""

from __future__ import annotations


class BadInput(Exception):
    """Unusable input. The message is one sentence for the user; the command ends with exit code 2, nothing changed."""


class UnreadableRecipe(BadInput):
    """The recipe itself is at fault: `cause` of the knowledge base, `where` it stands ("recipe.yaml:7")."""

    def __init__(self, message: str, cause: str, where: str) -> None:
        super().__init__(message)
        self.cause, self.where = cause, where


class Refused(Exception):
    """The command could run and must not: a gate, a lock, no consent (exit code 4). The message is one sentence."""
