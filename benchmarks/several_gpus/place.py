"""What a measurement stands on: environments made of wheels and of the torch that is there, models, data, workspaces.

An environment is a venv whose site-packages are links to those of the interpreter that runs this, all but the packages
that the wheels bring: it is made in seconds, torch is not copied, and what is there is not touched.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TREE = HERE.parents[1]  # of the doctor's sources, which the environment `doctor` runs
TINY = ("tiny", 256)  # shape and cutoff of a rehearsal on the CPU


def canonical(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def _brought(wheels: list[Path]) -> set[str]:
    return {canonical(wheel.name.split("-")[0]) for wheel in wheels}


def _replaced(names: set[str]) -> set[str]:
    """Top-level entries of the present site-packages that belong to those distributions alone."""
    mine: set[str] = set()
    others: set[str] = set()
    for found in metadata.distributions():
        tops = {str(file).split("/")[0] for file in found.files or () if not str(file).startswith("..")}
        (mine if canonical(found.metadata["Name"] or "") in names else others).update(tops)
    return mine - others


def environment(root: Path, *folders: Path, leave_out: str = "") -> Path:
    """The python of the environment `root`, made of the wheels in `folders` unless it is there already. `leave_out`: the
    beginning of the name of a wheel that is not installed."""
    python = root / "bin" / "python"
    if (root / "ready").exists():
        return python
    wheels = [wheel for folder in folders for wheel in sorted(folder.glob("*.whl"))]
    found = [wheel for wheel in wheels if not (leave_out and wheel.name.startswith(leave_out))]
    if not found:
        sys.exit(f"{', '.join(map(str, folders))}: no wheels there; wheels.py fetches them")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--clear", str(root)], check=True)
    site = next((root / "lib").glob("python*/site-packages"))
    gone = _replaced(_brought(found)) | {"__pycache__"}
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if entry.name in gone or (site / entry.name).exists():
            continue
        if entry.name.endswith(".dist-info"):  # uv sees no package behind a link
            shutil.copytree(entry, site / entry.name)
        else:
            os.symlink(entry, site / entry.name)
    argv = [str(python), "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-cache-dir", "--no-compile"]
    # by name, not by path: a package from a path counts as somebody's own build, which no fix replaces
    pins = ["==".join(wheel.name.split("-")[:2]) for wheel in found]
    links = [word for folder in folders for word in ("--find-links", str(folder))]
    subprocess.run([*argv, "--disable-pip-version-check", *links, *pins], check=True)
    _scripts(root, ("torch",))
    (root / "ready").touch()
    return python


def _scripts(root: Path, names: tuple[str, ...]) -> None:
    """Console scripts of linked packages (torchrun) that start this environment's python."""
    for name in names:
        for entry in metadata.distribution(name).entry_points:
            path = root / "bin" / entry.name
            if entry.group == "console_scripts" and not path.exists():
                module, _, function = entry.value.partition(":")
                path.write_text(
                    f"#!{root}/bin/python\nimport sys\nfrom {module} import {function}\nsys.exit({function}())\n"
                )
                path.chmod(0o755)


def versions(python: Path) -> dict[str, str]:
    names = ("torch", "llamafactory", "transformers", "accelerate", "deepspeed", "peft", "trl", "datasets", "numpy")
    code = "import json, sys, importlib.metadata as m\nf = {}\nfor n in sys.argv[1:]:\n try: f[n] = m.version(n)\n"
    code += " except m.PackageNotFoundError: pass\nprint(json.dumps(f))"
    said = subprocess.run([str(python), "-c", code, *names], check=True, capture_output=True, text=True).stdout
    return dict(json.loads(said))


def environ_of(python: Path, ranks: int, cpu: bool, **more: str) -> dict[str, str]:
    """The variables of a shell in which that environment is active. NVLink multicast stays off."""
    hidden = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CONDA_PREFIX", "CUDA_VISIBLE_DEVICES"}
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    made = {
        **kept, "VIRTUAL_ENV": str(python.parents[1]), "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        "NCCL_NVLS_ENABLE": "0", "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1", "NVSHMEM_DISABLE_NVLS": "1",
        "DISABLE_VERSION_CHECK": "1", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "DS_SKIP_CUDA_CHECK": "1",
        "TOKENIZERS_PARALLELISM": "false", "FORCE_TORCHRUN": "1", "NPROC_PER_NODE": str(ranks), "NNODES": "1",
        "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29501", "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": "1" if cpu else "8", **more,
    }  # fmt: skip
    if cpu:
        made |= {"LOCAL_SIZE": str(ranks), "CUDA_VISIBLE_DEVICES": ""}  # else deepspeed 0.15 asks numactl
    return made


def doctors_own(root: Path, wheels: Path) -> Path:
    """The python of the environment that runs the doctor, from this tree."""
    python = environment(root, wheels)
    site = next((root / "lib").glob("python*/site-packages"))
    (site / "tree.pth").write_text(f"{TREE}\n")
    return python


def doctor(python: Path, *arguments: str) -> list[str]:
    """The command line of the doctor."""
    return [str(python), "-c", "from doctor.cli import main; main()", *arguments]


