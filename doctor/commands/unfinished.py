"""A fix that was cut off (kill -9, a power cut): every command says so; those that change something take it back first."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import platformdirs

from doctor.errors import Refused
from doctor.report.words import say
from doctor.target import Target


def tell(found: Target, lang: str) -> list[str]:
    """Say on stderr which runs were cut off, with what to do; their ids."""
    cut = _pending(found)
    for entry in cut:
        words = say("cut_off", lang, id=entry.id, created=entry.created, place=entry.directory.parents[2])
        print(words, file=sys.stderr, flush=True)
    return [entry.id for entry in cut]


def take_back(found: Target, lang: str) -> bool:
    """Take back what cut-off runs left and say so. Raises Refused when that cannot be done now."""
    if not tell(found, lang):
        return False
    from fixes import history
    from fixes.errors import FixError

    try:
        notes = history.recover(found.workdir, found.prefix)
    except FixError as error:
        raise Refused(str(error)) from None
    for note in notes:
        print(note, file=sys.stderr, flush=True)
    return True


def _pending(found: Target) -> list[Any]:
    states = (found.workdir / ".skyt1-doctor", found.prefix / ".skyt1-doctor")
    if not any(state.is_dir() for state in (*states, Path(platformdirs.user_state_dir("skyt1-doctor")))):
        return []  # nothing was ever changed from here: no need to load what reads journals
    from fixes import history

    return history.pending(found.workdir, found.prefix)
