"""The folders that a run writes to and goes on from: what stands in output_dir, and the checkpoint to resume from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from doctor.facts import Facts, Unknown
from doctor.recipe import model_folder, resumed_checkpoint, resumed_state, weight_files
from doctor.target import Target

_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin", "model.safetensors", "pytorch_model.bin",
            "model.safetensors.index.json", "pytorch_model.bin.index.json")  # fmt: skip

# What the Trainer reads with torch.load, beside rng_state*.pth; DeepSpeed reads its own files itself.
_TORCH_STATES = ("optimizer.pt", "scheduler.pt")


def read(target: Target, facts: Facts, values: Mapping[str, Any]) -> dict[str, Any]:
    return {**_output_dir(target, values), "arguments.resume": _resume(target, facts, values)}


def _resume(target: Target, facts: Facts, values: Mapping[str, Any]) -> Any:
    """The folder that the run would resume from; None without one. `key` names the reason: resume_from_checkpoint, where
    `true` means output_dir as the Trainer reads it, or output_dir, whose newest checkpoint LLaMA-Factory goes on from.

    `complete`: the newest checkpoint-N in it, or beside it, that has weights and trainer_state.json.
    """
    key, given = "resume_from_checkpoint", values.get("resume_from_checkpoint")
    whole = given is True
    given = values.get("output_dir") if whole else given
    try:
        if given is None and goes_on(values):
            key, given = "output_dir", _newest(target.workdir, str(values.get("output_dir")))
        if not isinstance(given, str) or (key == "output_dir" and not given.strip()):
            return None
        folder = target.workdir / given
        below = _complete(folder) or (None if whole else _complete(folder.parent))
        if whole:
            folder = below or folder
        names = set(os.listdir(folder)) if os.path.isdir(folder) else set()
        reader = resumed_state.reader(target.site)
        launched, stage = _as_launched(facts, values), _stage(facts, values)
        looked = resumed_checkpoint.faults(folder, names, launched, stage, _ranks(facts), reader) if names else ()
        damaged = list(looked)
    except OSError as error:
        return Unknown(f"{given} cannot be listed ({error.strerror})")
    return {
        "key": key,
        "path": target.shown(folder),
        "exists": os.path.isdir(folder),
        "weights": bool(names & set(_WEIGHTS)),
        "model": "config.json" in names and bool(names & set(_WEIGHTS)),
        "trainer_state": "trainer_state.json" in names,
        "global_step": any(name.startswith("global_step") for name in names),
        "complete": target.shown(below) if below and below != folder else None,
        "torch_files": sorted(n for n in names if n in _TORCH_STATES or n.startswith("rng_state"))[:8],
        "faults": damaged[:12],
        "outline": _outline(folder / "model.safetensors") if "model.safetensors" in names else {},
        "steps_done": resumed_checkpoint.steps_done(folder),
    }


def _outline(path: Path) -> dict[str, Any]:
    """Names and shapes of the weights, see model_folder.outline."""
    return model_folder.outline(weight_files.safetensors(path, set())[1])


def goes_on(values: Mapping[str, Any]) -> bool:
    """Whether LLaMA-Factory (hparams/parser.py, get_train_args) looks for a checkpoint in output_dir on its own."""
    anew = values.get("stage") in ("rm", "ppo") and values.get("finetuning_type", "lora") in ("full", "freeze")
    return bool(values.get("do_train")) and not values.get("overwrite_output_dir") and not anew


def _newest(workdir: Path, output_dir: str) -> str | None:
    """transformers' get_last_checkpoint: whatever is in it."""
    folder = workdir / output_dir
    if not output_dir or not folder.is_dir():
        return None
    newest = max((p for p in _checkpoints(folder) if p.is_dir()), key=_step, default=None)
    return f"{output_dir.rstrip('/')}/{newest.name}" if newest else None


def _stage(facts: Facts, values: Mapping[str, Any]) -> Any:
    """The stage of ZeRO; None without DeepSpeed, 0 where its JSON does not say it."""
    zero = (facts.get("deepspeed.config") or {}).get("zero_optimization")
    stage = zero.get("stage", 0) if isinstance(zero, Mapping) else 0
    return stage if values.get("deepspeed") else None


def _ranks(facts: Facts) -> tuple[int, ...]:
    """The world size, and the ranks of one node, which may have a disk of its own. Empty where states may be cut anew."""
    checkpoint = (facts.get("deepspeed.config") or {}).get("checkpoint")
    universal = isinstance(checkpoint, Mapping) and checkpoint.get("load_universal")
    world, local = facts.get("launch.world_size"), facts.get("launch.nproc")
    if universal or not world:
        return ()
    return (world, local) if local and local != world else (world,)


def _as_launched(facts: Facts, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The values, with the optimizer that the DeepSpeed JSON names in the place of the recipe's."""
    optimizer = (facts.get("deepspeed.config") or {}).get("optimizer") if values.get("deepspeed") else None
    name = str(optimizer.get("type")).lower() if isinstance(optimizer, Mapping) else ""
    return {**values, "optim": "adamw_torch" if "adam" in name else name} if name else values


def _complete(folder: Path) -> Path | None:
    if not folder.is_dir():
        return None
    whole = (p for p in _checkpoints(folder) if (p / "trainer_state.json").is_file())
    return max(whole, key=_step, default=None)


def _checkpoints(folder: Path) -> list[Path]:
    return [path for path in folder.glob("checkpoint-*") if _step(path) >= 0]


def _step(path: Path) -> int:
    """N of checkpoint-N, -1 of any other name."""
    start, _, number = path.name.partition("-")
    return int(number) if start == "checkpoint" and number.isdecimal() else -1


def _output_dir(target: Target, values: Mapping[str, Any]) -> dict[str, Any]:
    """What stands in the output directory: weights at its top, the newest checkpoint, anything."""
    given = values.get("output_dir")
    if not isinstance(given, str) or not given:
        return {"arguments.output_dir": None}
    folder = target.workdir / os.path.expanduser(given)
    try:
        names = [item.name for item in os.scandir(folder)]
    except FileNotFoundError:
        return {
            "arguments.output_dir": {"path": given, "exists": False, "weights": [], "checkpoint": None, "free": None}
        }
    except OSError as error:
        return {"arguments.output_dir": Unknown(f"{given} cannot be listed ({error.strerror})")}
    newest = max((_step(folder / name) for name in names), default=-1)
    free = next(
        f"{given.rstrip('/')}-{n}"
        for n in range(2, 1000)
        if not os.path.exists(target.workdir / f"{given.rstrip('/')}-{n}")
    )
    state = {
        "path": given,
        "exists": True,
        "weights": [name for name in _WEIGHTS if name in names],
        "checkpoint": f"{given.rstrip('/')}/checkpoint-{newest}" if newest >= 0 else None,
        "free": free,
    }
    return {"arguments.output_dir": state}
