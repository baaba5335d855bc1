"""What a fault is: one edit of a healthy workspace, the cause that it must be found as, and how it shows in a run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.faults.workspace import Workspace

COPY: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
Inject = Callable[[Workspace], None]


@dataclass(frozen=True)
class Fault:
    """One fault.

    id: file name of its log. cause: what `check` must call it. what: one line for the table. inject: the edit.
    base: the healthy workspace, a key of `workspace.BASES`.
    arguments: given to `fix`, with {model}, {data} and {root}: what a user who is asked for his model answers.
    shows: pattern of the log of a run that ends well: how it trained wrongly. Empty: the run must fail.
    warns: the run may survive; check must speak of it at warning, no more.
    healable: whether software can heal it, without a download that needs the hub, a disk or a key of the user.
    fresh: the run needs a start of its own (variables read at import, torchrun, packages), not a fork.
    packages: changes the packages of a copy of the environment: (installed without dependencies, uninstalled). COPY: the
        fault changes none, its fix may.
    damage: done to the site-packages of a copy of the environment. Files are shared with the original: take them away
        before others are written in their place.
    around: what must hold while check, run and fix look, such as a port that is held.
    unrun: why this machine cannot run it; empty when it can.
    """

    id: str
    cause: str
    what: str
    inject: Inject
    base: str = "sky-t1 full"
    arguments: tuple[str, ...] = ()
    shows: str = ""
    warns: bool = False
    healable: bool = True
    fresh: bool = False
    packages: tuple[tuple[str, ...], tuple[str, ...]] | None = None
    damage: Callable[[Path], object] | None = None
    around: Callable[[Workspace], AbstractContextManager[Any]] = field(default=lambda place: nullcontext())
    unrun: str = ""

    def on(self, base: str) -> Fault:
        """The same fault in another workspace; its id says which."""
        return replace(self, base=base, id=f"{self.id}-{base.replace(' ', '-')}")


def together(*edits: Inject) -> Inject:
    """Several edits that make one fault."""

    def inject(place: Workspace) -> None:
        for edit in edits:
            edit(place)

    return inject
