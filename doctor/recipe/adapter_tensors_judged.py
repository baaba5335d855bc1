"""Whether the tensors of a LoRA adapter find their places: PEFT passes over what does not fit, and starts it at random."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from doctor.facts import Facts
from doctor.findings import Evidence, Finding

SOURCE = "probe:adapter"


def tensors_placed(facts: Facts) -> Iterator[Finding]:
    outline = facts["model.weights"].get("outline") or {}
    for adapter in facts["adapter.adapters"]:
        words = [] if adapter["peft_type"] != "LORA" or adapter["faults"] else list(_words(adapter, outline))
        if words:
            where = f"{adapter['path']}/adapter_config.json"
            evidence = tuple(Evidence(word, where) for word in words[:4])
            yield Finding("peft-adapter-mismatch", evidence, source=SOURCE, details={"adapter_path": adapter["path"]})


def _words(adapter: Mapping[str, Any], model: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    held = adapter.get("outline") or {}
    pattern = adapter.get("pattern")
    if pattern and pattern != "all-linear" and model and not _matches(pattern, model):
        yield f"target_modules is the pattern {pattern[:60]}, which no module of the model matches"
    if not held:
        return
    lost = [
        name
        for name in held
        if not name.startswith("base_model.model.") or re.search(r"\.lora_[AB]\.\w+\.weight$", name)
    ]
    if lost:
        yield f"{lost[0]} is no name that PEFT saves (base_model.model.….lora_A.weight): it is passed over"
        return
    yield from _places(held, model)
    if adapter.get("dora") and not any("lora_magnitude_vector" in name for name in held):
        yield "use_dora is true, and the weights have no lora_magnitude_vector"
    for part in "AB":
        if not any(f".lora_{part}." in name or f".lora_embedding_{part}" in name for name in held):
            yield f"the weights have no lora_{part}"
    seen = {name.partition(".lora_")[0].rpartition(".")[2] for name in held if ".lora_" in name}
    if not adapter["targets"] and not pattern and len(seen) > _OF_TABLE:
        yield f"target_modules is not given, and the weights are of {', '.join(sorted(seen)[:8])}: peft takes two at most"
    plain = [target for target in adapter["targets"] if "." not in target]
    there = {name.rpartition(".")[0].rpartition(".")[2] for name in model}
    absent = [target for target in plain if target in there and target not in seen]
    extra = sorted(seen - set(plain)) if plain and len(plain) == len(adapter["targets"]) else []
    if absent or extra:
        many, what = (absent, "starts at random") if absent else (extra, "is passed over")
        side = "has no tensors" if absent else "is no target_modules of adapter_config.json"
        yield f"{', '.join(many[:6])} {side}: it {what}"
    for name in adapter.get("saved") or ():
        if not any(f".{name}." in f"{tensor}." for tensor in held) and name in there:
            yield f"modules_to_save names {name}, and the weights do not have it"
    yield from _layers(held, model, adapter)


_OF_TABLE = 2  # modules that peft's table of models names for one without target_modules
_PREFIX = "base_model.model."


def _places(held: Mapping[str, Any], model: Mapping[str, Any]) -> Iterator[str]:
    """Of a model of text alone, whose tensors are named as its modules are."""
    if not any(name.startswith("model.layers.") for name in model):
        return
    modules = {name.rpartition(".")[0] for name in model}
    named = {name.removeprefix(_PREFIX).partition(".lora_")[0] for name in held if ".lora_" in name}
    if named and not named & modules:
        yield f"{min(named)} is no module of the model, and none of the others is: all of them are passed over"
    for name, told in held.items():
        there = model.get(name.removeprefix(_PREFIX))
        if name.endswith(OF_VOCABULARY):
            continue  # vocabulary_agrees says it
        if there and told["shapes"] and there["shapes"] and not _among(told["shapes"], there["shapes"]):
            yield f"{name} is {told['shapes'][0]} in the adapter, {there['shapes'][0]} in the model"


# What has a row for each token; PEFT saves it whole beside an adapter that trained with added tokens.
OF_VOCABULARY = ("embed_tokens.weight", "lm_head.weight")


def vocabulary_agrees(facts: Facts) -> Iterator[Finding]:
    """With resize_vocab the model's rows are made as many as the tokenizer asks for, before the adapter is loaded."""
    if facts["recipe.values"].get("resize_vocab") is True:
        return
    model = facts["model.weights"].get("outline") or {}
    for adapter in facts["adapter.adapters"]:
        for name, told in (adapter.get("outline") or {}).items():
            there = model.get(name.removeprefix(_PREFIX))
            if not name.endswith(OF_VOCABULARY) or not there or not told["shapes"] or not there["shapes"]:
                continue
            rows, own = told["shapes"][0][0], there["shapes"][0][0]
            if rows != own:
                what = f"{name} of the adapter has {rows} rows, the model has {own}: it was trained with another vocabulary"
                where = f"{adapter['path']}/adapter_config.json"
                details = {"adapter_path": adapter["path"], "tensor": name, "found": str(rows)}
                yield Finding("tok-vocab-mismatch", (Evidence(what, where),), source=SOURCE, details=details)
                break


