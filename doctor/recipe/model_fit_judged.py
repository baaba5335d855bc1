"""Whether the parts of a model fit each other: ids and embedding, tensors and configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from doctor.facts import Facts
from doctor.findings import Finding, found
from doctor.recipe import expected_tensors, model_values
from doctor.recipe.model_files_judged import examined, origin

_finding = partial(found, "model")


def token_ids_fit(facts: Facts) -> Iterator[Finding]:
    """An id beyond the embedding ends the run with a device-side assert; `resize_vocab` lets LLaMA-Factory grow it."""
    folder = examined(facts)
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
    folder = examined(facts)
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
    folder = examined(facts)
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
        yield _finding("model-config-weights-mismatch", what, f"{folder}/config.json", **details | origin(facts))


# Architectures whose weights are named and shaped as Llama's; what their configuration says follows from the tensors.
_LLAMA_LIKE = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2")


def layers_fit_config(facts: Facts) -> Iterator[Finding]:
    """Other shapes end the loading; a layer that the weights lack starts at random, with no more than a warning."""
    folder = examined(facts)
    if folder is None or not facts["model.local"]:
        return
    seen, config = facts["model.weights"]["shapes"], facts["model.config"]
    if not seen or config.get("quantization_config") or config.get("model_type") not in _LLAMA_LIKE:
        return
    wanted = _sizes_by_config(config)
    details = {"model_path": folder, "file": f"{folder}/config.json"} | origin(facts)
    wrong = {name: (said, seen[name]) for name, said in wanted.items() if name in seen and seen[name] != said}
    if wrong:
        words = [
            f"{_SIZES[name]} {said} by config.json, {there} in the weights" for name, (said, there) in wrong.items()
        ]
        yield _finding("model-config-weights-mismatch", "; ".join(words), f"{folder}/config.json", **details)


def tensors_fit_config(facts: Facts) -> Iterator[Finding]:
    """Tensor by tensor where the family is known; sizes that differ throughout are said by the judgements above."""
    folder = examined(facts)
    if folder is None or not facts["model.local"] or facts["recipe.values"].get("train_from_scratch"):
        return
    if any(layers_fit_config(facts)) or any(embedding_fits_config(facts)):
        return
    weights = facts["model.weights"]
    words = [*weights["differing"], *weights["missing"]]
    if words:
        what = "; ".join(words[:4]) + (f" (and {len(words) - 4} more)" if len(words) > 4 else "")
        what += ": it would start at random" if words[0].endswith("is not in the weights") else ""
        details = {"model_path": folder, "file": f"{folder}/config.json"} | origin(facts)
        yield _finding("model-config-weights-mismatch", what, f"{folder}/config.json", **details)


def values_usable(facts: Facts) -> Iterator[Finding]:
    folder = examined(facts)
    if folder is None:
        return
    config, installed = facts["model.config"], facts.get("packages.versions", {}).get("transformers", "0")
    details: dict[str, Any] = {"path": folder, "model_path": folder} | origin(facts)
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
    folder, unmarked = examined(facts), facts["model.weights"].get("unmarked")
    installed = facts.get("packages.versions", {}).get("transformers", "0")
    if folder is None or not unmarked or not model_values.at_least("5.0.0.dev0", installed):
        return
    what = (
        f"the metadata of {', '.join(unmarked[:3])} do not name the format pt, which transformers {installed} asks for"
    )
    details: dict[str, Any] = {"path": folder, "model_path": folder, "files": unmarked, "file": unmarked[0]} | origin(
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


ALL = (
    token_ids_fit, special_tokens, embedding_fits_config, layers_fit_config, tensors_fit_config, values_usable,
    weights_marked,
)  # fmt: skip
