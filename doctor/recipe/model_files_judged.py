"""Whether the folder that the recipe names is a model, and whether its files are all there and whole."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from doctor.facts import Facts
from doctor.findings import Evidence, Finding, found, in_recipe
from doctor.recipe import safetensors_header, weight_files
from doctor.recipe.model_values import at_least

_SOURCE = "probe:model"
_finding = partial(found, "model")


def path_exists(facts: Facts) -> Iterator[Finding]:
    name = facts["model.name"]
    if name is None or facts["model.kind"] != "path":
        return
    near = facts["model.near"]
    details: dict[str, Any] = {"path": name}
    if facts["model.exists"]:
        what = f"{name} is a file; a model is a folder with config.json, weights and tokenizer"
        folder = str(Path(name).parent)
        details = {"file": name, "weights_file": True, "model_folder": folder, "model_path": folder}
        yield _finding("model-config-invalid-json", what, in_recipe(facts, "model_name_or_path"), **details)
        return
    if name.startswith("~"):
        what = f'"~" is not expanded in a recipe: {name} is taken for a hub id'
    else:
        what = f"{name} does not exist" + ("; it would be taken for a hub id" if not name.startswith("/") else "")
    if near:
        what += f"; {near} does"
        details |= {"nearest_path": near} | ({"absolute_path": near} if near.endswith(name.lstrip("./~")) else {})
    yield _finding("model-path-not-found", what, in_recipe(facts, "model_name_or_path"), **details)


def examined(facts: Facts) -> str | None:
    """The folder whose files decide: the local one, or a cached copy. None when there is none."""
    if facts["model.name"] is None:
        return None
    if facts["model.local"]:
        return str(facts["model.path"])
    copies = facts["model.cached"]
    return str(facts["model.cached_path"] or copies[0]["path"]) if copies else None


def is_a_model(facts: Facts) -> Iterator[Finding]:
    folder = examined(facts)
    if folder is None or not facts["model.local"]:
        return
    error, weights, files = facts["model.config_error"], facts["model.weights"], facts["model.files"]
    details: dict[str, Any] = {"path": folder, "model_path": folder, "weights_format": weights["format"]} | origin(
        facts
    )
    where = f"{folder}/config.json"
    other_format = weights["format"] in ("gguf", "consolidated")
    if not files:
        what = f"the folder {folder} is empty"
        yield _finding("model-path-not-found", what, in_recipe(facts, "model_name_or_path"), **details)
    elif other_format:
        what = f"the weights are in the {weights['format']} format: {', '.join(weights['files'][:3])}"
        yield _finding("model-not-hf-format", what, folder, **details)
    elif error == weight_files.MISSING and facts["model.is_adapter"]:
        what = "it holds a LoRA adapter (adapter_config.json), not a model"
        base = facts["model.adapter_base"]
        details |= {"base_model": base} if base else {}
        yield _finding("model-incomplete-download", what, in_recipe(facts, "model_name_or_path"), **details)
    elif error == weight_files.MISSING:
        inner = facts["model.inner"]
        what = f"no config.json in {folder}" + (f"; {inner} has one" if inner else "")
        details |= {"snapshot_path": inner} if inner else {}
        yield _finding("model-incomplete-download", what, where, **details)
    elif error == safetensors_header.POINTER:
        yield _finding(
            "model-lfs-pointer", "config.json is git-lfs pointer text", where, **details, files=["config.json"]
        )
    elif error:
        yield _finding("model-config-invalid-json", f"config.json is {error}", where, **details, file=where)
    elif not facts["model.config"].get("model_type"):
        what = "config.json names no model_type, by which transformers chooses the class"
        yield _finding("model-incomplete-download", what, where, **details)
    elif (dtype := _unknown_dtype(facts["model.config"])) is not None:
        what = f"config.json names the dtype {dtype}, which torch does not have"
        yield _finding("model-config-invalid-json", what, where, **details, file=where, value_wrong=True)
    elif weights["format"] == "none" and not facts["recipe.values"].get("train_from_scratch"):
        what = f"no weights in {folder}: neither safetensors nor pytorch_model.bin"
        yield _finding("model-shards-missing", what, folder, **details, files=[], missing=[])


def downloads_ended(facts: Facts) -> Iterator[Finding]:
    """aria2 keeps a control file beside what it has not fetched whole, and writes pieces at their places: the size is
    right long before the content is, and a piece that is missing reads as zeros."""
    folder = examined(facts)
    if folder is None or not facts["model.local"]:
        return
    begun = [name.removesuffix(".aria2") for name in facts["model.leftovers"] if name.endswith(".aria2")]
    unfinished = [name for name in begun if name in facts["model.files"]]
    if unfinished:
        what = f"the download of {', '.join(unfinished[:4])} has not ended: {unfinished[0]}.aria2 is there"
        details = {"path": folder, "model_path": folder, "missing": unfinished} | origin(facts)
        yield _finding("model-incomplete-download", what, f"{folder}/{unfinished[0]}", **details)


_DTYPE = re.compile(r"auto|b?float16|float(32|64)?|half|double|u?int\d+|bool|(float\d+_\w+)|long|short|complex\w*")


def _unknown_dtype(config: Mapping[str, Any]) -> str | None:
    """The name in torch_dtype (dtype, as it is called since transformers 4.56) that is none of torch's."""
    given = config.get("dtype") or config.get("torch_dtype")
    plain = given.removeprefix("torch.") if isinstance(given, str) else ""
    return plain if plain and not _DTYPE.fullmatch(plain) else None


