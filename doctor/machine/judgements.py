"""What memory, limits and disks mean for a recipe of this size. Pure functions of facts."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from functools import partial
from typing import Any

from doctor.estimate import from_facts, states
from doctor.estimate.from_facts import records
from doctor.estimate.names import parameters_in_name
from doctor.facts import Facts, UnknownFact
from doctor.findings import Finding, Severity, found, in_recipe

_found = partial(found, "machine")

SHM_SMALL = 128 << 20  # bytes; Docker gives 64 MiB unless told otherwise
LEFT_SHARE = 0.05  # of the machine's memory that ended runs may hold before it is worth a word
GPU_SHARE = 0.6  # of a card that states may take, so that activations find room
CACHE_LEAST = 64 << 20  # bytes free below which any folder is called full
TOKENISED = 6  # times the data files

_WRITTEN = {
    "output_dir": "output_dir of the recipe",
    "hf_cache": "the model cache",
    "datasets_cache": "the dataset cache",
    "tmp": "the folder for temporary files",
    "monitor": "the folder of a monitor in the DeepSpeed JSON",
}


def _size(count: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= 0.95 * size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"


def _parameters(facts: Facts) -> tuple[float, str] | None:
    """(parameters, how they are known), None when neither the model nor its name says."""
    known = facts.get("model.parameters")
    if known:
        return float(known), str(facts.get("model.parameters_from", "its configuration"))
    named = parameters_in_name(str(facts["recipe.values"].get("model_name_or_path") or ""))
    return (named, "its name") if named else None


def _memory(facts: Facts) -> tuple[int, int, str]:
    """Bytes that this process may use in all, bytes of them free now, and what limits them."""
    total, available = facts["machine.memory_total"], facts["machine.memory_available"]
    limit, used = facts["machine.cgroup_memory"], facts["machine.cgroup_memory_used"]
    if limit is not None and limit < total:
        return limit, min(available, limit - (used or 0)), "cgroup limit"
    return total, available, "memory of this machine"


def host_memory(facts: Facts) -> Iterator[Finding]:
    """Host memory that the states need under the recipe's offload, against what there is."""
    size = _parameters(facts)
    if size is None or facts["recipe.values"].get("finetuning_type", "lora") != "full":
        return
    zero = states.offload(facts["deepspeed.config"])
    need = states.host_need(
        size[0], zero, facts["launch.nproc"], facts["launch.nnodes"], on_cpu=facts["gpu.count"] == 0
    )
    total, available, of = _memory(facts)
    planned = _planned(facts) if zero.optimizer == "cpu" and facts["gpu.count"] else 0
    if need.usual <= total and need.least <= available and planned <= total:
        return
    surely = need.least > total or planned > total
    what = (
        f"{need.terms} = {_size(need.least)}, {_size(need.usual)} by DeepSpeed's estimate with buffers "
        f"(size by {size[1]}); {of}: {_size(total)}"
    )
    if planned > total:
        what += f"; runs of this kind were seen to use {_size(planned)}"
    if not surely and need.least > available:
        what += f", of which {_size(available)} are free now"
    details = {"needed": _size(need.least), "available": _size(total), **_offload_details(facts, size[0], zero)}
    gathered = size[0] * states.BF16 if _gathers(facts) else 0.0
    details["gather_on_save_too_big"] = need.least <= total < need.least + gathered  # else leaving it out heals nothing
    severity, confidence = (None, 0.95) if surely else (Severity.WARNING, 0.6)
    where = in_recipe(facts, "deepspeed" if zero.stage else "model_name_or_path")
    yield _found("mem-host-oom", what, where, severity, confidence=confidence, **details)


def _planned(facts: Facts) -> int:
    """What the memory planner says is surely needed of a node; 0 where it cannot tell."""
    try:
        return from_facts.of(facts, with_changes=False).host_bytes_certain
    except UnknownFact:
        return 0


def _gathers(facts: Facts) -> bool:
    """Whether rank 0 collects all 16-bit weights in host memory at each save."""
    zero = (facts["deepspeed.config"] or {}).get("zero_optimization")
    return isinstance(zero, dict) and zero.get("stage3_gather_16bit_weights_on_model_save") is True