def zero(stage: int, offload: str = "") -> dict[str, Any]:
    """The DeepSpeed JSON of LLaMA-Factory's examples for that stage; `offload`: "", optimizer, all."""
    found: dict[str, Any] = {"stage": stage, "overlap_comm": False, "contiguous_gradients": True}
    if stage < 3:
        found |= {"allgather_partitions": True, "allgather_bucket_size": 5e8, "reduce_scatter": True,
                  "reduce_bucket_size": 5e8, "round_robin_gradients": True}  # fmt: skip
    else:
        found |= {"sub_group_size": 1e9, "reduce_bucket_size": "auto", "stage3_prefetch_bucket_size": "auto",
                  "stage3_param_persistence_threshold": "auto", "stage3_max_live_parameters": 1e9,
                  "stage3_max_reuse_distance": 1e9, "stage3_gather_16bit_weights_on_model_save": True}  # fmt: skip
    if offload:
        found["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
    if offload == "all":
        found["offload_param"] = {"device": "cpu", "pin_memory": True}
    return {
        "train_batch_size": "auto", "train_micro_batch_size_per_gpu": "auto", "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto", "zero_allow_untested_optimizer": True, "bf16": {"enabled": "auto"},
        "fp16": {"enabled": "auto", "loss_scale": 0, "initial_scale_power": 16}, "zero_optimization": found,
    }  # fmt: skip


class Workspace:
    """A working directory with one recipe for a model in `models`, a small data set and a DeepSpeed JSON."""

    RECIPE = "recipe.yaml"

    def __init__(self, root: Path, model: Path, config: dict[str, Any] | None, **values: Any) -> None:
        self.root, self.model = root, model
        (root / "data").mkdir(parents=True, exist_ok=True)
        words = [f"w{number % 200}" for number in range(2000)]
        rows = [{"instruction": " ".join(words[i : i + 60]), "input": "", "output": " ".join(words[i + 60 : i + 300])}
                for i in range(512)]  # fmt: skip
        (root / "data" / "rows.json").write_text(json.dumps(rows))
        (root / "data" / "dataset_info.json").write_text(json.dumps({"rows": {"file_name": "rows.json"}}))
        recipe = {
            "model_name_or_path": str(model), "stage": "sft", "do_train": True, "finetuning_type": "full",
            "dataset": "rows", "template": "qwen", "cutoff_len": 512, "overwrite_cache": True,
            "preprocessing_num_workers": 1, "output_dir": "saves/run", "overwrite_output_dir": True, "logging_steps": 1,
            "save_strategy": "no", "report_to": "none", "per_device_train_batch_size": 1,
            "gradient_accumulation_steps": 4, "learning_rate": 0.0001, "max_steps": 3, "ddp_timeout": 1800,
        }  # fmt: skip
        if config is not None:
            (root / "deepspeed.json").write_text(json.dumps(config, indent=1))
            recipe["deepspeed"] = "deepspeed.json"
        recipe |= values
        (root / self.RECIPE).write_text("".join(f"{k}: {json.dumps(v)}\n" for k, v in recipe.items() if v is not None))

    def run_directory(self) -> Path | None:
        runs = self.root / ".skyt1-doctor" / "runs"
        return max(runs.iterdir(), key=lambda path: path.stat().st_mtime) if runs.is_dir() else None

    def rows(self, name: str) -> list[dict[str, Any]]:
        """metrics or events of the newest run."""
        folder = self.run_directory()
        try:
            return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()] if folder else []
        except (OSError, ValueError):
            return []

    def trained(self) -> bool:
        return (self.root / "saves" / "run" / "trainer_state.json").exists()

    def figures(self) -> dict[str, Any]:
        """The trainer's own seconds, and what its last log line says of the loss."""
        results = self.root / "saves" / "run" / "train_results.json"
        if not results.exists():
            return {"trained": False}
        found = json.loads(results.read_text())
        return {"trained": True, "train_seconds": found["train_runtime"], "loss": found["train_loss"]}

    def step(self) -> int:
        return max((row["step"] for row in self.rows("metrics") if row["kind"] == "step"), default=0)


def write_models(python: Path, folder: Path, shapes: list[str]) -> None:
    """Random models of the memory benchmark's shapes; `python` has transformers and tokenizers."""
    wanted = [shape for shape in shapes if not (folder / shape / "model.safetensors").exists()]
    if wanted:
        argv = [str(python), str(TREE / "benchmarks" / "memory" / "campaign.py"), "models", str(folder), *wanted]
        subprocess.run(argv, check=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})


def ranks_below(process: int) -> dict[int, int]:
    """RANK -> process of the trainers that descend from `process`, oldest of each rank."""
    found: dict[int, tuple[float, int]] = {}
    for each in descendants(process):
        try:
            environ = Path(f"/proc/{each}/environ").read_bytes().split(b"\0")
            started = float(Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()[19])
        except (OSError, IndexError, ValueError):
            continue
        rank = next((int(v[5:]) for v in environ if v.startswith(b"RANK=") and v[5:].isdigit()), None)
        if rank is not None and (rank not in found or started < found[rank][0]):
            found[rank] = (started, each)
    return {rank: each for rank, (_, each) in sorted(found.items())}


def children(process: int) -> list[int]:
    found = []
    for tasks in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            found += [int(word) for word in tasks.read_text().split()]
        except OSError:
            continue
    return found


def descendants(process: int) -> Iterator[int]:
    for child in children(process):
        yield child
        yield from descendants(child)
