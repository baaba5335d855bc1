"""A toy run of real LLaMA-Factory on two CPU ranks whose steps take as long as a test needs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import uv

from demo import workspace
from tests.stack.environments import DEMO, plain_environ

PACKAGES = ("llamafactory==0.9.1", "torch==2.5.1", "deepspeed==0.15.4", "pyarrow<26", "setuptools<81")
STARTING = 600.0  # seconds until a step is awaited in vain: importing torch takes minutes on a busy machine
READY = "SKYT1_STACK_ENV"  # variable that names an environment of these packages, so that none is installed
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
    "save_steps": 10,
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "learning_rate": 0.001,  # in exponent form PyYAML would read text
    "lr_scheduler_type": "cosine",
    "max_steps": 30,
    "seed": 7,
    "report_to": "none",
    "ddp_timeout": 180000000,
}
# transformers 4.46 cannot resume several CPU ranks without DeepSpeed: it loads optimizer.pt with map_location=cpu:0,
# which torch refuses ("don't know how to restore data location"). ZeRO-2 needs no compiler.
DEEPSPEED = {
    "train_batch_size": "auto",
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
    "zero_allow_untested_optimizer": True,
    "bf16": {"enabled": "auto"},
    "zero_optimization": {"stage": 2, "reduce_bucket_size": 5e8, "allgather_bucket_size": 5e8},
}
# Loaded into every rank through PYTHONPATH: steps take as long as TEST_STEP_SECONDS says, and while the file that
# TEST_STUCK names exists, data workers of rank 1 stick in their fetch; while TEST_SLOW exists, rank 1 computes four
# times as long. The trainer's own code is not touched.
HOOK = """
import os, sys, threading, time

def hook():
    while not hasattr(sys.modules.get("transformers.trainer"), "Trainer"):
        time.sleep(0.05)
    trainer = sys.modules["transformers.trainer"].Trainer
    plain_step = trainer.training_step
    def training_step(self, *a, **k):
        seconds = float(os.environ.get("TEST_STEP_SECONDS", "0"))
        slow = os.environ["RANK"] == "1" and os.path.exists(os.environ.get("TEST_SLOW", "/nowhere"))
        until = time.monotonic() + seconds * (4 if slow else 1)
        while time.monotonic() < until:
            time.sleep(0.01)
        return plain_step(self, *a, **k)
    trainer.training_step = training_step
    from torch.utils.data._utils import fetch
    fetcher = fetch._MapDatasetFetcher
    plain_fetch = fetcher.fetch
    def stuck_on_storage():
        while os.path.exists(os.environ.get("TEST_STUCK", "/nowhere")):
            time.sleep(0.2)
    def fetch_rows(self, *a, **k):
        if os.environ["RANK"] == "1":
            stuck_on_storage()
        return plain_fetch(self, *a, **k)
    fetcher.fetch = fetch_rows

if os.environ.get("RANK") is not None:
    threading.Thread(target=hook, daemon=True).start()