_CAUSE_OF_FAULT = {
    weight_files.MISSING: "model-shards-missing",
    weight_files.INCOMPLETE: "model-shards-missing",
    weight_files.INDEX_MISMATCH: "model-shards-missing",
    weight_files.NO_STATE_DICT: "model-not-hf-format",
    safetensors_header.POINTER: "model-lfs-pointer",
    safetensors_header.HEADER_TOO_LARGE: "model-safetensors-header-limit",
}


def weights_whole(facts: Facts) -> Iterator[Finding]:
    folder = examined(facts)
    if folder is None:
        return
    weights = facts["model.weights"]
    grouped: dict[str, list[Mapping[str, str]]] = {}
    for fault in weights["faults"]:
        grouped.setdefault(_CAUSE_OF_FAULT.get(fault["kind"], "model-corrupt-safetensors"), []).append(fault)
    for cause, faults in grouped.items():
        evidence = tuple(Evidence(f"{f['kind']}: {f['text']}", f"{folder}/{f['file']}") for f in faults[:8])
        files = [f["file"] for f in faults]
        details = {"path": folder, "model_path": folder, "files": files, "file": files[0]}
        details |= {"missing": files, "bad_file": f"{folder}/{files[0]}"} | origin(facts)
        yield Finding(cause, evidence, source=_SOURCE, details=details)


def origin(facts: Facts) -> dict[str, Any]:
    """`repo`: the hub id to download again from, where the configuration or the name tells."""
    if facts["model.kind"] == "hub":
        return {"repo": facts["model.name"]}
    named = (facts.get("model.config") or {}).get("_name_or_path")
    return {"repo": named} if isinstance(named, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", named) else {}


def tokenizer_whole(facts: Facts) -> Iterator[Finding]:
    folder = examined(facts)
    if folder is None or facts["model.config_error"]:
        return
    tokenizer = facts["model.tokenizer"]
    details: dict[str, Any] = {"path": folder, "model_path": folder} | origin(facts)
    if tokenizer["pointers"]:
        evidence = tuple(Evidence("git-lfs pointer text", f"{folder}/{name}") for name in tokenizer["pointers"])
        details |= {"files": tokenizer["pointers"], "file": tokenizer["pointers"][0]}
        yield Finding("model-lfs-pointer", evidence, source=_SOURCE, details=details)
    elif tokenizer["missing"] and not tokenizer["auto_map"]:
        names = ", ".join(tokenizer["missing"])
        details |= {"files": tokenizer["missing"], "file": tokenizer["missing"][0]}
        yield _finding("tok-file-missing", f"the tokenizer's {names} is not there", folder, **details)
    read = {
        "tokenizer.json": tokenizer["error"],
        "tokenizer.model": tokenizer.get("model_error"),
        "tokenizer_config.json": tokenizer["config_error"],
        **tokenizer["broken"],
    }
    side = tokenizer.get("padding_side", "right")
    # Since then it makes the tokenizer once more as a processor, without a side of its own.
    if side not in ("right", "left") and at_least(str(facts.get("llamafactory.version")), "0.9.3"):
        read["tokenizer_config.json"] = read["tokenizer_config.json"] or (
            f"padding_side is {side!r}; right or left is needed"
        )
    for name, error in read.items():
        if error and name not in tokenizer["pointers"]:
            where = f"{folder}/{name}"
            yield _finding("tok-load-failed", f"{name}: {error}", where, **details | {"file": name, "files": [name]})


ALL = (path_exists, is_a_model, weights_whole, downloads_ended, tokenizer_whole)
