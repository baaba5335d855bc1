"""Proves stacks: each is made anew by `fix --stack NAME --new DIR`, trains, and is written down in proofs.json.

    python -m tests.stack.fixes.proof [STACK ...] [--keep DIR]       all stacks by default, some minutes each

The run: the published recipe on a toy model, full fine-tuning on two CPU processes over Gloo, ZeRO-3 without offload,
gradient accumulation 4, two steps. A proof holds for exactly the packages whose digest stands in it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from knowledge_base import package_sets
from tests.stack.environments import Workspace
from tests.stack.reproductions.stacks import Installed

RECORD = Path(__file__).with_name("proofs.json")
RUN = {
    "gradient_accumulation_steps": "4", "max_steps": "2", "bf16": "false", "logging_steps": "1", "cutoff_len": "64",
    "save_strategy": "'no'",
}  # fmt: skip
PROCESSES = 2


def prove(name: str, folder: Path) -> dict[str, Any]:
    """Make the environment, train in it; what was seen. The program ends on a run that did not train."""
    stack, started = package_sets.stack(name), time.monotonic()
    doctor = str(Path(sys.executable).parent / "skyt1-doctor")
    made = subprocess.run([doctor, "fix", "--stack", name, "--new", str(folder / "env")], cwd=folder, check=False)
    assert made.returncode == 0, f"{name}: the environment could not be made"
    environment = Installed(folder / "env")
    frozen = {line for line in environment.freeze() if line}
    assert frozen == {f"{package}=={pinned.version}" for package, pinned in stack.packages.items()}
    installed = time.monotonic() - started
    place = Workspace(folder, environment)
    place.mend_recipe(**RUN)
    config = json.loads(place.deepspeed.read_text())
    config["zero_optimization"] = {"stage": 3, "overlap_comm": False, "stage3_gather_16bit_weights_on_model_save": True}
    place.deepspeed.write_text(json.dumps(config, indent=2))
    environment.environ |= {"NPROC_PER_NODE": str(PROCESSES), "LOCAL_SIZE": str(PROCESSES)}
    begun = time.monotonic()
    done = environment.doctor("train", "--force", "--no-rehearse", cwd=place.root, OMP_NUM_THREADS="1")
    seconds = time.monotonic() - begun
    results = next(place.root.rglob("train_results.json"), None)
    assert done.returncode == 0, f"{name} did not train:\n{done.stdout[-6000:]}"
    assert results is not None, f"{name} ended well without results"
    states = json.loads(next(place.root.rglob("trainer_state.json")).read_text())
    losses = [entry["loss"] for entry in states["log_history"] if "loss" in entry]
    assert place.trained()
    assert len(losses) == int(RUN["max_steps"])
    assert states["global_step"] == int(RUN["max_steps"])
    return {
        "date": time.strftime("%Y-%m-%d"), "packages": package_sets.digest(stack), "count": len(stack.packages),
        "run": "toy full fine-tuning on the CPU", "processes": PROCESSES, "zero_stage": 3,
        "gradient_accumulation_steps": 4, "steps": states["global_step"], "losses": losses, "exit_code": done.returncode,
        "install_seconds": round(installed), "train_seconds": round(seconds),
    }  # fmt: skip


def record() -> dict[str, Any]:
    return json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stacks", nargs="*", default=package_sets.names())
    parser.add_argument("--keep", type=Path, help="make environments and workspaces here and leave them there")
    given = parser.parse_args()
    for name in given.stacks:
        with tempfile.TemporaryDirectory(prefix="skyt1-doctor-proof-") as scratch:
            folder = given.keep / name if given.keep else Path(scratch)
            os.makedirs(folder, exist_ok=True)
            seen = prove(name, folder)
        RECORD.write_text(json.dumps({**record(), name: seen}, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        print(name, seen["losses"], f"{seen['train_seconds']} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
