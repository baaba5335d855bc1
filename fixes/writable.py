"""Which files of a plan may not be written, before anything is."""

from __future__ import annotations

import os
from pathlib import Path

from doctor.target import Target
from fixes.actions import EDIT_KINDS
from fixes.steps import Plan


def not_writable(plan: Plan, target: Target) -> list[Path]:
    """Files of agreed steps that this user may not write, or whose directory takes no new file."""
    paths = {
        target.workdir / action.target
        for step in plan.steps
        if step.agreed
        for action in step.actions
        if action.kind in EDIT_KINDS
    }
    return sorted(path for path in paths if not _may_be_replaced(path.resolve()))


def _may_be_replaced(real: Path) -> bool:
    if not real.exists():
        return True  # the door makes it, or says why it cannot
    return os.access(real, os.W_OK) and os.access(real.parent, os.W_OK | os.X_OK)