"""


def environment(root: Path, own: bool = False) -> Path:
    """The prefix of an environment of PACKAGES: a ready one, else (or where one's `own` is wanted) installed as `root`."""
    if READY in os.environ and not own:
        return Path(os.environ[READY]).absolute()
    root = root.absolute()
    venv = [uv.find_uv_bin(), "venv", "-q", "--clear", "--python", "3.11", str(root)]
    subprocess.run(venv, check=True, env=plain_environ())
    install(root, *PACKAGES)
    return root


def install(prefix: Path, *packages: str) -> None:
    argv = [uv.find_uv_bin(), "pip", "install", "-q", "--python", str(prefix / "bin" / "python"), *packages]
    subprocess.run(argv, check=True, env=plain_environ())


class Place:
    """A healthy workspace and the means to start, watch and disturb a run in it."""

    def __init__(self, root: Path, prefix: Path, port: int, deepspeed: bool = False, **recipe: Any) -> None:
        root = root.absolute()
        self.root, self.prefix = root / "LLaMA-Factory", prefix
        self.model = root / "models" / "toy"
        for earlier in ("LLaMA-Factory", "models", "hooks"):  # of a run of the campaign in the same folder
            shutil.rmtree(root / earlier, ignore_errors=True)
        workspace.write_workspace(self.root)
        workspace.write_data(self.root / "data" / "sky-t1.json", 96)
        subprocess.run([str(prefix / "bin" / "python"), str(DEMO / "toy_model.py"), str(self.model)], check=True)
        entry = {**workspace.DATASET_INFO["Sky-T1"], "file_name": "sky-t1.json"}
        (self.root / "data" / "dataset_info.json").write_text(json.dumps({"Sky-T1": entry}))
        if deepspeed:
            (self.root / "examples/deepspeed/ds.json").write_text(json.dumps(DEEPSPEED))
            recipe |= {"deepspeed": "examples/deepspeed/ds.json", "bf16": True}
        values = {**RECIPE, "model_name_or_path": str(self.model), **recipe}
        lines = [f"{key}: {json.dumps(value)}" for key, value in values.items() if value is not None]
        (self.root / "examples/train_full/qwen2_full_sft.yaml").write_text("\n".join(lines) + "\n")
        hooks = root / "hooks"
        hooks.mkdir()
        (hooks / "sitecustomize.py").write_text(HOOK)
        self.environ = {
            **plain_environ(),
            "VIRTUAL_ENV": str(prefix),
            "PATH": f"{prefix / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(hooks),
            "NPROC_PER_NODE": "2",
            "MASTER_PORT": str(port),
            "OMP_NUM_THREADS": "1",
            "LOCAL_SIZE": "2",  # else DeepSpeed 0.15 asks numactl on a CPU
        }

    def start(self, *arguments: str, step_seconds: float = 0.0, **environ: str) -> subprocess.Popen[bytes]:
        """`skyt1-doctor train` in a process of its own; its output goes to a file beside the workspace."""
        doctor = str(Path(sys.executable).parent / "skyt1-doctor")
        out = (self.root.parent / "out.txt").open("wb")
        self.doctor = subprocess.Popen(
            [doctor, "train", "--offline", "--no-rehearse", "--force", *arguments],
            cwd=self.root,
            env={**self.environ, "TEST_STEP_SECONDS": str(step_seconds), **environ},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
        return self.doctor

    # -- what is to be seen --------------------------------------------------------------------------------------

    def run_directory(self) -> Path:
        return max((self.root / ".skyt1-doctor" / "runs").iterdir(), key=lambda path: path.stat().st_mtime)

    def rows(self, name: str) -> list[dict[str, Any]]:
        """metrics or events of the newest run; empty before there are any."""
        try:
            lines = (self.run_directory() / f"{name}.jsonl").read_text().splitlines()
        except (OSError, ValueError):
            return []
        return [json.loads(line) for line in lines]

    def step(self) -> int:
        return max((row["step"] for row in self.rows("metrics") if row["kind"] == "step"), default=0)

    def wait_for_step(self, step: int, seconds: float = STARTING) -> None:
        wait(lambda: self.step() >= step or self.doctor.poll() is not None, seconds, f"step {step}")
        if self.step() < step:
            said = (self.root.parent / "out.txt").read_text(errors="replace").splitlines()[-5:]
            raise AssertionError(f"the run ended before step {step}: " + " / ".join(said))

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [row for row in self.rows("events") if row["kind"] == kind]

    def final(self) -> dict[str, float]:
        """Steps and loss of a run that has ended, from the trainer's own state."""
        state = json.loads((self.root / "saves/toy/trainer_state.json").read_text())
        losses = [row["loss"] for row in state["log_history"] if "loss" in row]
        return {"steps": state["global_step"], "loss": losses[-1], "logged": len(losses)}

    def ranks(self) -> dict[int, int]:
        """RANK → process of the runs in this workspace; the oldest process of a rank is the rank itself."""
        found: dict[int, psutil.Process] = {}
        for process in self.processes():
            try:
                rank = int(process.environ()["RANK"])
            except (psutil.Error, KeyError):
                continue
            if rank not in found or process.create_time() < found[rank].create_time():
                found[rank] = process
        return {rank: process.pid for rank, process in sorted(found.items())}

    def processes(self) -> list[psutil.Process]:
        """Every living process of a trainer in this workspace."""
        found = []
        for process in psutil.process_iter():
            try:
                if (
                    process.status() != psutil.STATUS_ZOMBIE
                    and process.environ().get("PYTHONPATH", "").startswith(str(self.root.parent / "hooks"))
                    and "SKYT1_DOCTOR_RUN" in process.environ()
                ):
                    found.append(process)
            except psutil.Error:
                continue
        return found


def wait(condition: Any, seconds: float, what: str) -> float:
    """Seconds until `condition()` holds; fails the test when it does not."""
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        if condition():
            return time.monotonic() - started
        time.sleep(0.1)
    raise AssertionError(f"waited {seconds:g} s in vain for {what}")
