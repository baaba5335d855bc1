"""A model folder as transformers will read it: configuration, weights, tokenizer files; what is missing or damaged."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from doctor.recipe import expected_tensors, json_object, model_values, safetensors_header, tokenizer_files, weight_files
from doctor.recipe.safetensors_header import Tensor
from doctor.recipe.weight_files import MISSING, UNREADABLE, WeightFault

SAFE_INDEX = "model.safetensors.index.json"
SAFE_SINGLE = "model.safetensors"
BIN_INDEX = "pytorch_model.bin.index.json"
BIN_SINGLE = "pytorch_model.bin"


class Weights(msgspec.Struct, frozen=True):
    """`format`: safetensors, bin, gguf, consolidated or none. `files`: names, `bytes`: their sizes together.

    `parameters`: elements of all tensors where headers tell; `rows`: of the input embedding.
    """

    format: str
    files: list[str]
    bytes: int
    faults: list[WeightFault]
    index: str | None = None
    parameters: int | None = None
    rows: int | None = None
    dtypes: list[str] = []
    shapes: dict[str, int] = {}  # sizes that the configuration names too, see `_sizes`
    parts: list[str] = []  # of a layer: self_attn, mlp, input_layernorm …
    missing: list[str] = []  # tensors that the configuration calls for, in words, see expected_tensors
    differing: list[str] = []  # tensors of another shape than the configuration calls for, in words
    modules: list[str] = []  # last names of the modules that hold a matrix: q_proj, down_proj, lm_head …
    outline: dict[str, dict[str, Any]] = {}  # see `outline`
    unmarked: list[str] = []  # safetensors files whose metadata do not name the format pt


class Folder(msgspec.Struct, frozen=True):
    """What a folder holds. `config` is None where config.json is absent, `config_error` says why it cannot be read."""

    names: list[str]
    config: dict[str, Any] | None
    config_error: str | None
    weights: Weights
    tokenizer: dict[str, Any]
    leftovers: list[str]  # of interrupted downloads
    generation: str | None  # what is wrong with generation_config.json
    generation_refused: str | None  # what transformers refuses of it in every release
    adapter: bool  # it holds adapter_config.json
    adapter_base: str | None  # the model that the adapter was trained on, as adapter_config.json names it

    @property
    def complete(self) -> bool:
        usable = self.config is not None and self.weights.format in ("safetensors", "bin") and not self.weights.faults
        return usable and not self.tokenizer["missing"] and not self.tokenizer["pointers"]


def inspect(folder: Path) -> Folder:
    """Look at every file that loading will need. Raises OSError when the folder itself cannot be listed."""
    names = sorted(item.name for item in folder.iterdir())
    config, why = json_object.read(folder / "config.json")
    return Folder(
        names=names[:500],
        config=config,
        config_error=why,
        weights=_weights(folder, names, config),
        generation=_generation(folder, model_values.generation_faults),
        generation_refused=_generation(folder, model_values.generation_refused),
        tokenizer=tokenizer_files.read(folder, names),
        leftovers=[n for n in names if n.endswith((".incomplete", ".aria2", ".part", ".downloading", ".tmp"))][:20],
        adapter="adapter_config.json" in names,
        adapter_base=_text((json_object.read(folder / "adapter_config.json")[0] or {}).get("base_model_name_or_path")),
    )


def _generation(folder: Path, faults: Callable[[Any], Iterator[str]]) -> str | None:
    """transformers goes on without a generation_config.json that is not JSON."""
    try:
        held = json.loads((folder / "generation_config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return "; ".join(faults(held)) or None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


# -- weights ------------------------------------------------------------------------------------------------------------
def _weights(folder: Path, names: list[str], config: dict[str, Any] | None) -> Weights:
    """The weights that `from_pretrained` chooses: safetensors before bin, one file before an index."""
    for single, index, kind in ((SAFE_SINGLE, SAFE_INDEX, "safetensors"), (BIN_SINGLE, BIN_INDEX, "bin")):
        if single in names:
            return _checked(folder, [single], kind, None, {}, config)
        if index in names:
            return _indexed(folder, index, kind, config)
    shards = [n for n in names if re.fullmatch(r"(model|pytorch_model)-\d+-of-\d+\.(safetensors|bin)", n)]
    if shards:
        kind = "safetensors" if shards[0].endswith("safetensors") else "bin"
        index = SAFE_INDEX if kind == "safetensors" else BIN_INDEX
        lacking = [WeightFault(index, MISSING, f"{len(shards)} shards are there, their index is not")]
        return Weights(kind, shards, _bytes(folder, shards), lacking, index)
    for kind, pattern in (("consolidated", r"consolidated.*\.(pth|safetensors)"), ("gguf", r".*\.gguf")):
        found = [n for n in names if re.fullmatch(pattern, n)]
        if found:
            return Weights(kind, found, _bytes(folder, found), [])
    return Weights("none", [], 0, [])


def _indexed(folder: Path, index: str, kind: str, model: dict[str, Any] | None) -> Weights:
    content, why = json_object.read(folder / index)
    weight_map = content.get("weight_map") if content else None
    said = why
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(v, str) for v in weight_map.values()):
        said = why or "has no weight_map"
    elif content is not None and not isinstance(content.get("metadata"), dict):
        said = "has no metadata"
    if said or not isinstance(weight_map, dict):
        return Weights(kind, [], 0, [WeightFault(index, why or UNREADABLE, f"the index {said}")], index)
    wanted: dict[str, set[str]] = {}
    for tensor, file in weight_map.items():
        wanted.setdefault(file, set()).add(tensor)
    return _checked(folder, sorted(wanted), kind, index, wanted, model)


def _all(wanted: dict[str, set[str]]) -> set[str]:
    return {tensor for tensors in wanted.values() for tensor in tensors}


def _checked(
    folder: Path,
    files: list[str],
    kind: str,
    index: str | None,
    wanted: dict[str, set[str]],
    model: dict[str, Any] | None,
) -> Weights:
    look = weight_files.safetensors if kind == "safetensors" else weight_files.torch_written
    with ThreadPoolExecutor(max_workers=8) as pool:  # network file systems answer each open after milliseconds
        looked = list(pool.map(lambda name: look(folder / name, wanted.get(name, set())), files))
    tensors = {name: tensor for _, found in looked for name, tensor in found.items()}
    faults = [fault for fault, _ in looked if fault is not None]
    if all(fault.kind == weight_files.INDEX_MISMATCH for fault in faults) and tensors.keys() >= _all(wanted):
        faults = []  # every shard is read whole, so that it is the same which of them holds a tensor
    counted = bool(tensors) and not faults and all(found for _, found in looked)
    missing, differing = expected_tensors.misfits(model, tensors) if counted else ([], [])
    return Weights(
        format=kind,
        files=files,
        bytes=_bytes(folder, files),
        faults=faults,
        index=index,
        parameters=sum(t.elements for t in tensors.values()) if counted else None,
        rows=_embedding_rows(tensors),
        dtypes=sorted({t.dtype for t in tensors.values()}),
        shapes=_sizes(tensors) if counted else {},
        missing=missing,
        differing=differing,
        outline=outline(tensors) if counted else {},
        unmarked=_unmarked(folder, files) if counted and kind == "safetensors" else [],
        parts=sorted({found[1] for name in tensors if (found := _PART_OF_LAYER.search(name))}),
        modules=sorted(
            {
                n.split(".")[-2]
                for n, t in tensors.items()
                if n.endswith(".weight") and len(t.shape) == 2 and "." in n[:-7]
            }
        ),
    )


def _unmarked(folder: Path, files: list[str]) -> list[str]:
    return [name for name in files if not safetensors_header.made_by_torch(folder / name)][:8]


def _bytes(folder: Path, files: list[str]) -> int:
    return sum((folder / name).stat().st_size for name in files if os.path.exists(folder / name))


_EMBEDDINGS = ("model.embed_tokens.weight", "transformer.wte.weight", "model.language_model.embed_tokens.weight",
               "language_model.model.embed_tokens.weight", "gpt_neox.embed_in.weight", "model.model.embed_tokens.weight",
               "transformer.word_embeddings.weight", "transformer.embedding.word_embeddings.weight")  # fmt: skip


def _embedding_rows(tensors: dict[str, Tensor]) -> int | None:
    found = next((tensors[name] for name in _EMBEDDINGS if name in tensors), None)
    return found.shape[0] if found and found.shape else None


MOST_NAMES = 400  # of an outline; above it the weights are of no ordinary model


def outline(tensors: dict[str, Tensor]) -> dict[str, dict[str, Any]]:
    """Name with a star for each number -> its different `shapes`, and `counts`: the highest of each number, and one."""
    found: dict[str, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        parts = name.split(".")
        numbers = [int(part) for part in parts if part.isdecimal() and len(part) < 6]
        starred = ".".join("*" if part.isdecimal() and len(part) < 6 else part for part in parts)
        held = found.setdefault(starred, {"shapes": [], "counts": [0] * len(numbers)})
        held["counts"] = [max(before, number + 1) for before, number in zip(held["counts"], numbers, strict=True)]
        if tensor.shape not in held["shapes"] and len(held["shapes"]) < 8:
            held["shapes"].append(list(tensor.shape))
        if len(found) > MOST_NAMES:
            return {}
    return found


_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)\.weight")
_PART_OF_LAYER = re.compile(r"\.\d+\.([A-Za-z_]\w*)\.")
_PARTS = {"self_attn.q_proj": "queries", "self_attn.k_proj": "keys", "mlp.up_proj": "middle"}


def _sizes(tensors: dict[str, Tensor]) -> dict[str, int]:
    """Of weights named as Llama names them: layers, hidden (columns of q_proj), rows of q_proj, k_proj and up_proj."""
    found: dict[str, int] = {}
    for name, tensor in tensors.items():
        place = _LAYER.fullmatch(name)
        if place is None:
            continue
        found["layers"] = max(found.get("layers", 0), int(place[1]) + 1)
        part = _PARTS.get(place[2])
        if part and len(tensor.shape) == 2:
            found[part] = tensor.shape[0]
            if part == "queries":
                found["hidden"] = tensor.shape[1]
    return found
