"""Healthy workspaces of both stacks, full and LoRA, with and without DeepSpeed, small enough to train in seconds."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doctor import launch_profile
from tests.stack.environments import Environment, plain_environ
from tests.stack.reproductions.place import Place


@dataclass(frozen=True)
class Base:
    """A healthy workspace: the stack, the values of the recipe beyond the common ones, the ZeRO stage or None."""

    stack: str
    recipe: Mapping[str, Any]
    zero: int | None = None


LORA = {"finetuning_type": "lora", "lora_rank": 2}
BASES = {
    "sky-t1 full": Base("sky-t1", {}),
    "sky-t1 lora": Base("sky-t1", LORA),
    "sky-t1 full zero2": Base("sky-t1", {}, 2),
    "sky-t1 full zero3": Base("sky-t1", {}, 3),
    "sky-t1 lora zero2": Base("sky-t1", LORA, 2),
    "current full": Base("current", {}),
    "current lora": Base("current", LORA),
    "current full zero2": Base("current", {}, 2),
}


class Workspace(Place):
    """A workspace under `root`. `environ` holds what its user's shell has beyond the environment's own variables."""

    def __init__(self, root: Path, environment: Environment, base: Base) -> None:
        shutil.rmtree(root, ignore_errors=True)
        super().__init__(root, environment)
        self.home = root / "home"
        self.home.mkdir()
        self.environ |= {
            "HOME": str(self.home),
            "TORCH_EXTENSIONS_DIR": str(environment.root.parent / f"torch_extensions-{base.stack}"),
            "UV_CACHE_DIR": os.environ.get("UV_CACHE_DIR", str(Path.home() / ".cache/uv")),
            "FORCE_TORCHRUN": "0",
        }
        self.set_recipe(preprocessing_num_workers=None, **base.recipe)
        if base.zero is not None:
            self.environ |= {"FORCE_TORCHRUN": "1", "LOCAL_SIZE": "1", "MASTER_PORT": "29571"}
            self.write_deepspeed(zero_optimization={"stage": base.zero, "overlap_comm": False})
            if base.stack == "current":  # its transformers refuses bf16 without a GPU
                self.set_recipe(bf16=None)
                self.edit_deepspeed(bf16={"enabled": False})

    def trained(self) -> bool:
        """Also where a fix has put output_dir, and a run that is only to evaluate."""
        written = ("outputs/**/train_results.json", "saves*/**/eval_results.json")
        return super().trained() or any(any(self.root.glob(pattern)) for pattern in written)

    def shell(self) -> dict[str, str]:
        """The whole environment of the user's shell, a launch profile of the doctor's merged over it."""
        path = f"{self.environment.root / 'bin'}{os.pathsep}{os.environ['PATH']}"
        around = {**plain_environ(), "VIRTUAL_ENV": str(self.environment.root), "PATH": path, **self.environ}
        return launch_profile.merged(around, self.root)

    def edit_deepspeed(self, **values: Any) -> None:
        config = json.loads(self.deepspeed.read_text())
        self.deepspeed.write_text(json.dumps({**config, **values}, indent=2) + "\n")

    def edit_json(self, path: Path, **values: Any) -> None:
        """Change keys of a JSON file; a value None takes the key out."""
        config = {**json.loads(path.read_text()), **values}
        path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}, indent=1))

    def keep_a_copy(self) -> Path:
        """Another, whole copy of the model, as a user has who downloads it anew."""
        whole = self.model.parent / "whole"
        shutil.copytree(self.model, whole)
        return whole
