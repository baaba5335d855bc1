"""The optimizer's state in a checkpoint: whether it is of the optimizer, and of the parameters, that this run has.

torch takes the settings of the saved groups over as they are; those of another optimizer lack what its step asks for, and
groups of another length are refused. Without DeepSpeed it is read where optimizer.pt and scheduler.pt are both there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from doctor.recipe import json_object, torch_file
from doctor.recipe.safetensors_header import Tensor

NEEDED = ("optimizer.pt", "scheduler.pt")
# Beginning of `optim` -> the setting that its step reads from every group (torch/optim, transformers/optimization.py).
_SETTINGS = {"adamw_torch": "betas", "adamw_hf": "betas", "adafactor": "beta1", "sgd": "momentum", "rmsprop": "alpha",
             "adagrad": "lr_decay"}  # fmt: skip
_DEFAULT = "adamw_torch"


def damaged(path: Path) -> Iterator[str]:
    """What torch cannot load into an optimizer, whichever it is."""
    held = torch_file.readable(path)
    if held is not torch_file.UNREAD and (not isinstance(held, dict) or not {"state", "param_groups"} <= set(held)):
        yield f"{path.name} holds no state of an optimizer"
    groups, state = _groups(held), held.get("state") if isinstance(held, dict) else None
    saved = sum(len(group["params"]) for group in groups or ())
    if groups and isinstance(state, dict) and len(state) > saved:
        yield f"{path.name} has states of {len(state)} parameters, and its groups name {saved}"


def faults(folder: Path, values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Iterator[str]:
    """In words. `tensors`: of the weights in the checkpoint."""
    held = torch_file.readable(folder / NEEDED[0])
    groups = _groups(held)
    if groups is None:
        return
    saved = sum(len(group["params"]) for group in groups)
    for other in (
        _other_optimizer(groups, values),
        _other_groups(groups, values),
        _other_parameters(folder, values, saved, len(tensors)),
        _other_shapes(held, tensors),
    ):
        words = list(other)
        yield from words
        if words:
            return


def _other_groups(groups: list[dict[str, Any]], values: Mapping[str, Any]) -> Iterator[str]:
    """The Trainer makes two, with and without decay of weights; LLaMA-Factory makes four for LoRA+."""
    optim = str(values.get("optim") or _DEFAULT)
    if not any(optim.startswith(start) for start in _SETTINGS) or values.get("optim_target_modules") or _own(values):
        return
    plus = bool(values.get("loraplus_lr_ratio"))
    if len(groups) != (wanted := 4 if plus else 2):
        yield (f"the optimizer's state in it has {len(groups)} groups of parameters, and that of this run has {wanted}"
               f"{' with loraplus_lr_ratio' if plus else ''}")  # fmt: skip


def _other_shapes(held: Any, tensors: Mapping[str, Tensor]) -> Iterator[str]:
    """Each state that is as large as its parameter must be of a shape that the weights have as often."""
    states = held.get("state") if isinstance(held, dict) else None
    if not tensors or not isinstance(states, dict):
        return
    left = Counter(tuple(tensor.shape) for tensor in tensors.values())
    for state in states.values():
        average = state.get("exp_avg") if isinstance(state, dict) else None
        if not isinstance(average, Tensor) or average.dtype not in ("F32", "F16", "BF16", "F64"):
            continue
        shape = tuple(average.shape)
        left[shape] -= 1
        if left[shape] < 0:
            yield f"the optimizer's state in it is of a parameter of shape {list(shape)}, which its weights do not have"
            return


def of_deepspeed(path: Path, values: Mapping[str, Any]) -> Iterator[str]:
    """Of one *_optim_states.pt, which holds the state of the optimizer that DeepSpeed was given."""
    groups = _groups(torch_file.readable(path), ("optimizer_state_dict", "base_optimizer_state"))
    yield from _other_optimizer(groups or [], values)


def _other_optimizer(groups: list[dict[str, Any]], values: Mapping[str, Any]) -> Iterator[str]:
    optim = str(values.get("optim") or _DEFAULT)
    setting = next((name for start, name in _SETTINGS.items() if optim.startswith(start)), None)
    if setting and not _own(values) and not all(setting in group for group in groups):
        yield f"the optimizer's state in it is of another optimizer than {optim}: its groups have no {setting}"


def _own(values: Mapping[str, Any]) -> bool:
    """Whether LLaMA-Factory makes an optimizer of its own kind."""
    return any(values.get(name) for name in ("use_badam", "use_galore", "use_apollo", "use_muon", "use_adam_mini"))


def _groups(held: Any, within: tuple[str, ...] = ()) -> list[dict[str, Any]] | None:
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
    else:
        yield from _other_modules(config.get("modules_to_save") or [], values.get("additional_target") or "")


def _other_modules(saved: Any, given: Any) -> Iterator[str]:
    """The modules that are trained whole beside the adapter. With a larger vocabulary LLaMA-Factory names them itself."""
    wanted = {name.strip() for name in given.split(",") if name.strip()} if isinstance(given, str) else None
    if not isinstance(saved, list) or wanted is None or (not wanted and set(saved) <= {"embed_tokens", "lm_head"}):
        return
    if wanted != set(map(str, saved)):
        shown = ", ".join(map(str, saved)) or "no module"
        yield f"the adapter in it trains {shown[:120]} whole, and additional_target is {given or 'not given'}"
