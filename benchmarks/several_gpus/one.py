"""One GPU of the machine: a whole run (rehearsal, training with evaluation and saves) with its report."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import place
from rows import Done, Out, causes

LIMIT = 400.0  # seconds for one run
STORY: dict[str, Any] = {
    "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "cutoff_len": 1024, "packing": True,
    "num_train_epochs": 1e6, "max_steps": 250, "bf16": True, "save_strategy": "steps", "save_steps": 125,
    "save_total_limit": 1, "val_size": 0.1, "eval_strategy": "steps", "eval_steps": 50, "lr_scheduler_type": "cosine",
    "warmup_ratio": 0.1, "include_num_input_tokens_seen": True,
}  # fmt: skip


def run(out: Out, doctor: Path, new: Path, root: Path, ranks: int, cpu: bool) -> None:
    shape = place.TINY[0] if cpu else "0.5B"
    place.write_models(new, root / "models", [shape])
    model, alone = root / "models" / shape, place.environ_of(new, 1, cpu)
    small: dict[str, Any] = {"bf16": False, "max_steps": 6, "cutoff_len": 256} if cpu else {}
    if not cpu:
        alone["CUDA_VISIBLE_DEVICES"] = "0"
    out.row("versions", versions=place.versions(new))
    _story(out, doctor, new, place.Workspace(
        root / "story", model, None,
        **STORY | small | ({"save_steps": 3, "eval_steps": 2} if cpu else {}),
    ), alone)  # fmt: skip
    if ranks > 1:
        work = place.Workspace(root / "all", model, None if cpu else place.zero(3), **STORY | small | {"max_steps": 4})
        said = _doctor(doctor, new, work, place.environ_of(new, ranks, cpu), "rehearse", "--format", "json")
        document = said.document()
        out.row(f"rehearse on {ranks} GPUs", code=said.code, seconds=said.seconds, findings=causes(document),
                document=out.keep("rehearse.json", said.out), stderr=said.err[-1500:])  # fmt: skip


def _doctor(doctor: Path, new: Path, work: place.Workspace, environ: dict[str, str], *words: str) -> Done:
    command, *more = words
    argv = place.doctor(doctor, command, work.RECIPE, "--python", str(new), *more)
    return Done(argv, work.root, environ, LIMIT)


def _story(out: Out, doctor: Path, new: Path, work: place.Workspace, environ: dict[str, str]) -> None:
    done = _doctor(doctor, new, work, environ, "train", "--offline")
    out.keep("story.txt", done.text)
    out.row("a whole run", code=done.code, seconds=done.seconds, **work.figures(), said=done.text[-800:])
    for form, name in (("--html", "report.html"), ("--markdown", "report.md")):
        target = out.folder.resolve() / name
        told = Done(place.doctor(doctor, "report", form, str(target)), work.root, environ, 60)
        size = 0 if told.code else os.path.getsize(target)
        out.row(f"report {form}", code=told.code, seconds=told.seconds, bytes=size, said=told.text[-500:])
    if (folder := work.run_directory()) is not None:
        for name in ("events.jsonl", "metrics.jsonl"):
            out.keep(f"story-{name}", (folder / name).read_text(errors="replace"))
