"""A PATH that lacks one program, on a machine that has it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol


class _Place(Protocol):
    """A workspace, the environment that trains in it, and what its commands have in their environment."""

    root: Path
    environ: dict[str, str]
    environment: Any


def leave_out(place: _Place, program: str) -> None:
    """Let the commands of a place find every program but one. Raises FileExistsError where it was done already."""
    programs = place.root / "programs"
    programs.mkdir()
    for folder in filter(os.path.isdir, os.environ["PATH"].split(os.pathsep)):
        for file in os.scandir(folder):
            link = programs / file.name
            if file.name != program and not os.path.lexists(link):
                link.symlink_to(file.path)
    place.environ["PATH"] = f"{place.environment.root / 'bin'}{os.pathsep}{programs}"
