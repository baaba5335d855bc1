"""Real training environments and runs for the stack tests: installed from the registry, trained on two CPU processes."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import uv

from demo import workspace

DEMO = Path(__file__).parents[2] / "demo"
SKY_T1 = (
    "llamafactory==0.9.1",
    "torch==2.5.1",
    "deepspeed==0.16.2",
)  # as the published recipe's users install it today
MENDED = ("pyarrow<26", "setuptools<81")  # what SKY_T1 lacks before it can import and build at all
CURRENT = ("llamafactory==0.9.5", "deepspeed==0.18.4")
LIMIT = 900.0  # seconds for one command


def plain_environ() -> dict[str, str]:
    """The environment of a shell with nothing active. Bytecode is kept, or every run would compile torch anew."""
    hidden = {"VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH", "HF_ENDPOINT", "WANDB_API_KEY", "HF_TOKEN"}
    hidden |= {"PYTHONDONTWRITEBYTECODE"}
    return {name: value for name, value in os.environ.items() if name not in hidden}


class Environment:
    """A venv made by uv. `environ` is the environment of a shell in which it is active, two processes asked for."""

    def __init__(self, root: Path, *packages: str, python: str = "3.11") -> None:
        self.root = root
        self.python = root / "bin" / "python"
        subprocess.run([uv.find_uv_bin(), "venv", "-q", "--python", python, str(root)], check=True, env=plain_environ())
        self.install(*packages)
        path = f"{root / 'bin'}{os.pathsep}{os.environ['PATH']}"
        self.environ = {**plain_environ(), "VIRTUAL_ENV": str(root), "PATH": path, "NPROC_PER_NODE": "2"}
        # Compiled for this torch: environments that share ~/.cache/torch_extensions load each other's builds.
        self.environ["TORCH_EXTENSIONS_DIR"] = str(root / "torch_extensions")

    def install(self, *packages: str) -> None:
        argv = [uv.find_uv_bin(), "pip", "install", "-q", "--python", str(self.python), *packages]
        subprocess.run(argv, check=True, env=plain_environ())

    def freeze(self) -> list[str]:
        argv = [uv.find_uv_bin(), "pip", "freeze", "--python", str(self.python)]
        return sorted(
            subprocess.run(argv, check=True, env=plain_environ(), capture_output=True, text=True).stdout.split("\n")
        )

    def run(self, *argv: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
        """One command in this environment; stdout and stderr together."""
        return subprocess.run(
            argv,
            cwd=cwd,
            env={**self.environ, **environ},
            text=True,
            errors="replace",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            timeout=LIMIT,
            check=False,
        )

    def doctor(self, *arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
        """skyt1-doctor from its own environment, examining this one."""
        return self.run(str(Path(sys.executable).parent / "skyt1-doctor"), *arguments, cwd=cwd, **environ)

    def check(self, cwd: Path, *arguments: str, **environ: str) -> dict[str, Any]:
        """The document of `check --format json`."""
        argv = [str(Path(sys.executable).parent / "skyt1-doctor"), "check", "--format", "json", *arguments]
        answer = subprocess.run(argv, cwd=cwd, env={**self.environ, **environ}, capture_output=True, check=False)
        return json.loads(answer.stdout)


class Workspace:
    """The published recipe's workspace with its faults, a toy model and a small data set beside it."""

    def __init__(self, root: Path, environment: Environment) -> None:
        self.root = root / "workspace"
        self.model = root / "model"
        self.data = root / "my data" / "sky-t1 数据.json"
        workspace.write_workspace(self.root)
        workspace.write_data(self.data)
        subprocess.run([str(environment.python), str(DEMO / "toy_model.py"), str(self.model)], check=True)
        self.recipe = self.root / "examples/train_full/qwen2_full_sft.yaml"
        self.info = self.root / "data/dataset_info.json"
        self.deepspeed = self.root / "examples/deepspeed/ds_z3_offload_config.json"

    def mend_recipe(self, **values: str) -> None:
        """Everything by hand that the reproduction is not about: model, data, template, wandb, lengths."""
        usual = {"model_name_or_path": str(self.model), "template": "qwen", "report_to": "none", "cutoff_len": "256"}
        usual |= {"preprocessing_num_workers": "1", "num_train_epochs": "1.0", **values}
        lines = []
        for line in self.recipe.read_text().splitlines():
            key = line.partition(":")[0]
            lines.append(f"{key}: {usual.pop(key)}" if key in usual else line)
        lines += [f"{key}: {value}" for key, value in usual.items()]
        self.recipe.write_text("\n".join(lines) + "\n")
        info = {"Sky-T1": {**workspace.DATASET_INFO["Sky-T1"], "file_name": str(self.data)}}
        self.info.write_text(json.dumps(info))

    def set_stage(self, stage: int) -> None:
        config = json.loads(self.deepspeed.read_text())
        zero = {"stage": stage, "offload_optimizer": {"device": "cpu"}, "reduce_bucket_size": "auto"}
        config["zero_optimization"] = zero if stage < 3 else {**config["zero_optimization"], "stage": 3}
        self.deepspeed.write_text(json.dumps(config))

    def hashes(self) -> dict[str, str]:
        """Content of every file that belongs to the user, by relative path; what the doctor keeps is left out."""
        files = [
            p for p in self.root.rglob("*") if p.is_file() and ".skyt1-doctor" not in p.parts and "saves" not in p.parts
        ]
        return {str(p.relative_to(self.root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}

    def trained(self) -> bool:
        return any((self.root / "saves").rglob("model.safetensors"))
