"""The tensors that a configuration calls for, of the families whose names and shapes are all alike.

What a file does not hold starts at random with one line of warning; another shape ends the loading.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from doctor.recipe.safetensors_header import Tensor

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
_OF_QWEN3 = 128  # head_dim of a Qwen3Config that names none
MOST = 12  # names that are kept


def misfits(config: Mapping[str, Any] | None, tensors: Mapping[str, Tensor]) -> tuple[list[str], list[str]]:
    """What is wrong, in words: tensors that are missing or have no place, and shapes that differ. First MOST of each."""
    if config is None or config.get("model_type") not in FAMILIES or config.get("quantization_config") or not tensors:
        return [], []
    try:
        called_for = wanted(config, _layers(tensors) + 2)
    except KeyError as key:
        return [], [f"config.json names no {key.args[0]}: the default of the class counts"]
    except (TypeError, ValueError, ArithmeticError):
        return [], []
    bare = not any(name.startswith("model.") for name in tensors)
    if bare and "lm_head.weight" not in tensors:  # saved from the model without its head: loading adds the prefix
        tensors = {f"model.{name}": tensor for name, tensor in tensors.items()}
    missing = [f"{name} is not in the weights" for name in called_for if name not in tensors]
    missing += _without_place(config, tensors)
    differing = [
        f"{name} is {list(tensors[name].shape)} in the weights, {shape} by config.json"
        for name, shape in called_for.items()
        if name in tensors and list(tensors[name].shape) != shape
    ]
    return _shortened(missing), _shortened(differing)


def _shortened(words: list[str]) -> list[str]:
    return words if len(words) <= MOST else [*words[:MOST], f"and {len(words) - MOST} more"]


def _without_place(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> list[str]:
    """Biases that the class does not have: the configuration of another family, which loads and computes otherwise."""
    kind = config["model_type"]
    if kind == "qwen2" or config.get("attention_bias"):
        return []
    found = [name for name in tensors if name.endswith(("q_proj.bias", "k_proj.bias", "v_proj.bias"))]
    return [f"{name} has no place in a {kind}" for name in found[:1]]


def head_width(config: Mapping[str, Any]) -> int:
    by_class = (
        _OF_QWEN3 if config.get("model_type") == "qwen3" else config["hidden_size"] // config["num_attention_heads"]
    )
    return int(config.get("head_dim") or by_class)


def _layers(tensors: Mapping[str, Tensor]) -> int:
    """One more than the highest number of a layer."""
    numbers = [name.split(".layers.", 1)[1].split(".", 1)[0] for name in tensors if ".layers." in name]
    return max((int(number) for number in numbers if number.isdecimal() and len(number) < 6), default=-1) + 1


def wanted(config: Mapping[str, Any], most: int | None = None) -> dict[str, list[int]]:
    """Name -> shape, of the first `most` layers: a configuration may say any number. Raises KeyError, ValueError where the
    configuration does not say it."""
    hidden, heads, kind = int(config["hidden_size"]), int(config["num_attention_heads"]), config["model_type"]
    groups = int(config.get("num_key_value_heads") or heads)
    width = head_width(config)
    middle, vocabulary = int(config["intermediate_size"]), int(config["vocab_size"])
    layer = {
        "input_layernorm.weight": [hidden],
        "post_attention_layernorm.weight": [hidden],
        "self_attn.q_proj.weight": [heads * width, hidden],
        "self_attn.k_proj.weight": [groups * width, hidden],
        "self_attn.v_proj.weight": [groups * width, hidden],
        "self_attn.o_proj.weight": [hidden, heads * width],
        "mlp.gate_proj.weight": [middle, hidden],
        "mlp.up_proj.weight": [middle, hidden],
        "mlp.down_proj.weight": [hidden, middle],
    }
    if kind == "qwen2":
        rows = {"q": heads * width, "k": groups * width, "v": groups * width}
        layer |= {f"self_attn.{part}_proj.bias": [count] for part, count in rows.items()}
    elif kind == "qwen3":
        layer |= {"self_attn.q_norm.weight": [width], "self_attn.k_norm.weight": [width]}
    found = {"model.embed_tokens.weight": [vocabulary, hidden], "model.norm.weight": [hidden]}
    layers = int(config["num_hidden_layers"])
    for number in range(layers if most is None else min(layers, most)):
        found |= {f"model.layers.{number}.{name}": shape for name, shape in layer.items()}
    if not config.get("tie_word_embeddings", False):
        found["lm_head.weight"] = [vocabulary, hidden]
    return found
