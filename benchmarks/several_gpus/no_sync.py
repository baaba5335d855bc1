"""The no_sync assertion on real GPUs: under ZeRO-3 and ZeRO-2 the run asserts, the log is diagnosed, the fix is applied,
the same recipe trains; the fix is taken back before the next stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import place
from rows import Done, Out, causes
from trained import train

AFFECTED = "0.16.2"
SENTENCE = "no_sync context manager is incompatible with gradient partitioning logic of ZeRO stage"
LIMIT = 150.0  # seconds for one run


def run(out: Out, doctor: Path, old: Path, wheels: Path, root: Path, ranks: int, cpu: bool) -> None:
    shape = place.TINY[0] if cpu else "0.5B"
    place.write_models(old, root / "models-old", [shape])
    environ = place.environ_of(old, ranks, cpu, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(wheels.resolve()))
    out.row("versions", ranks=ranks, versions=place.versions(old))
    precision: dict[str, Any] = {} if cpu else {"bf16": True}
    for stage in (3, 2):
        work = place.Workspace(root / f"zero{stage}", root / "models-old" / shape, place.zero(stage), **precision)
        name = f"zero{stage}"
        before = train(out, old, environ, work, f"{name} as it is", LIMIT, asserts=SENTENCE)
        said = Done(place.doctor(doctor, "diagnose", before, "--format", "json"), work.root, environ, 60)
        out.row(f"{name} diagnose", code=said.code, seconds=said.seconds, findings=causes(said.document()))
        arguments = [work.RECIPE, "--python", str(old)]  # not --offline, which installs nothing, from a folder neither
        seen = Done(place.doctor(doctor, "check", *arguments, "--format", "json"), work.root, environ, 60)
        out.row(f"{name} check", code=seen.code, seconds=seen.seconds, findings=causes(seen.document()))
        only = ("--yes", "--only", "ds-no-sync-zero")
        done = Done(
            place.doctor(doctor, "fix", *arguments, "--apply", *only, "--format", "json"), work.root, environ, 180
        )
        document = done.document()
        outcomes = [f"{o['fix']}: {o['outcome']}" for o in document.get("outcomes", ())]
        out.row(f"{name} fix --apply", code=done.code, seconds=done.seconds, outcomes=outcomes,
                versions=place.versions(old), said=None if outcomes else done.text[-1500:])  # fmt: skip
        train(out, old, environ, work, f"{name} after the fix", LIMIT, asserts=SENTENCE)
        undone = Done(place.doctor(doctor, "fix", "--undo", "last", "--python", str(old)), work.root, environ, 180)
        out.row(f"{name} fix --undo", code=undone.code, seconds=undone.seconds, versions=place.versions(old),
                said=undone.text[-500:])  # fmt: skip
