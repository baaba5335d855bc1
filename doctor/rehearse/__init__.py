"""The recipe run for real at toy scale before the expensive run.

shrink       the model's configuration → a small one of the same architecture
sample       the data → its longest, shortest and strangest records, and some of the others
plan         the recipe → the recipe of the rehearsal, and what it cannot rehearse
fingerprint  what a rehearsal depends on
stages       the launches, one after another, each under a deadline
judge        logs and outputs of a stage → passed, findings
"""

from __future__ import annotations

from collections.abc import Callable

from doctor.facts import Facts
from doctor.rehearse.record import FAILED, NOT_REHEARSED, PASSED, Rehearsal, Stage
from doctor.target import Target
from knowledge_base.schema import Text

__all__ = ["FAILED", "NOT_REHEARSED", "PASSED", "Rehearsal", "Stage", "cached", "rehearse"]

SECONDS = 1200.0  # what a rehearsal may take at most, the first build of DeepSpeed's operators included


def _silent(text: Text) -> None:
    pass


def rehearse(
    target: Target, facts: Facts, progress: Callable[[Text], None] = _silent, seconds: float = SECONDS
) -> Rehearsal:
    """Run the recipe at toy scale: train, evaluate, save, resume, load. Always anew; `cached` first where that will do.

    `progress` is called with one line of text as things happen. What the recipe will do and this machine cannot is in
    `not_rehearsed`. Raises BadInput when the target has no llamafactory-cli or its working directory is not writable.
    """
    from doctor.rehearse.stages import run

    return run(target, facts, progress, seconds)


def cached(target: Target, facts: Facts) -> Rehearsal | None:
    """The last rehearsal that passed with exactly this recipe, data, model, packages and machine; else None."""
    from doctor.rehearse import fingerprint, record

    kept = record.read(record.folder(target.workdir, fingerprint.of(target, facts)))
    return kept if kept is not None and kept.passed else None
