"""The optimizer's state in a checkpoint: whether it is of the optimizer, and of the parameters, that this run has.

torch takes the settings of the saved groups over as they are; those of another optimizer lack what its step asks for, and
groups of another length are refused. Without DeepSpeed it is read where optimizer.pt and scheduler.pt are both there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from doctor.recipe import json_object, torch_file

NEEDED = ("optimizer.pt", "scheduler.pt")
# Beginning of `optim` -> the setting that its step reads from every group (torch/optim, transformers/optimization.py).
_SETTINGS = {"adamw_torch": "betas", "adamw_hf": "betas", "adafactor": "beta1", "sgd": "momentum", "rmsprop": "alpha",
             "adagrad": "lr_decay"}  # fmt: skip
_DEFAULT = "adamw_torch"


def faults(folder: Path, values: Mapping[str, Any], tensors: int) -> Iterator[str]:
    """In words. `tensors`: how many the weights in the checkpoint are."""
    groups = _groups(folder / NEEDED[0], ())
    if groups is None:
        return
    other = list(_other_optimizer(groups, values))
    yield from other
    if not other:
        yield from _other_parameters(folder, values, sum(len(group["params"]) for group in groups), tensors)


def of_deepspeed(path: Path, values: Mapping[str, Any]) -> Iterator[str]:
    """Of one *_optim_states.pt, which holds the state of the optimizer that DeepSpeed was given."""
    groups = _groups(path, ("optimizer_state_dict", "base_optimizer_state"))
    yield from _other_optimizer(groups or [], values)


def _other_optimizer(groups: list[dict[str, Any]], values: Mapping[str, Any]) -> Iterator[str]:
    optim = str(values.get("optim") or _DEFAULT)
    setting = next((name for start, name in _SETTINGS.items() if optim.startswith(start)), None)
    own = any(values.get(name) for name in ("use_badam", "use_galore", "use_apollo", "use_muon", "use_adam_mini"))
    if setting and not own and not all(setting in group for group in groups):
        yield f"the optimizer's state in it is of another optimizer than {optim}: its groups have no {setting}"


def _groups(path: Path, within: tuple[str, ...]) -> list[dict[str, Any]] | None:
    try:
        held = torch_file.content(path)
    except (torch_file.CutOff, OSError):
        return None  # said where the files are looked at
    for name in within:
        held = held.get(name) if isinstance(held, dict) else None
    groups = held.get("param_groups") if isinstance(held, dict) else None
    whole = isinstance(groups, list) and groups and all(isinstance(group, dict) for group in groups)
    if not whole or not all(isinstance(group.get("params"), list) for group in groups or ()):
        return None
    return groups


def _other_parameters(folder: Path, values: Mapping[str, Any], saved: int, tensors: int) -> Iterator[str]:
    method = values.get("finetuning_type", "lora")
    if method == "lora":
        yield from _other_adapter(folder / "adapter_config.json", values)
    elif method == "freeze" and 0 < tensors <= saved:
        yield f"the optimizer's state in it is of all {saved} parameters, and finetuning_type is freeze"
    elif method == "full" and 0 < saved < tensors // 2:
        yield f"the optimizer's state in it is of {saved} parameters, the weights have {tensors}: it trained fewer"


def _other_adapter(path: Path, values: Mapping[str, Any]) -> Iterator[str]:
    config, _ = json_object.read(path)
    targets = config.get("target_modules") if config else None
    if config is None or not isinstance(targets, list):
        return
    given = values.get("lora_target", "all")
    named = given.split(",") if isinstance(given, str) else given if isinstance(given, list) else []
    wanted = {str(name).strip() for name in named}
    if wanted and not wanted & {"all", "all-linear"} and wanted != set(map(str, targets)):
        shown = ", ".join(sorted(map(str, targets)))
        yield f"the adapter in it changes {shown[:120]}, and lora_target is {', '.join(sorted(wanted))[:120]}"
    elif bool(config.get("use_dora")) != bool(values.get("use_dora")):
        yield f"the adapter in it has use_dora {bool(config.get('use_dora'))}, and the recipe {bool(values.get('use_dora'))}"
