"""The LoRA adapters that the recipe names: there, whole, and of the right rank."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from doctor.facts import Facts
from doctor.findings import Evidence, Finding
from doctor.probes import Judgement
from doctor.probes.model import looks_like_path
from doctor.recipe import adapter_folder, adapter_tensors_judged
from doctor.target import Target

ID = "adapter"
AFTER: tuple[str, ...] = ("recipe",)
SOURCE = f"probe:{ID}"


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    """`adapter.adapters`: one adapter_folder.Adapter for each name, with `kind` local, path or hub."""
    given = facts["recipe.values"].get("adapter_name_or_path")
    names = [n.strip() for n in given.split(",") if n.strip()] if isinstance(given, str) else []
    subfolder = facts["recipe.values"].get("adapter_folder")
    found = []
    for name in names:
        folder = target.workdir / name / str(subfolder) if isinstance(subfolder, str) else target.workdir / name
        adapter = adapter_folder.inspect(name, folder)
        if adapter.odd_task and adapter_folder.checks_task(target.site):
            adapter.faults.append(f"task_type is {adapter.odd_task!r}, which the installed peft does not know")
        path_like = "/" not in name or looks_like_path(name, target.workdir)  # an adapter of a hub has an owner
        kind = "local" if adapter.path else "path" if path_like else "hub"
        found.append(msgspec.to_builtins(adapter) | {"kind": kind})
    return {
        "adapter.adapters": found,
        "adapter.known_fields": adapter_folder.known_fields(target.site) if found else [],
    }


def adapters_whole(facts: Facts) -> Iterator[Finding]:
    where = f"{facts['recipe.path']}:{facts.get('recipe.lines', {}).get('adapter_name_or_path', 1)}"
    for adapter in facts["adapter.adapters"]:
        name = adapter["name"]
        details: dict[str, Any] = {"adapter_path": adapter["path"] or name}
        details["not_lora"] = facts["recipe.values"].get("finetuning_type", "lora") not in ("lora", "oft")
        what = None
        if adapter["kind"] == "path":
            what = f"the adapter folder {name} does not exist"
        elif adapter["kind"] == "local" and not adapter["has_config"]:
            what = f"{name} has no adapter_config.json"
            if adapter["full_model"]:
                what += "; it is a full model"
                details["path_is_full_model"] = True
            elif adapter["found_at"]:
                what += f"; {adapter['found_at']} has one"
                details["adapter_found_at"] = adapter["found_at"]
        elif adapter["kind"] == "local" and not adapter["has_weights"]:
            what = f"{name} has no adapter_model.safetensors"
        if what:
            yield Finding("peft-adapter-path-wrong", (Evidence(what, where),), source=SOURCE, details=details)


def ranks_agree(facts: Facts) -> Iterator[Finding]:
    for adapter in facts["adapter.adapters"]:
        path, rank, seen = adapter["path"], adapter["rank"], adapter["weights_rank"]
        details: dict[str, Any] = {"adapter_path": path, "adapter_config": f"{path}/adapter_config.json"}
        where = f"{path}/adapter_config.json"
        if adapter["config_error"]:
            what = f"adapter_config.json cannot be read: {adapter['config_error']}"
            yield Finding("peft-adapter-mismatch", (Evidence(what, where),), source=SOURCE, details=details)
        elif adapter["faults"]:
            what = f"adapter_config.json: {'; '.join(adapter['faults'])}"
            yield Finding("peft-adapter-mismatch", (Evidence(what, where),), source=SOURCE, details=details)
        elif adapter["pointer"]:
            what = "the weights of the adapter are git-lfs pointer text"
            details |= {"path": path, "files": ["adapter_model.safetensors"], "file": "adapter_model.safetensors"}
            yield Finding("model-lfs-pointer", (Evidence(what, str(path)),), source=SOURCE, details=details)
        elif adapter["weights_error"]:
            what = f"adapter_model.safetensors: {adapter['weights_error']}"
            details |= {"bad_file": f"{path}/adapter_model.safetensors", "file": "adapter_model.safetensors"}
            yield Finding("model-corrupt-safetensors", (Evidence(what, str(path)),), source=SOURCE, details=details)
        elif seen == 0:
            what = "its tensors are empty: it was saved from parameters that ZeRO-3 had partitioned"
            yield Finding("ckpt-zero3-empty-adapter", (Evidence(what, str(path)),), source=SOURCE, details=details)
        elif rank is not None and seen is not None and rank != seen:
            what = f"adapter_config.json says r={rank}, the weights have r={seen}"
            details |= {"weights_rank": seen}
            yield Finding("peft-adapter-mismatch", (Evidence(what, where),), source=SOURCE, details=details)


def width_agrees(facts: Facts) -> Iterator[Finding]:
    """An adapter of a model of another width: q_proj, k_proj and v_proj take vectors of hidden_size."""
    hidden = facts["model.config"].get("hidden_size")
    for adapter in facts["adapter.adapters"]:
        seen = {width for module, width in adapter["inputs"].items() if module in ("q_proj", "k_proj", "v_proj")}
        if not isinstance(hidden, int) or not seen or seen == {hidden}:
            continue
        base = adapter["base"]
        what = f"the adapter was trained on a model of hidden_size {min(seen)}, this one has {hidden}"
        what += f"; adapter_config.json names {base}" if base else ""
        details: dict[str, Any] = {"adapter_path": adapter["path"]} | ({"adapter_base_model": base} if base else {})
        where = f"{adapter['path']}/adapter_config.json"
        yield Finding("peft-adapter-mismatch", (Evidence(what, where),), source=SOURCE, details=details)


def fields_known(facts: Facts) -> Iterator[Finding]:
    """What a newer peft wrote; releases that pass over it are not asked (known_fields is empty)."""
    known = facts["adapter.known_fields"]
    for adapter in facts["adapter.adapters"]:
        foreign = [name for name in adapter["fields"] if name not in known]
        if known and foreign and adapter["peft_type"] == "LORA":
            what = f"adapter_config.json has {', '.join(foreign[:6])}, which the installed peft does not know"
            where = f"{adapter['path']}/adapter_config.json"
            yield Finding("peft-config-newer", (Evidence(what, where),), source=SOURCE, details={"field": foreign[0]})


def targets_there(facts: Facts) -> Iterator[Finding]:
    modules = facts["model.weights"]["modules"]
    for adapter in facts["adapter.adapters"]:
        plain = [name.rpartition(".")[2] for name in adapter["targets"]]
        if (
            modules
            and plain
            and not set(plain) & {*modules, "lm_head", "all-linear"}
            and adapter["peft_type"] == "LORA"
        ):
            what = f"target_modules of the adapter ({', '.join(plain)}) are no modules of the model"
            where = f"{adapter['path']}/adapter_config.json"
            details = {"adapter_path": adapter["path"]}
            yield Finding("peft-adapter-mismatch", (Evidence(what, where),), source=SOURCE, details=details)


def layers_there(facts: Facts) -> Iterator[Finding]:
    """layers_to_transform of which the model has none: PEFT finds no target at all."""
    there = facts["model.config"].get("num_hidden_layers")
    for adapter in facts["adapter.adapters"]:
        if type(there) is int and adapter["layers"] and not any(0 <= n < there for n in adapter["layers"]):
            named = ", ".join(map(str, adapter["layers"][:8]))
            what = f"layers_to_transform of the adapter is {named}; the model has the layers 0 to {there - 1}"
            where = f"{adapter['path']}/adapter_config.json"
            details = {"adapter_path": adapter["path"]}
            yield Finding("peft-adapter-mismatch", (Evidence(what, where),), source=SOURCE, details=details)


JUDGEMENTS: tuple[Judgement, ...] = (
    layers_there,
    adapters_whole,
    ranks_agree,
    width_agrees,
    fields_known,
    targets_there,
    *adapter_tensors_judged.ALL,
)
