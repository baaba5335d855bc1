"""A torchaudio built for another CUDA than torch, as a plain `pip install torchaudio==…` brings it: the run, what the doctor
says of it, its fix, the run again."""

from __future__ import annotations

from pathlib import Path

import place
from rows import Done, Out, causes
from trained import train

LIMIT = 120.0  # seconds for one run


def run(out: Out, doctor: Path, wrong: Path, wheels: Path, root: Path, cpu: bool) -> None:
    shape = place.TINY[0] if cpu else "0.5B"
    place.write_models(wrong, root / "models", [shape])
    environ = place.environ_of(wrong, 1, cpu, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(wheels.resolve()))
    work = place.Workspace(root / "wheel", root / "models" / shape, None, bf16=not cpu)
    audio = Done([str(wrong), "-c", "import torch; print(torch.version.cuda); import torchaudio"], root, environ, 60)
    out.row("import torchaudio", code=audio.code, said=audio.text[-1500:], versions=place.versions(wrong))
    before = train(out, wrong, environ, work, "as it is", LIMIT)
    said = Done(place.doctor(doctor, "diagnose", before, "--format", "json"), work.root, environ, 60)
    out.row("diagnose", code=said.code, seconds=said.seconds, findings=causes(said.document()))
    arguments = [work.RECIPE, "--python", str(wrong)]
    seen = Done(place.doctor(doctor, "check", *arguments, "--format", "json"), work.root, environ, 60)
    out.row("check", code=seen.code, seconds=seen.seconds, findings=causes(seen.document()))
    only = ("--yes", "--only", "pkg-torch-torchvision-mismatch")
    done = Done(place.doctor(doctor, "fix", *arguments, "--apply", *only, "--format", "json"), work.root, environ, 180)
    outcomes = [f"{o['fix']}: {o['outcome']}" for o in done.document().get("outcomes", ())]
    out.row("fix --apply", code=done.code, seconds=done.seconds, outcomes=outcomes, versions=place.versions(wrong),
            said=None if outcomes else done.text[-1500:])  # fmt: skip
    train(out, wrong, environ, work, "after the fix", LIMIT)