def _offload_details(facts: Facts, parameters: float, zero: states.Offload) -> dict[str, Any]:
    """Which of the fixes make sense: what is offloaded, and whether the cards could hold it."""
    memory = [device.get("memory_total") or 0 for device in facts.get("gpu.devices", ())]
    share = states.gpu_share(parameters, facts["launch.nproc"] * facts["launch.nnodes"])
    return {
        "deepspeed_config": facts["deepspeed.config_path"],
        "optimizer_offloaded": zero.optimizer == "cpu",
        "params_offloaded": zero.parameters == "cpu",
        "gpu_has_room": bool(memory) and share <= GPU_SHARE * min(memory),
        "low_cpu_mem_off": facts["recipe.values"].get("low_cpu_mem_usage") is False,
    }


def checkpoints(facts: Facts) -> Iterator[Finding]:
    """Free space of output_dir against the checkpoints that the recipe will write."""
    disk, size = facts["machine.disks"].get("output_dir"), _parameters(facts)
    if not disk or "unknown" in disk or size is None:
        return
    values, free = facts["recipe.values"], disk["free"]
    steps = states.steps_of(values, records(facts), facts.get("launch.world_size") or 1)
    need = states.disk_need(size[0], values, bool(values.get("deepspeed")), steps)
    short = need.at_least > free
    if not short and (need.planned is None or need.planned <= free):
        return
    if need.planned is None:
        whole = "how many there will be is not known"
    else:
        whole = f"{need.saves} of them and the model {_size(need.planned)}"
    what = f"{_size(free)} free at {disk['at']}; one checkpoint takes {_size(need.checkpoint)}, {whole} (size by {size[1]})"
    details: dict[str, Any] = {"free": _size(free), "needed": _size(need.planned or need.at_least)}
    fitting = int((free - (need.at_least - need.checkpoint)) // need.checkpoint) - 1 if need.checkpoint else 0
    if fitting >= 1:  # one more is written before the oldest goes
        details["save_total_limit"] = fitting
    only_model = need.checkpoint and not values.get("save_only_model")
    details["optimizer_states_dominate"] = bool(only_model and need.at_least - need.checkpoint <= free / 2)
    place = _roomier(facts, disk, need.planned or need.at_least)
    if place:
        details["output_dir"] = f"{place}/{os.path.basename(disk['path'].rstrip('/')) or 'saves'}"
    severity, confidence = (None, 0.95) if short else (Severity.WARNING, 0.8)
    yield _found("disk-full", what, in_recipe(facts, "output_dir"), severity, confidence=confidence, **details)


def _roomier(facts: Facts, disk: dict[str, Any], needed: int) -> str | None:
    """A folder on another device that has `needed` bytes free."""
    for place in facts.get("machine.roomy", ()):
        if place["device"] != disk.get("device") and place["free"] > max(needed, disk.get("free", 0)):
            return str(place["path"])
    return None


def written_folders(facts: Facts) -> Iterator[Finding]:
    """Folders that the run must write to and cannot, or that have too little left for what will come there."""
    for name, disk in facts["machine.disks"].items():
        if name not in _WRITTEN or "unknown" in disk:
            continue
        if name == "hf_cache" and facts.get("hub.needed") == []:
            continue  # nothing is downloaded
        problem, no_inodes = disk.get("write_error"), disk.get("inodes_free") == 0
        needed, why = _needed(facts, name)
        details: dict[str, Any] = {}
        if place := _roomier(facts, disk, needed):
            details |= {"roomy_dir": place, "writable_dir": place}
        if name != "output_dir" and problem != "EROFS" and (disk["free"] < needed or no_inodes or problem == "ENOSPC"):
            left = "no inodes are" if no_inodes else f"{_size(disk['free'])} are"
            what = f"{left} left for {_WRITTEN[name]} ({disk['path']}) at {disk['at']}; {why}"
            surely = problem == "ENOSPC" or no_inodes or name == "hf_cache"
            details |= {"cache_disk_full": name.endswith("cache"), "tmp_disk_full": name == "tmp"}
            yield _found("disk-full", what, disk["at"], None if surely else Severity.WARNING, **details)
        elif problem:
            if name == "output_dir" and (place := _writable(facts)) is not None:
                details["output_dir"] = f"{place}outputs/{os.path.basename(disk['path'])}"
            yield _unwritable(name, disk, problem, details)


def _writable(facts: Facts) -> str | None:
    """A folder that can be written, with its slash: the working directory, which is written as nothing, or the roomiest."""
    places = [str(place["path"]) for place in facts.get("machine.roomy", ())]
    if facts.get("recipe.workdir") in places:
        return ""
    return f"{places[0]}/" if places else None


def _needed(facts: Facts, name: str) -> tuple[int, str]:
    """Bytes that will come into a folder, and what they are. 16-bit weights have 2 bytes each; a tokenised record takes
    about six times its text (input_ids, attention_mask and labels beside the text: arithmetic, not measured)."""
    size = _parameters(facts)
    if name == "hf_cache" and size and any(need["key"] == "model_name_or_path" for need in facts.get("hub.needed", ())):
        return int(size[0] * states.BF16), f"the model takes {_size(size[0] * states.BF16)} (size by {size[1]})"
    if name == "datasets_cache":
        data = sum(scan.get("bytes_total", 0) for scan in facts.get("records.scans", {}).values())
        needed = CACHE_LEAST + TOKENISED * data
        return needed, f"the tokenised data take about {_size(needed)}"
    return CACHE_LEAST, "little is needed, but this is too little"


def _unwritable(name: str, disk: dict[str, Any], problem: str, details: dict[str, Any]) -> Finding:
    why = "it is a link whose target is gone," if problem == "ENOLINK" else os.strerror(getattr(errno, problem, 0))
    what = f"{_WRITTEN[name]} ({disk['path']}) cannot be written: {why} at {disk['at']}"
    denied = problem in ("EACCES", "EPERM")
    cause = {"EDQUOT": "disk-quota", "ENOSPC": "disk-full"}.get(problem, "disk-readonly")
    return _found("hub-cache-permission" if denied and name.endswith("cache") else cause, what, disk["at"], **details)


def shared_memory(facts: Facts) -> Iterator[Finding]:
    """/dev/shm of a container's default size, or full: NCCL between GPUs and data workers put their buffers there."""
    shm, left = facts["machine.shm"], facts.get("machine.shm_left")
    small = shm["total"] <= SHM_SMALL
    if not small and shm["free"] > SHM_SMALL:
        return
    size = f"/dev/shm is {shm['total'] >> 20} MiB"
    if not small:
        size += f", of which {shm['free'] >> 20} MiB are free"
        size += f" ({_leftovers(left)})" if left and left["files"] else ""
    workers = facts["recipe.values"].get("dataloader_num_workers", 0)
    if facts["gpu.count"] > 1 and facts["launch.nproc"] > 1:
        yield _found(
            "nccl-shm-too-small", f"{size}; NCCL shares buffers between {facts['launch.nproc']} ranks", "/dev/shm"
        )
    if isinstance(workers, int) and workers > 0:
        yield _found("mem-shm", f"{size}; dataloader_num_workers is {workers}", "/dev/shm", workers=workers)


def memory_left_behind(facts: Facts) -> Iterator[Finding]:
    """Memory that files of ended runs in /dev/shm hold."""
    left = facts.get("machine.shm_left")
    if left and left["bytes"] > LEFT_SHARE * facts["machine.memory_total"]:
        what = f"{_size(left['bytes'])} of memory: {_leftovers(left)}"
        yield _found("mem-shm-leftovers", what, "/dev/shm")


def _leftovers(left: dict[str, Any]) -> str:
    return f"{left['files']} files that no process has open, as ended runs leave them, {', '.join(left['examples'])}"


ALL = (host_memory, checkpoints, written_folders, shared_memory, memory_left_behind)
