"""What watching costs a real run on one GPU: the same short run plain and watched, in the order A B B A."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import place
from rows import Done, Out

ORDER = ("plain", "watched", "watched", "plain", "plain", "watched", "watched", "plain")  # a drift meets both alike
LIMIT = 150.0  # seconds for one run
# Steps of a fifth of a second: short ones, at which the cost of watching would show.
PACE: dict[str, Any] = {
    "per_device_train_batch_size": 4, "gradient_accumulation_steps": 1, "cutoff_len": 1024, "packing": True,
    "num_train_epochs": 1e6, "max_steps": 150, "bf16": True,
}  # fmt: skip
SMALL: dict[str, Any] = {"bf16": False, "max_steps": 6, "cutoff_len": 256}  # of a rehearsal on the CPU


def run(out: Out, doctor: Path, new: Path, root: Path, cpu: bool) -> None:
    shape = place.TINY[0] if cpu else "0.5B"
    place.write_models(new, root / "models", [shape])
    environ = place.environ_of(new, 1, cpu)
    if not cpu:
        environ["CUDA_VISIBLE_DEVICES"] = "0"
    out.row("versions", versions=place.versions(new))
    for number, how in enumerate(("warm-up", *ORDER)):
        work = place.Workspace(root / f"pace{number}", root / "models" / shape, None, **PACE | (SMALL if cpu else {}))
        if how == "watched":
            words = (work.RECIPE, "--python", str(new), "--offline", "--no-rehearse", "--force")
            argv = place.doctor(doctor, "train", *words)
        else:
            argv = [str(new.parent / "llamafactory-cli"), "train", work.RECIPE]
        done = Done(argv, work.root, environ, LIMIT)
        out.row(f"{how} {number}", code=done.code, seconds=done.seconds, **work.figures(),
                said=None if done.code == 0 else done.text[-1500:])  # fmt: skip
