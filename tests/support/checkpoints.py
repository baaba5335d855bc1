"""Checkpoint folders as transformers' Trainer leaves them, without a single real weight."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path


def write(folder: Path, ranks: int = 1, without: str | None = None) -> Path:
    """A complete `checkpoint-N` for `ranks` ranks, less one file."""
    folder.mkdir(parents=True)
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": int(folder.name.rpartition("-")[2])}))
    (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    random = [f"rng_state_{rank}.pth" for rank in range(ranks)] if ranks > 1 else ["rng_state.pth"]
    for name in ("optimizer.pt", "scheduler.pt", *random):
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("data.pkl", b"")
    if without:
        (folder / without).unlink()
    return folder