def _among(shapes: list[list[int]], others: list[list[int]]) -> bool:
    return all(list(shape) in [list(other) for other in others] for shape in shapes)


def _layers(held: Mapping[str, Any], model: Mapping[str, Any], adapter: Mapping[str, Any]) -> Iterator[str]:
    """A layer of the model for each of the adapter, and the other way round where no layers are chosen."""

    def highest(names: Mapping[str, Any]) -> int:
        return max((told["counts"][0] for name, told in names.items() if ".*." in name), default=0)

    of_model, of_adapter = highest(model), highest(held)
    if of_model and of_adapter > of_model:
        yield f"its tensors reach to layer {of_adapter - 1}, the model to layer {of_model - 1}"
    elif of_model and of_adapter < of_model and not adapter.get("some_layers"):
        yield f"it has tensors for {of_adapter} layers, the model has {of_model}: the others start at random"


def _matches(pattern: str, model: Mapping[str, Any]) -> bool:
    try:
        compiled = re.compile(pattern)
    except re.error:
        return False
    return any(compiled.fullmatch(name.rpartition(".")[0].replace("*", "0")) for name in model)


def ranks_by_pattern(facts: Facts) -> Iterator[Finding]:
    for adapter in facts["adapter.adapters"]:
        for name, told in (adapter.get("outline") or {}).items():
            module = name.partition(".lora_A")[0].rpartition(".")[2]
            wanted = (adapter.get("ranks") or {}).get(module)
            seen = {shape[0] for shape in told["shapes"] if len(shape) == 2}
            if ".lora_A" in name and wanted is not None and seen and wanted not in seen:
                what = f"rank_pattern gives {module} the rank {wanted}, the weights have {min(seen)}"
                where = f"{adapter['path']}/adapter_config.json"
                details = {"adapter_path": adapter["path"]}
                yield Finding("peft-adapter-mismatch", (Evidence(what, where),), source=SOURCE, details=details)
                break


# Kinds of PEFT whose tensors are named lora_A as well.
_LIKE_LORA = ("LORA", "ADALORA", "XLORA", "RANDLORA", "GRALORA", "DELORA", "PVERA")


def kind_agrees(facts: Facts) -> Iterator[Finding]:
    """A peft_type whose tensors have other names: peft asks another configuration for the fields of LoRA."""
    for adapter in facts["adapter.adapters"]:
        kind, held = adapter["peft_type"], adapter.get("outline") or {}
        adaptive = any(".lora_E" in name for name in held)
        of_lora = any(".lora_A." in name for name in held)
        if (
            kind
            and not adapter["faults"]
            and of_lora
            and (kind not in _LIKE_LORA or (kind == "ADALORA" and not adaptive))
        ):
            what = f"adapter_config.json says peft_type {kind}, and the weights are those of LoRA"
            where = f"{adapter['path']}/adapter_config.json"
            details = {"adapter_path": adapter["path"]}
            yield Finding("peft-adapter-mismatch", (Evidence(what, where),), source=SOURCE, details=details)


ALL = (kind_agrees, tensors_placed, vocabulary_agrees, ranks_by_pattern)
