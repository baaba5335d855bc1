"""Details of the checkpoints under the recipe's output_dir, newest first."""

from __future__ import annotations

from typing import Any

from doctor.facts import Facts
from doctor.findings import Finding


def _all(facts: Facts) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = facts["surroundings.checkpoints"]
    return found


def complete_checkpoint(facts: Facts, finding: Finding) -> str | None:
    """The newest that can be resumed from and is not the one that the recipe names already."""
    named = str(facts["recipe.values"].get("resume_from_checkpoint") or "").rstrip("/")
    adapter = finding.cause == "ckpt-zero3-empty-adapter"
    good = [c["path"] for c in _all(facts) if c["complete"] or (adapter and c["adapter"])]
    return next((path for path in good if path != named), None)


def resume_path(facts: Facts, finding: Finding) -> str | None:
    value = facts["recipe.values"].get("resume_from_checkpoint")
    return value if isinstance(value, str) else None


def path_is_full_model(facts: Facts, finding: Finding) -> bool:
    named = (resume_path(facts, finding) or "").rstrip("/")
    return any(c["path"] == named and c["weights"] for c in _all(facts))


def rng_state_files(facts: Facts, finding: Finding) -> list[str] | None:
    named = (resume_path(facts, finding) or "").rstrip("/")
    chosen = [c for c in _all(facts) if c["path"] == named] or _all(facts)[:1]
    return (chosen[0]["rng_states"] or None) if chosen else None


def value_head_found_at(facts: Facts, finding: Finding) -> str | None:
    return next((c["path"] for c in _all(facts) if c["value_head"]), None)


def enough_gpus(facts: Facts, finding: Finding) -> bool:
    saved = finding.details.get("saved_nproc_per_node") or saved_nproc_per_node(facts, finding)
    return bool(saved) and (facts["gpu.count"] == 0 or int(saved or 0) <= facts["gpu.count"])


def saved_nproc_per_node(facts: Facts, finding: Finding) -> int | None:
    """Processes on each node when the checkpoint was written, by the log or by the files of the newest checkpoint."""
    told = str(finding.details.get("saved") or "")
    newest = next(iter(_all(facts)), {})
    saved = int(told) if told.isdigit() else newest.get("world_size")
    nodes = facts["launch.nnodes"]
    return saved // nodes if saved and saved % nodes == 0 else None


def saved_world_size(facts: Facts, finding: Finding) -> int | None:
    saved = saved_nproc_per_node(facts, finding)
    return saved * facts["launch.nnodes"] if saved else None
