"""Where a failed run goes on: its last complete checkpoint; what was being written when it died is set aside."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import msgspec

from doctor.train import checkpoint
from doctor.train.settings import Settings

ASIDE = "incomplete-"  # not `checkpoint-…`: transformers' rotation counts every name that begins so


class Resume(msgspec.Struct, frozen=True):
    """`checkpoint`: None to begin anew. `aside`: incomplete checkpoints that were renamed, with their faults."""

    checkpoint: checkpoint.Checkpoint | None
    aside: tuple[tuple[str, str], ...] = ()


def prepare(settings: Settings, started: float) -> Resume:
    """Choose the checkpoint and set incomplete newer ones aside. `started`: seconds since the epoch.

    With overwrite_output_dir older checkpoints belong to another run; without it LLaMA-Factory itself resumed from them.
    LLaMA-Factory would take the newest folder, complete or not, so those are renamed; nothing is deleted.
    """
    output = settings.output
    if output is None:
        return Resume(None)
    since = started if settings.overwrite_output else 0.0
    aside = []
    chosen = None
    for folder in checkpoint.folders(output):
        looked = checkpoint.look(folder, settings.world_size)
        if looked.written < since:
            continue
        if looked.complete:
            chosen = looked
            break
        with suppress(OSError):  # another node has done it already; or it may not be renamed, and is not resumed from
            aside.append((_set_aside(folder).name, "; ".join(looked.faults[:3])))
    if chosen is None and settings.resume_from:
        looked = checkpoint.look(Path(settings.resume_from), settings.world_size)
        chosen = looked if looked.complete else None
    return Resume(chosen, tuple(aside))


def _set_aside(folder: Path) -> Path:
    """Rename within the output directory: half a terabyte is not copied."""
    for number in range(1000):
        place = folder.with_name(f"{ASIDE}{folder.name}" + (f"-{number}" if number else ""))
        if not place.exists():
            return folder.rename(place)
    return folder
