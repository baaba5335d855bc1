"""The model that the recipe names: local, cached or on the hub; whole or not; known to the installed transformers."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from doctor.facts import Facts, Unknown
from doctor.findings import Evidence, Finding, found
from doctor.probes import Judgement
from doctor.recipe import (
    expected_tensors,
    known_models,
    model_cache,
    model_folder,
    model_size,
    model_values,
    safetensors_header,
    weight_files,
)
from doctor.target import Target

ID = "model"
AFTER: tuple[str, ...] = ("recipe",)
SOURCE = f"probe:{ID}"

_finding = partial(found, ID)

_HUB_ID = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?")
_FACTS = (
    "kind",
    "local",
    "path",
    "exists",
    "complete",
    "config",
    "parameters",
    "weights",
    "tokenizer",
    "cached",
    "cached_path",
)


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    """`model.name`, and of the folder it stands for. Hub ids are looked up in the caches of this machine only."""
    values = facts["recipe.values"]
    name = values.get("model_name_or_path")
    if not isinstance(name, str) or not name.strip():
        lacking = Unknown("the recipe names no model")
        return {"model.name": None} | {f"model.{fact}": lacking for fact in _FACTS}
    local = target.workdir / name
    is_folder = os.path.isdir(local)
    path_like = is_folder or looks_like_path(name, target.workdir)
    found: dict[str, Any] = {
        "model.name": name,
        "model.kind": "local" if is_folder else "path" if path_like else "hub",
        "model.local": is_folder,
        "model.exists": os.path.exists(local),
        "model.path": str(local) if is_folder else None,
        "model.near": None if is_folder or not path_like else near_folder(name, target.workdir, target.environ),
        "model.cached": [],
        "model.cached_path": None,
    }
    if is_folder:
        return found | _folder_facts(local, name)
    if path_like:
        return found | _absent_facts(name, "the path does not exist")
    copies = _copies(name, values, target)
    found["model.cached"] = copies
    chosen = next((c for c in copies if c["complete"]), None)
    found["model.cached_path"] = chosen["path"] if chosen else None
    best = chosen or (copies[0] if copies else None)
    if best is not None:
        return found | _folder_facts(Path(best["path"]), name)
    return found | _absent_facts(name, "the model is not on this machine")


# First parts of relative paths that nobody has as a name on a hub.
_CUSTOMARY_FOLDERS = ("saves", "output", "outputs", "models", "checkpoints", "checkpoint", "ckpt", "ckpts", "weights")


def looks_like_path(name: str, workdir: Path) -> bool:
    """Whether a name that is no existing folder was meant as one, not as a hub id."""
    if name.startswith(("/", "./", "../", "~", ".\\", "\\")) or "\\" in name or re.match(r"[A-Za-z]:", name):
        return True
    if os.path.exists(workdir / name) or not _HUB_ID.fullmatch(name):
        return True
    first = name.partition("/")[0]
    return "/" in name and (os.path.isdir(workdir / first) or first.lower() in _CUSTOMARY_FOLDERS)


def near_folder(name: str, workdir: Path, environ: Mapping[str, str]) -> str | None:
    """A model folder that may be meant: `~` and variables expanded, the other kind of slash, a name spelt almost so."""
    import difflib

    home = environ.get("HOME", "~")
    expanded = os.path.expandvars(name).replace("\\", "/")
    expanded = home + expanded[1:] if expanded.startswith("~/") else expanded
    candidates = [workdir / expanded.strip(), workdir / expanded, workdir.parent / expanded]
    parent, last = (workdir / expanded).parent, Path(expanded).name
    try:
        siblings = [item.name for item in os.scandir(parent) if item.is_dir()]
        candidates += [parent / like for like in difflib.get_close_matches(last, siblings, n=1, cutoff=0.7)]
    except OSError:
        siblings = []
    return next((str(c) for c in candidates if os.path.isfile(c / "config.json")), None)


def inner_model(folder: Path) -> str | None:
    """The one folder below with a config.json: a snapshot in a cache folder, the only checkpoint, an unpacked archive."""
    found = [p.parent for pattern in ("*/config.json", "snapshots/*/config.json") for p in folder.glob(pattern)]
    return str(found[0]) if len(found) == 1 else None


def _copies(name: str, values: Mapping[str, Any], target: Target) -> list[dict[str, Any]]:
    """Copies of a hub model on this machine: path, whether complete, and from which hub."""
    cache = values.get("cache_dir")
    root = model_cache.hugging_face_root(
        target.environ, str(target.workdir / cache) if isinstance(cache, str) else None
    )
    revision = str(values.get("model_revision", "main"))
    places = [(p, "huggingface") for p in model_cache.snapshots(name, revision, root)]
    places += [(p, "modelscope") for p in model_cache.modelscope_folders(name, target.environ)]
    copies = []
    for path, hub in places:
        try:
            folder = model_folder.inspect(path)
        except OSError:
            continue  # it vanished or may not be read: no copy to speak of
        faults = [f"{f.file}: {f.text}" for f in folder.weights.faults] or (
            [] if folder.weights.files else ["no weights"]
        )
        copies.append({"path": str(path), "hub": hub, "complete": folder.complete, "faults": faults[:20]})
    return copies


def _folder_facts(path: Path, name: str) -> dict[str, Any]:
    try:
        folder = model_folder.inspect(path)
    except OSError as error:
        return _absent_facts(name, f"{path} cannot be listed ({error.strerror})")
    config = folder.config
    headers = folder.weights.parameters if not (config or {}).get("quantization_config") else None
    counted = headers or (model_size.parameters(config) if config else None)
    return {
        "model.complete": folder.complete,
        "model.config": config if config is not None else Unknown(f"config.json: {folder.config_error}"),
        "model.config_error": folder.config_error,
        "model.parameters": counted if counted else _known_size(name),
        "model.parameters_from": "safetensors headers" if headers else "configuration",
        "model.weights": msgspec.to_builtins(folder.weights),
        "model.tokenizer": folder.tokenizer,
        "model.generation_error": folder.generation,
        "model.generation_refused": folder.generation_refused,
        "model.files": folder.names[:200],
        "model.leftovers": folder.leftovers,
        "model.is_adapter": folder.adapter,
        "model.adapter_base": folder.adapter_base,
        "model.inner": None if config is not None else inner_model(path),
    }


def _absent_facts(name: str, why: str) -> dict[str, Any]:
    """Facts of a model that is not here: its configuration where the table of known models has it."""
    lacking = Unknown(why)
    known = known_models.config(name)
    return {
        "model.complete": False,
        "model.config": known if known else lacking,
        "model.config_error": None,
        "model.parameters": _known_size(name),
        "model.parameters_from": "known model",
        "model.weights": lacking,
        "model.tokenizer": lacking,
        "model.files": lacking,
        "model.generation_error": None,
        "model.generation_refused": None,
        "model.leftovers": [],
        "model.is_adapter": False,
        "model.adapter_base": None,
        "model.inner": None,
    }


def _known_size(name: str) -> int | Unknown:
    known = known_models.config(name)
    size = model_size.parameters(known) if known else None
    return size if size else Unknown("the size of this model is not known")


# -- judgements ---------------------------------------------------------------------------------------------------------
def _line(facts: Facts, key: str = "model_name_or_path") -> str:
    return f"{facts['recipe.path']}:{facts.get('recipe.lines', {}).get(key, 1)}"


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
        yield _finding("model-config-invalid-json", what, _line(facts), **details)
        return
    if name.startswith("~"):
        what = f'"~" is not expanded in a recipe: {name} is taken for a hub id'
    else:
        what = f"{name} does not exist" + ("; it would be taken for a hub id" if not name.startswith("/") else "")
    if near:
        what += f"; {near} does"
        details |= {"nearest_path": near} | ({"absolute_path": near} if near.endswith(name.lstrip("./~")) else {})
    yield _finding("model-path-not-found", what, _line(facts), **details)


def _examined(facts: Facts) -> str | None:
    """The folder whose files decide: the local one, or a cached copy. None when there is none."""
    if facts["model.name"] is None:
        return None
    if facts["model.local"]:
        return str(facts["model.path"])
    copies = facts["model.cached"]
    return str(facts["model.cached_path"] or copies[0]["path"]) if copies else None


def is_a_model(facts: Facts) -> Iterator[Finding]:
    folder = _examined(facts)
    if folder is None or not facts["model.local"]:
        return
    error, weights, files = facts["model.config_error"], facts["model.weights"], facts["model.files"]
    details: dict[str, Any] = {"path": folder, "model_path": folder, "weights_format": weights["format"]} | _origin(
        facts
    )
    where = f"{folder}/config.json"
    other_format = weights["format"] in ("gguf", "consolidated")
    if not files:
        yield _finding("model-path-not-found", f"the folder {folder} is empty", _line(facts), **details)
    elif other_format:
        what = f"the weights are in the {weights['format']} format: {', '.join(weights['files'][:3])}"
        yield _finding("model-not-hf-format", what, folder, **details)
    elif error == weight_files.MISSING and facts["model.is_adapter"]:
        what = "it holds a LoRA adapter (adapter_config.json), not a model"
        base = facts["model.adapter_base"]
        details |= {"base_model": base} if base else {}
        yield _finding("model-incomplete-download", what, _line(facts), **details)
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
    folder = _examined(facts)
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
        details |= {"missing": files, "bad_file": f"{folder}/{files[0]}"} | _origin(facts)
        yield Finding(cause, evidence, source=SOURCE, details=details)


def _origin(facts: Facts) -> dict[str, Any]:
    """`repo`: the hub id to download again from, where the configuration or the name tells."""
    if facts["model.kind"] == "hub":
        return {"repo": facts["model.name"]}
    named = (facts.get("model.config") or {}).get("_name_or_path")
    return {"repo": named} if isinstance(named, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", named) else {}


def tokenizer_whole(facts: Facts) -> Iterator[Finding]:
    folder = _examined(facts)
    if folder is None or facts["model.config_error"]:
        return
    tokenizer = facts["model.tokenizer"]
    details: dict[str, Any] = {"path": folder, "model_path": folder} | _origin(facts)
    if tokenizer["pointers"]:
        evidence = tuple(Evidence("git-lfs pointer text", f"{folder}/{name}") for name in tokenizer["pointers"])
        details |= {"files": tokenizer["pointers"], "file": tokenizer["pointers"][0]}
        yield Finding("model-lfs-pointer", evidence, source=SOURCE, details=details)
    elif tokenizer["missing"] and not tokenizer["auto_map"]:
        names = ", ".join(tokenizer["missing"])
        details |= {"files": tokenizer["missing"], "file": tokenizer["missing"][0]}
        yield _finding("tok-file-missing", f"the tokenizer's {names} is not there", folder, **details)
    read = {
        "tokenizer.json": tokenizer["error"],
        "tokenizer_config.json": tokenizer["config_error"],
        **tokenizer["broken"],
    }
    for name, error in read.items():
        if error and name not in tokenizer["pointers"]:
            where = f"{folder}/{name}"
            yield _finding("tok-load-failed", f"{name}: {error}", where, **details | {"file": name, "files": [name]})


def token_ids_fit(facts: Facts) -> Iterator[Finding]:
    """An id beyond the embedding ends the run with a device-side assert; `resize_vocab` lets LLaMA-Factory grow it."""
    folder = _examined(facts)
    if folder is None or facts["recipe.values"].get("resize_vocab"):
        return
    highest = facts["model.tokenizer"]["highest_id"]
    rows = facts["model.weights"]["rows"] or facts["model.config"].get("vocab_size")
    if isinstance(highest, int) and isinstance(rows, int) and highest >= rows:
        what = f"the highest token id is {highest}, the embedding has {rows} rows (ids 0 to {rows - 1})"
        details: dict[str, Any] = {"highest_id": highest, "rows": rows, "path": folder, "model_path": folder}
        details["quantized"] = bool(facts["model.config"].get("quantization_config"))
        details["lora"] = facts["recipe.values"].get("finetuning_type", "lora") == "lora"
        details["embedding_names"] = "embed_tokens,lm_head"
        yield _finding("tok-ids-out-of-range", what, f"{folder}/tokenizer.json", **details)


def special_tokens(facts: Facts) -> Iterator[Finding]:
    folder = _examined(facts)
    if folder is None:
        return
    special = facts["model.tokenizer"]["special"]
    empty = [name for name in ("eos_token", "bos_token") if special.get(name) == ""]
    if empty:
        what = f"{' and '.join(empty)} {'is' if len(empty) == 1 else 'are'} the empty string"
        where = f"{folder}/tokenizer_config.json"
        details: dict[str, Any] = {"model_path": folder, "tokenizer_config": where, "tokens": empty}
        yield _finding("tok-special-tokens-empty", what, where, **details)


def embedding_fits_config(facts: Facts) -> Iterator[Finding]:
    folder = _examined(facts)
    if folder is None or not facts["model.local"]:
        return
    rows, config = facts["model.weights"]["rows"], facts["model.config"]
    text = config.get("text_config") if isinstance(config.get("text_config"), dict) else config
    declared = text.get("vocab_size", config.get("vocab_size"))
    if isinstance(rows, int) and isinstance(declared, int) and rows != declared:
        what = f"config.json says vocab_size {declared}, the embedding in the weights has {rows} rows"
        details: dict[str, Any] = {
            "rows": rows,
            "vocab_size": declared,
            "model_path": folder,
            "file": f"{folder}/config.json",
        }
        yield _finding("model-config-weights-mismatch", what, f"{folder}/config.json", **details | _origin(facts))


# Architectures whose weights are named and shaped as Llama's; what their configuration says follows from the tensors.
_LLAMA_LIKE = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2")


def layers_fit_config(facts: Facts) -> Iterator[Finding]:
    """Other shapes end the loading; a layer that the weights lack starts at random, with no more than a warning."""
    folder = _examined(facts)
    if folder is None or not facts["model.local"]:
        return
    seen, config = facts["model.weights"]["shapes"], facts["model.config"]
    if not seen or config.get("quantization_config") or config.get("model_type") not in _LLAMA_LIKE:
        return
    wanted = _sizes_by_config(config)
    details = {"model_path": folder, "file": f"{folder}/config.json"} | _origin(facts)
    wrong = {name: (said, seen[name]) for name, said in wanted.items() if name in seen and seen[name] != said}
    if wrong:
        words = [
            f"{_SIZES[name]} {said} by config.json, {there} in the weights" for name, (said, there) in wrong.items()
        ]
        yield _finding("model-config-weights-mismatch", "; ".join(words), f"{folder}/config.json", **details)


def tensors_fit_config(facts: Facts) -> Iterator[Finding]:
    """Tensor by tensor where the family is known; sizes that differ throughout are said by the judgements above."""
    folder = _examined(facts)
    if folder is None or not facts["model.local"] or facts["recipe.values"].get("train_from_scratch"):
        return
    if any(layers_fit_config(facts)) or any(embedding_fits_config(facts)):
        return
    weights = facts["model.weights"]
    words = [*weights["differing"], *weights["missing"]]
    if words:
        what = "; ".join(words[:4]) + (f" (and {len(words) - 4} more)" if len(words) > 4 else "")
        what += ": it would start at random" if words[0].endswith("is not in the weights") else ""
        details = {"model_path": folder, "file": f"{folder}/config.json"} | _origin(facts)
        yield _finding("model-config-weights-mismatch", what, f"{folder}/config.json", **details)


def values_usable(facts: Facts) -> Iterator[Finding]:
    folder = _examined(facts)
    if folder is None:
        return
    config, installed = facts["model.config"], facts.get("packages.versions", {}).get("transformers", "0")
    details: dict[str, Any] = {"path": folder, "model_path": folder} | _origin(facts)
    said = [("config.json", fault) for fault in model_values.faults(config, installed)]
    generation = facts["model.generation_error"]
    if generation and (model_values.NO_OBJECT in generation or model_values.at_least(installed, "5.0.0.dev0")):
        said.append(("generation_config.json", generation))
    if refused := facts.get("model.generation_refused"):
        said.append(("generation_config.json", refused))
    for name, fault in said:
        where = f"{folder}/{name}"
        yield _finding("model-config-invalid-json", f"{name}: {fault}", where, **details, file=where, value_wrong=True)


def weights_marked(facts: Facts) -> Iterator[Finding]:
    """Before its release 5 transformers asks the metadata of a safetensors file which library wrote it."""
    folder, unmarked = _examined(facts), facts["model.weights"].get("unmarked")
    installed = facts.get("packages.versions", {}).get("transformers", "0")
    if folder is None or not unmarked or not model_values.at_least("5.0.0.dev0", installed):
        return
    what = (
        f"the metadata of {', '.join(unmarked[:3])} do not name the format pt, which transformers {installed} asks for"
    )
    details: dict[str, Any] = {"path": folder, "model_path": folder, "files": unmarked, "file": unmarked[0]} | _origin(
        facts
    )
    details |= {"bad_file": f"{folder}/{unmarked[0]}", "missing": unmarked, "kind": "not a safetensors file"}
    yield _finding("model-corrupt-safetensors", what, f"{folder}/{unmarked[0]}", **details)


_SIZES = {"layers": "layers", "hidden": "hidden_size", "queries": "rows of q_proj", "keys": "rows of k_proj",
          "middle": "intermediate_size"}  # fmt: skip


def _sizes_by_config(config: Mapping[str, Any]) -> dict[str, int]:
    """What `model_folder._sizes` should have found, as far as the configuration says."""
    hidden, heads = config.get("hidden_size"), config.get("num_attention_heads")
    found = {"layers": config.get("num_hidden_layers"), "hidden": hidden, "middle": config.get("intermediate_size")}
    if isinstance(hidden, int) and isinstance(heads, int) and heads > 0:
        with suppress(TypeError, ValueError, ArithmeticError):  # a head_dim that is no number: values_usable says so
            width = expected_tensors.head_width(config)
            groups = config.get("num_key_value_heads") or heads
            found |= {"queries": heads * width, "keys": groups * width if isinstance(groups, int) else None}
    return {name: size for name, size in found.items() if isinstance(size, int)}


JUDGEMENTS: tuple[Judgement, ...] = (
    path_exists, is_a_model, weights_whole, tokenizer_whole, token_ids_fit, special_tokens, embedding_fits_config,
    layers_fit_config, tensors_fit_config, values_usable,
    weights_marked,
)  # fmt: skip
