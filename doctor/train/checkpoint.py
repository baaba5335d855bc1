"""Checkpoints of a run: which are complete, how large the next one will be. Weights are never read.

What transformers' Trainer and DeepSpeed write into `checkpoint-N` (transformers.trainer._save_checkpoint,
deepspeed.runtime.engine.save_checkpoint): weights or an adapter, optimizer.pt + scheduler.pt or global_stepN/ with one
file per rank, rng_state[_R].pth for every rank, trainer_state.json. A run that dies while it saves leaves any part out,
and the newest folder is then the one that a plain resume would take.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from doctor.recipe import safetensors_header

NAME = re.compile(r"checkpoint-(?P<step>\d+)")
_UNFINISHED = "checkpoint-is-incomplete.txt"  # transformers.trainer_jit_checkpoint leaves it while it saves
_SHARD = re.compile(r"zero_pp_rank_(?P<rank>\d+)_mp_rank_\d+_(?P<kind>model|optim)_states\.pt$")


class Checkpoint(msgspec.Struct, frozen=True):
    """One `checkpoint-N`. `faults`: why a run cannot be resumed exactly from it; empty when it can."""

    path: Path
    step: int
    faults: tuple[str, ...]
    written: float  # when its last file was written, seconds since the epoch

    @property
    def complete(self) -> bool:
        return not self.faults


def folders(output: Path) -> list[Path]:
    """checkpoint-N of an output directory, the highest step first."""
    try:
        found = [(int(m["step"]), p) for p in output.iterdir() if p.is_dir() and (m := NAME.fullmatch(p.name))]
    except OSError:
        return []
    return [path for _, path in sorted(found, reverse=True)]


def look(folder: Path, world_size: int | None) -> Checkpoint:
    """Judge one checkpoint for a run of `world_size` ranks; None where only the checkpoint itself tells how many."""
    found = NAME.fullmatch(folder.name)
    try:
        times = [p.stat().st_mtime for p in folder.rglob("*") if p.is_file()]
        faults = tuple(_faults(folder, world_size or _ranks(folder)))
    except OSError as error:
        times, faults = [], (f"it cannot be read: {error.strerror}",)
    return Checkpoint(folder, int(found["step"]) if found else 0, faults, max(times, default=0.0))


def last_complete(output: Path, world_size: int, since: float = 0.0) -> Checkpoint | None:
    """The newest complete checkpoint that was written after `since`."""
    looked = (look(folder, world_size) for folder in folders(output))
    return next((one for one in looked if one.complete and one.written >= since), None)


def size(folder: Path) -> int:
    """Bytes of the files under a folder; a file that goes away meanwhile counts nothing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total


def _ranks(folder: Path) -> int:
    """How many ranks wrote it: each one its random state."""
    return max(1, len(list(folder.glob("rng_state_[0-9]*.pth"))))


def _faults(folder: Path, world_size: int) -> Iterator[str]:
    step = int(folder.name.rpartition("-")[2])
    if (folder / _UNFINISHED).exists():
        yield "the trainer was still writing it"
    yield from _state(folder / "trainer_state.json", step)
    sharded = [p for p in folder.iterdir() if p.is_dir() and p.name.startswith("global_step")]
    if sharded or (folder / "latest").exists():
        yield from _deepspeed(folder, world_size)
    else:
        yield from _torch_file(folder / "optimizer.pt")
        yield from _torch_file(folder / "scheduler.pt")
    yield from _weights(folder, may_lack=bool(sharded))
    ranks = [folder / f"rng_state_{rank}.pth" for rank in range(world_size)] if world_size > 1 else []
    for path in ranks or [folder / "rng_state.pth"]:
        yield from _torch_file(path)  # without it a resumed run draws other random numbers
    if world_size > 1 and (folder / f"rng_state_{world_size}.pth").exists():
        yield f"it was written by more than {world_size} ranks"


def _state(path: Path, step: int) -> Iterator[str]:
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        yield "trainer_state.json is missing"
    except ValueError:
        yield "trainer_state.json is cut off"
    else:
        if not isinstance(state, dict) or state.get("global_step") != step:
            yield "trainer_state.json is of another step"


def _torch_file(path: Path) -> Iterator[str]:
    """torch.save writes a zip file, whose table of contents is its end: a file that was cut off has none."""
    name = f"{path.parent.name}/{path.name}" if path.parent.name.startswith("global_step") else path.name
    if not path.is_file():
        yield f"{name} is missing"
        return
    if not zipfile.is_zipfile(path):
        yield f"{name} is {'empty' if path.stat().st_size == 0 else 'cut off'}"


def _deepspeed(folder: Path, world_size: int) -> Iterator[str]:
    try:
        tag = (folder / "latest").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        yield "latest is missing"  # DeepSpeed writes it last
        return
    inside = folder / tag
    if not inside.is_dir():
        yield f"{tag} is missing"
        return
    shards: dict[str, set[int]] = {"model": set(), "optim": set()}
    for path in inside.iterdir():
        if path.suffix == ".pt":
            yield from _torch_file(path)
        if found := _SHARD.search(path.name):
            shards[found["kind"]].add(int(found["rank"]))
    whole = set(range(world_size))
    if not shards["model"] and not list(inside.glob("mp_rank_*_model_states.pt")):
        yield f"{tag} has no model states"
    for kind, ranks in shards.items():  # ZeRO-1 and 2 keep the model whole: only stage 3 shards it
        if (kind == "optim" or ranks) and ranks != whole:
            missing = ", ".join(str(rank) for rank in sorted(whole - ranks)) or "none"
            yield f"{tag} holds the {kind} states of {len(ranks)} ranks for {world_size} (missing: {missing})"


def _weights(folder: Path, may_lack: bool) -> Iterator[str]:
    """Weights as safetensors or .bin, whole or in shards, or an adapter. ZeRO-3 may keep them in its shards only."""
    for index in (*folder.glob("*.safetensors.index.json"), *folder.glob("*.bin.index.json")):
        try:
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, AttributeError):
            yield f"{index.name} is cut off"
            continue
        yield from (f"{name} is missing" for name in sorted(shards) if not (folder / name).is_file())
    whole = sorted(folder.glob("*.safetensors"))
    pickled = [p for p in sorted(folder.glob("*.bin")) if p.name != "training_args.bin"]
    if not whole and not pickled and not may_lack:
        yield "it holds no weights"
    for path in whole:
        try:
            safetensors_header.read(path)
        except safetensors_header.Unreadable as error:
            yield f"{path.name} is not whole ({error})"
    for path in pickled:
        yield from _torch_file(path)
