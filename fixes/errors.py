"""What can go wrong while planning, applying or undoing. `str(error)` is one sentence for the user."""

from __future__ import annotations


class FixError(Exception):
    """Base: something asked of `fixes` was not done, and nothing of it was left half done."""


class Refused(FixError):
    """A gate said no: no consent, another run holds the lock, the world changed, an edit is not safe."""


class LockHeld(Refused):
    """Another run is writing. `pid` is its process id when it could be read."""

    def __init__(self, message: str, pid: int | None) -> None:
        super().__init__(message)
        self.pid = pid


class WorldChanged(Refused):
    """A file or the package set is not as it was when the plan was made."""


class EditedSince(Refused):
    """Undo would overwrite what somebody changed after the fix. `shown` is the diff or the list of what differs."""

    def __init__(self, message: str, shown: str) -> None:
        super().__init__(message)
        self.shown = shown


class ChangedAgain(EditedSince):
    """A later fix changed the same file: that one is to be undone first."""


class Unknown(FixError):
    """A name was given that nothing has: a stack, a journal."""


class CannotEdit(FixError):
    """The file's text does not allow the edit safely; the sentence says where."""


class Failed(FixError):
    """An action was tried and could not be done (no permission, disk full, installer error); it was taken back."""
