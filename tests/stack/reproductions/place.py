"""The workspace of one reproduction: the published recipe cut down to one step of a toy model on one CPU process."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from demo import workspace
from tests.stack.environments import DEMO, Environment

RECIPE = {
    "stage": "sft",
    "do_train": True,
    "finetuning_type": "full",
    "dataset": "Sky-T1",
    "template": "qwen",
    "cutoff_len": 64,
    "overwrite_cache": True,
    "preprocessing_num_workers": 1,
    "output_dir": "saves/toy",
    "logging_steps": 1,
    "save_strategy": "no",
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "learning_rate": 0.001,  # in exponent form PyYAML would read text
    "max_steps": 1,
    "report_to": "none",
}
RECORDS = 16


class Place:
    """A healthy workspace under `root`: model, data, recipe. `environ` is added to the shell's when commands run."""

    def __init__(self, root: Path, environment: Environment) -> None:
        self.root = root / "LLaMA-Factory"
        self.environment = environment
        # Compiled files are kept: without them every run compiles all it imports, which triples its time.
        self.environ = {"NPROC_PER_NODE": "1", "PYTHONDONTWRITEBYTECODE": ""}
        self.model = root / "models" / "toy"
        self.data = self.root / "data" / "sky-t1.json"
        workspace.write_workspace(self.root)
        workspace.write_data(self.data, RECORDS)
        toy = environment.root.parent / f"{environment.root.name}-toy"
        if not toy.exists():
            subprocess.run([str(environment.python), str(DEMO / "toy_model.py"), str(toy)], check=True)
        shutil.copytree(toy, self.model)
        self.recipe = self.root / "examples/train_full/qwen2_full_sft.yaml"
        self.info = self.root / "data/dataset_info.json"
        self.deepspeed = self.root / "examples/deepspeed/ds_z3_offload_config.json"
        self.write_recipe(model_name_or_path=str(self.model))
        self.write_info(file_name=self.data.name)

    def write_recipe(self, **values: Any) -> None:
        lines = [f"{key}: {json.dumps(value)}" for key, value in {**RECIPE, **values}.items()]
        self.recipe.write_text("\n".join(lines) + "\n")

    def set_recipe(self, **values: Any) -> None:
        """Change or add keys; a value None takes the key out."""
        lines = [line for line in self.recipe.read_text().splitlines() if line.partition(":")[0] not in values]
        lines += [f"{key}: {json.dumps(value)}" for key, value in values.items() if value is not None]
        self.recipe.write_text("\n".join(lines) + "\n")

    def add_line(self, line: str) -> None:
        """A line of the recipe as it is typed, in the place of the key that it sets."""
        self.set_recipe(**{line.partition(":")[0]: None})
        self.recipe.write_text(self.recipe.read_text() + line + "\n")

    def write_info(self, *, without: tuple[str, ...] = (), **values: Any) -> None:
        entry = {**workspace.DATASET_INFO["Sky-T1"], "file_name": self.data.name, **values}
        self.info.write_text(json.dumps({"Sky-T1": {k: v for k, v in entry.items() if k not in without}}, indent=2))

    def rows(self) -> list[dict[str, Any]]:
        return json.loads(self.data.read_text())

    def write_rows(self, rows: list[dict[str, Any]]) -> None:
        self.data.write_text(json.dumps(rows, ensure_ascii=False, indent=1))

    def write_deepspeed(self, **values: Any) -> None:
        """A plain ZeRO-2 file without offload, which needs no compiler, and a recipe that names it."""
        config = {
            **workspace.DEEPSPEED,
            "fp16": {"enabled": "auto"},
            "zero_optimization": {"stage": 2, "reduce_bucket_size": 5e8, "allgather_bucket_size": 5e8},
            **values,
        }
        self.deepspeed.write_text(json.dumps(config, indent=2) + "\n")
        self.set_recipe(deepspeed=str(self.deepspeed.relative_to(self.root)), bf16=True)

    def trained(self) -> bool:
        """Whether a run came to its end in any output directory of the workspace."""
        return any(self.root.rglob("saves*/**/train_results.json"))

    def neutral(self, log: str) -> str:
        """A log as it may be kept: paths of a user, no machine's name, no dumps of configurations."""
        log = log.replace(str(self.environment.root), "/home/user/miniconda3/envs/llamafactory")
        log = log.replace(str(self.root.parent), "/home/user")
        log = re.sub(r"/[^\s\"':]*(?=/(?:lib|include)/python3\.\d+\b(?!/site-packages))", self._standard_library, log)
        log = re.sub(
            r"^(\[INFO\|configuration_utils.py.*?(?:Config|config) \{)\n.*?^\}$", r"\1 … }", log, flags=re.M | re.S
        )
        log = re.sub(r"^(.*(?:Model|Generate) config.*\{)\n.*?^\}$", r"\1 … }", log, flags=re.M | re.S)
        return re.sub(r"(?m)^(\s*host\s*:).*$", r"\1 localhost", log)

    @staticmethod
    def _standard_library(found: re.Match[str]) -> str:
        """Where the interpreter itself lies: of a conda environment that is the environment's own folder."""
        return "/home/user/miniconda3/envs/llamafactory"
