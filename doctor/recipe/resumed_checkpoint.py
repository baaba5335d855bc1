"""The folder that a run resumes from: which of its pieces are damaged, or do not belong to this run.

The Trainer loads trainer_state.json first, then the weights or the adapter, then optimizer and scheduler where both are
there; DeepSpeed loads its global_step folder instead, of which `latest` names the one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from doctor.recipe import json_object, resumed_optimizer, resumed_state, safetensors_header, weight_files

# Kinds of a fault
UNUSABLE, FOREIGN, OTHER_RANKS = "unusable", "of another run", "of other ranks"

_STATES = ("optimizer.pt", "scheduler.pt", "scaler.pt")
_TENSORS = ("model.safetensors", "adapter_model.safetensors")
_INDEX = "model.safetensors.index.json"


class Fault(NamedTuple):
    kind: str
    what: str


def faults(
    folder: Path, names: set[str], values: Mapping[str, Any], stage: Any, ranks: tuple[int, ...] = (),
    reader: resumed_state.Reader = resumed_state.NOBODY,
) -> Iterator[Fault]:  # fmt: skip
    """`stage`: of ZeRO, None without DeepSpeed. `ranks`: how many of them may have their states in a folder of this node;
    empty where that is not known. Raises nothing for what the files hold."""
    held: dict[str, safetensors_header.Tensor] = {}
    for what in _damaged(folder, names, stage, reader):
        yield Fault(UNUSABLE, what)
    for what in resumed_state.foreign_keys(folder / resumed_state.NAME, reader):
        yield Fault(FOREIGN, what)
    for name in _TENSORS:
        if name in names:
            try:
                tensors = safetensors_header.read(folder / name)
            except (safetensors_header.Unreadable, OSError, ValueError) as why:
                yield Fault(UNUSABLE, f"{name}: {why}")
                continue
            held = max(held, tensors, key=len)
            if name.startswith("adapter"):
                yield from (Fault(FOREIGN, what) for what in _adapter(tensors, values))
    for what in _of_another_run(folder, names, values, stage, held):
        yield Fault(FOREIGN, what)
    if stage is not None:
        yield from _of_deepspeed(folder, names, stage, values, ranks)


def _damaged(folder: Path, names: set[str], stage: Any, reader: resumed_state.Reader) -> Iterator[str]:
    yield from resumed_state.trainer_state(folder / resumed_state.NAME, reader)
    if "model.safetensors" in names:
        yield from resumed_state.configuration(folder / "config.json")
    looks = {"optimizer.pt": resumed_optimizer.damaged, "scheduler.pt": resumed_state.scheduler}
    for name in (*_STATES, *sorted(n for n in names if n.startswith("rng_state"))[:64]):
        if name in names and (fault := weight_files.torch_file_fault(folder / name)):
            yield f"{name}: {fault}"
        elif name in names and name.startswith("rng_state"):
            yield from resumed_state.random_states(folder / name)
        elif name in looks and stage is None and set(resumed_optimizer.NEEDED) <= names:
            yield from looks[name](folder / name)
    yield from _shards(folder, names)


def _of_another_run(
    folder: Path, names: set[str], values: Mapping[str, Any], stage: Any, held: dict[str, safetensors_header.Tensor]
) -> Iterator[str]:
    """`held`: tensors of the weights in the checkpoint."""
    lora = values.get("finetuning_type", "lora") == "lora"
    if lora and stage is None and "adapter_config.json" not in names and "model.safetensors" in names:
        yield "it holds a whole model, and finetuning_type is lora"
    elif not lora and "adapter_config.json" in names:
        yield f"it holds an adapter, and finetuning_type is {values.get('finetuning_type')}"
    elif stage is None and set(resumed_optimizer.NEEDED) <= names:
        yield from resumed_optimizer.faults(folder, values, held)


def _shards(folder: Path, names: set[str]) -> Iterator[str]:
    """The files that the index of sharded weights names."""
    if _INDEX not in names or "model.safetensors" in names:
        return
    held, why = json_object.read(folder / _INDEX)
    named = held.get("weight_map") if held else None
    if not isinstance(named, dict):
        yield f"{_INDEX}: {why or 'it has no weight_map'}"
        return
    absent = sorted({str(file) for file in named.values()} - names)
    if absent:
        yield f"{_INDEX} names {', '.join(absent[:3])}, which is not there"


def steps_done(folder: Path) -> int | None:
    """The step that the checkpoint was saved at; None where it does not say."""
    try:
        held = json.loads((folder / "trainer_state.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    step = held.get("global_step") if isinstance(held, dict) else None
    return step if isinstance(step, int) and not isinstance(step, bool) else None


def _adapter(tensors: Mapping[str, safetensors_header.Tensor], values: Mapping[str, Any]) -> Iterator[str]:
    """The adapter is made anew from the recipe, and the saved tensors are put into it."""
    wanted = values.get("lora_rank", 8)
    ranks = {t.shape[0] for name, t in tensors.items() if ".lora_A" in name and len(t.shape) == 2}
    if isinstance(wanted, int) and ranks and wanted not in ranks:
        yield f"the adapter in it has rank {min(ranks)}, lora_rank is {wanted}"


def _of_deepspeed(
    folder: Path, names: set[str], stage: Any, values: Mapping[str, Any], ranks: tuple[int, ...]
) -> Iterator[Fault]:
    steps = sorted(n for n in names if n.startswith("global_step") and (folder / n).is_dir())
    if not steps:
        return  # said where the pieces are counted
    try:
        tag = (folder / "latest").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        yield Fault(UNUSABLE, "latest is not there, which names the global_step folder")
        return
    if tag not in steps:
        yield Fault(UNUSABLE, f'latest names "{tag}", and there is {", ".join(steps)}')
        return
    held = sorted(os.listdir(folder / tag))
    models = [n for n in held if n.endswith("model_states.pt")]
    states = [n for n in held if n.endswith("optim_states.pt")]
    if not models:
        yield Fault(UNUSABLE, f"{tag} has no model_states.pt")
    if not states and stage:
        yield Fault(UNUSABLE, f"{tag} has no optim_states.pt")
    partitioned = [n for n in models if n.startswith("zero_pp_rank")]
    if models and stage == 3 and not partitioned:
        yield Fault(FOREIGN, f"{tag} was not saved under ZeRO-3")
    elif partitioned and stage in (0, 1, 2):
        yield Fault(FOREIGN, f"{tag} was saved under ZeRO-3, the stage is {stage}")
    for name in (*models, *states)[:64]:
        if fault := weight_files.torch_file_fault(folder / tag / name):
            yield Fault(UNUSABLE, f"{tag}/{name}: {fault}")
    yield from _ranks(tag, states, ranks)
    if states:
        for what in resumed_optimizer.of_deepspeed(folder / tag / states[0], values):
            yield Fault(FOREIGN, what)


def _ranks(tag: str, states: list[str], expected: tuple[int, ...]) -> Iterator[Fault]:
    """One optimizer state for each rank; a node with a disk of its own has those of its own ranks, as many, from a multiple
    of that number on."""
    named = [n.split("_pp_rank_")[1].split("_")[0] for n in states if "_pp_rank_" in n]
    ranks = sorted(int(number) for number in named if number.isdecimal())
    if not ranks:
        return
    block = len(ranks) > 1 and ranks[0] % len(ranks) == 0
    if ranks != list(range(first := ranks[0] if block else 0, first + len(ranks))):
        what = f"{tag} has the optimizer states of the ranks {', '.join(map(str, ranks))}, and not of all before them"
        yield Fault(UNUSABLE, what)
    elif expected and len(ranks) not in expected:
        what = f"{tag} has the optimizer states of {len(ranks)} ranks, and the run has {expected[0]}"
        yield Fault(OTHER_RANKS, what)
