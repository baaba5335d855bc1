"""`make demo`: the main job on the embedded toy model, from an empty folder to a trained checkpoint.

Makes a training environment as a user makes it today, a toy model, a small data set and a recipe workspace with the
published recipe's faults; then runs the four commands that the README names.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import uv

sys.path.insert(0, str(Path(__file__).parent.parent))
from demo import workspace

PACKAGES = ["llamafactory==0.9.1", "torch==2.5.1", "deepspeed==0.16.2"]
STARTED = time.monotonic()


def say(text: str) -> None:
    print(f"\n=== {time.monotonic() - STARTED:5.0f} s  {text}", flush=True)


def run(*argv: str, environ: dict[str, str], cwd: Path, expect: tuple[int, ...] = (0,)) -> None:
    """Run one command, showing it. Ends the demo when its exit code is not one that the story expects."""
    print("$ " + shlex.join(argv), flush=True)
    code = subprocess.run(argv, env=environ, cwd=cwd, check=False).returncode
    if code not in expect:
        sys.exit(f"demo: {argv[0]} {argv[1]} ended with exit code {code}; expected was {expect[0]}.")


def training_python() -> str:
    """The interpreter for the training environment: this one where torch 2.5.1 has wheels for it, else 3.11 by uv."""
    return sys.executable if (3, 10) <= sys.version_info[:2] <= (3, 12) else "3.11"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(".demo"))
    folder = parser.parse_args().folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".gitignore").write_text("*\n")
    doctor = str(Path(sys.executable).parent / "skyt1-doctor")
    env_dir, model, data, work = (
        folder / "env",
        folder / "model",
        folder / "my data" / "sky-t1.json",
        folder / "workspace",
    )
    for old in (env_dir, model, data.parent, work):
        shutil.rmtree(old, ignore_errors=True)

    say("A training environment, as these packages resolve today: " + " ".join(PACKAGES))
    uv_bin = uv.find_uv_bin()
    # Nothing active; bytecode is kept, or every command would compile torch anew.
    hidden = {"VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE"}
    plain = {name: value for name, value in os.environ.items() if name not in hidden}
    run(uv_bin, "venv", "--quiet", "--python", training_python(), str(env_dir), environ=plain, cwd=folder)
    python = str(env_dir / "bin" / "python")
    run(uv_bin, "pip", "install", "--quiet", "--python", python, *PACKAGES, environ=plain, cwd=folder)

    say("A random 2-layer Qwen2, a small sharegpt data set, the recipe with its published faults")
    run(python, str(Path(__file__).parent / "toy_model.py"), str(model), environ=plain, cwd=folder)
    workspace.write_workspace(work)
    workspace.write_data(data)

    # Two CPU processes stand in for eight GPUs; the hub is not asked, as on a machine without a network.
    active = {**plain, "VIRTUAL_ENV": str(env_dir), "PATH": f"{env_dir / 'bin'}{os.pathsep}{plain.get('PATH', '')}"}
    active["NPROC_PER_NODE"] = "2"
    say("skyt1-doctor check: what stands between this recipe and a training run")
    run(doctor, "check", environ=active, cwd=work, expect=(1,))
    say("skyt1-doctor fix: the plan, nothing is changed")
    run(doctor, "fix", "--model", str(model), "--dataset", str(data), environ=active, cwd=work, expect=(0, 1))
    say("skyt1-doctor fix --apply: mended and verified")
    run(doctor, "fix", "--apply", "--yes", "--model", str(model), "--dataset", str(data), environ=active, cwd=work)
    say("skyt1-doctor train: the gate passes, the run is launched and watched to its end")
    run(doctor, "train", "--", "cutoff_len=512", "num_train_epochs=1", environ=active, cwd=work)

    saved = sorted((work / "saves").rglob("model.safetensors"))
    if not saved:
        sys.exit("demo: the run ended without a model in its output directory.")
    say(f"Trained checkpoint: {saved[0].parent.relative_to(folder.parent)}")


if __name__ == "__main__":
    main()
