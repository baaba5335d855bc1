"""Parameters of a decoder from its configuration: grouped-query attention, tied embeddings, experts.

Counts are those of the modelling code in transformers; tests compare them with the published totals of the models.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# model_type -> which biases and norms its layers have beside the common parts
_QKV_BIAS = ("qwen2", "qwen2_moe", "qwen2_vl", "qwen2_5_vl")
_QK_NORM = ("qwen3", "qwen3_moe")
_FOUR_NORMS = ("gemma2", "gemma3_text", "glm4")
_KNOWN = (
    *_QKV_BIAS,
    *_QK_NORM,
    *_FOUR_NORMS,
    "llama",
    "mistral",
    "mixtral",
    "gemma",
    "phi3",
    "yi",
    "baichuan",
    "internlm2",
)


def parameters(config: Mapping[str, Any]) -> int | None:
    """Parameters of the language model; None for architectures that this arithmetic does not cover."""
    if isinstance(config.get("text_config"), Mapping):
        config = {**config["text_config"], "tie_word_embeddings": config.get("tie_word_embeddings", False)}
    kind = config.get("model_type")
    if kind not in _KNOWN:
        return None
    try:
        hidden, layers = int(config["hidden_size"]), int(config["num_hidden_layers"])
        heads, vocabulary = int(config["num_attention_heads"]), int(config["vocab_size"])
        groups = int(config.get("num_key_value_heads") or heads)
        head = int(config.get("head_dim") or hidden // heads)
        attention = hidden * head * (heads + 2 * groups) + heads * head * hidden
        bias = kind in _QKV_BIAS or bool(config.get("attention_bias"))
        attention += head * (heads + 2 * groups) if bias else 0
        attention += hidden if bool(config.get("attention_bias")) and kind == "llama" else 0
        attention += 2 * head if kind in _QK_NORM else 0
        norms = (4 if kind in _FOUR_NORMS else 2) * hidden
        total = layers * (attention + norms) + _feed_forward(config, kind, hidden, layers)
        embeddings = vocabulary * hidden * (1 if _tied(config, kind) else 2)
        return total + embeddings + hidden
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None


def _tied(config: Mapping[str, Any], kind: Any) -> bool:
    return bool(config.get("tie_word_embeddings", str(kind).startswith("gemma")))


def _feed_forward(config: Mapping[str, Any], kind: Any, hidden: int, layers: int) -> int:
    """All layers together: gate, up and down projections, or a router with experts of them."""
    experts = int(config.get("num_local_experts") or config.get("num_experts") or 0)
    dense = 3 * hidden * int(config["intermediate_size"])
    if not experts:
        return layers * dense
    one = 3 * hidden * int(config.get("moe_intermediate_size") or config["intermediate_size"])
    sparse = experts * one + experts * hidden
    if config.get("shared_expert_intermediate_size"):
        sparse += 3 * hidden * int(config["shared_expert_intermediate_size"]) + hidden
    step = int(config.get("decoder_sparse_step") or 1)
    plain = {int(i) for i in config.get("mlp_only_layers") or ()}
    with_experts = sum(1 for i in range(layers) if i not in plain and (i + 1) % step == 0)
    return with_experts * sparse + (layers - with_experts) * dense
