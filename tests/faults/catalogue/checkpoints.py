"""Faults of the folder that a run resumes from: a piece that is cut, or that belongs to another run."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.catalogue.adapters import adapter
from tests.faults.catalogue.data import POINTER
from tests.faults.catalogue.recipe import values
from tests.faults.catalogue.tensors import read_tensors, write_tensors
from tests.faults.fault import Fault, Inject
from tests.faults.workspace import Workspace

STATE: dict[str, Any] = {
    "best_metric": None, "best_model_checkpoint": None, "epoch": 0.0625, "eval_steps": 500, "global_step": 1,
    "is_hyper_param_search": False, "is_local_process_zero": True, "is_world_process_zero": True, "log_history": [],
    "logging_steps": 1.0, "max_steps": 1, "num_input_tokens_seen": 0, "num_train_epochs": 1, "save_steps": 1,
    "stateful_callbacks": {}, "total_flos": 0.0, "train_batch_size": 1, "trial_name": None, "trial_params": None,
}  # fmt: skip


def resumed(change: Callable[[Path], object], **values: Any) -> Inject:
    """A checkpoint of the model after one step, which `change` is done to, and a recipe that goes on from it."""

    def inject(place: Workspace) -> None:
        folder = place.root / "saves/old/checkpoint-1"
        folder.mkdir(parents=True)
        shutil.copy(place.model / "model.safetensors", folder)
        shutil.copy(place.model / "config.json", folder)
        (folder / "trainer_state.json").write_text(json.dumps(STATE, indent=1))
        change(folder)
        place.set_recipe(resume_from_checkpoint="saves/old/checkpoint-1", max_steps=2, **values)

    return inject


def text(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content)


def state(**changed: Any) -> Callable[[Path], object]:
    return text("trainer_state.json", json.dumps({**STATE, **changed}))


def cut(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:200])


def optimizer_cut(folder: Path) -> None:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("archive/data.pkl", "x" * 1000)
    for name in ("optimizer.pt", "scheduler.pt"):
        (folder / name).write_bytes(held.getvalue()[:500])


def with_an_adapter(rank: int) -> Inject:
    """A checkpoint that holds an adapter of that rank in the place of the model."""

    def inject(place: Workspace) -> None:
        resumed(lambda folder: (folder / "model.safetensors").unlink())(place)
        adapter(rank, rank)(place)
        place.set_recipe(adapter_name_or_path=None)
        for file in (place.root / "saves/adapter").iterdir():
            shutil.copy(file, place.root / "saves/old/checkpoint-1")

    return inject


STATES = """
import torch
optimizer = {"state": {}, "param_groups": [{"params": [0, 1], "lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8}]}
scheduler = {"last_epoch": 1}
CODE
torch.save(optimizer, "optimizer.pt")
torch.save(scheduler, "scheduler.pt")
"""


def with_states(code: str) -> Inject:
    """States of the optimizer and of the scheduler as the torch of the environment writes them, changed by `code`."""

    def inject(place: Workspace) -> None:
        resumed(lambda folder: None)(place)
        argv = [str(place.environment.python), "-c", STATES.replace("CODE", code)]
        subprocess.run(argv, cwd=place.root / "saves/old/checkpoint-1", check=True, capture_output=True)

    return inject


def wider(folder: Path) -> None:
    """The weights of a model of another width."""
    header, tensors = read_tensors(folder / "model.safetensors")
    header["model.norm.weight"] = {**header["model.norm.weight"], "shape": [8, 8]}
    write_tensors(folder / "model.safetensors", header, tensors)


def fault(id: str, what: str, inject: Inject, base: str = "sky-t1 full") -> Fault:
    return Fault(id, "ckpt-missing-optimizer-state", what, inject, base, healable=False)


def foreign(id: str, what: str, inject: Inject, base: str = "sky-t1 full") -> Fault:
    return Fault(id, "ckpt-resume-mismatch", what, inject, base)


FAULTS = [
    fault("resumed-state-cut", "half of trainer_state.json", resumed(cut("trainer_state.json"))),
    fault("resumed-state-empty", "an empty trainer_state.json", resumed(text("trainer_state.json", "")), "current full"),
    fault("resumed-state-list", "trainer_state.json: []", resumed(text("trainer_state.json", "[]"))),
    fault("resumed-step-quoted", 'global_step: "1"', resumed(state(global_step="1")), "current full"),
    fault("resumed-weights-cut", "the weights of the checkpoint are cut", resumed(cut("model.safetensors"))),
    fault("resumed-weights-pointer", "they are a git-lfs pointer", resumed(text("model.safetensors", POINTER)),
          "current full"),
    fault("resumed-optimizer-cut", "optimizer.pt and scheduler.pt are cut", resumed(optimizer_cut)),
    fault("resumed-step-null", "global_step: null", resumed(state(global_step=None))),
    fault("resumed-step-fraction", "global_step: 1.0", resumed(state(global_step=1.0)), "current full"),
    fault("resumed-flops-quoted", 'total_flos: "0"', resumed(state(total_flos="0"))),
    fault("resumed-history-text", 'log_history: ""', resumed(state(log_history="")), "current full"),
    fault("resumed-batch-quoted", 'train_batch_size: "1"', resumed(state(train_batch_size="1"))),
    fault("resumed-state-with-bom", "trainer_state.json begins with a byte order mark",
          resumed(text("trainer_state.json", "\ufeff" + json.dumps(STATE)))),
    fault("resumed-config-cut", "half of the checkpoint's config.json", resumed(cut("config.json")), "current full"),
    fault("resumed-optimizer-of-none", "no state of an optimizer in optimizer.pt", with_states("optimizer = {'a': 1}")),
    fault("resumed-scheduler-list", "scheduler.pt holds a list", with_states("scheduler = [1]"), "current full"),
    Fault("resumed-path-empty", "ckpt-missing-optimizer-state", 'resume_from_checkpoint: ""',
          values(resume_from_checkpoint="")),
    foreign("resumed-state-of-newer", "trainer_state.json of a newer transformers", resumed(state(best_global_step=1))),
    foreign("resumed-other-shape", "a tensor of another shape in the checkpoint", resumed(wider), "current full"),
    foreign("resumed-one-group", "the optimizer's state has one group of parameters", with_states("")),
    foreign("resumed-adapter-in-full", "the checkpoint of an adapter, with full tuning", with_an_adapter(2)),
    foreign("resumed-other-rank", "lora_rank is not that of the checkpoint", with_an_adapter(4), "sky-t1 lora"),
]  # fmt: skip
