"""A model's configuration → a small one of the same architecture class.

Kept: the class, the vocabulary and every token id, the ratio of query to key-value heads, RoPE, tied embeddings, which
kinds of layer there are, the experts a token takes. Made small: the number of layers, the widths, the number of experts.
A vocabulary of 152,000 at a width of 40 is 6 million parameters: small enough to keep, and the one size that data,
template and tokenizer depend on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

LAYERS = 2
HEAD = 16  # width of a head; 8 where there are many
WIDEST = 64  # of the hidden states
EXPERTS = 4

# Names that the configurations of transformers use for the same size.
_LAYER_NAMES = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "depth")
_WIDTH_NAMES = ("hidden_size", "n_embd", "d_model", "dim", "embed_dim")
_HEAD_NAMES = ("num_attention_heads", "n_head", "n_heads", "num_heads")
_GROUP_NAMES = ("num_key_value_heads", "multi_query_group_num", "n_head_kv", "num_kv_heads")
_MIDDLE_NAMES = ("intermediate_size", "ffn_hidden_size", "n_inner", "ffn_dim", "moe_intermediate_size",
                 "shared_expert_intermediate_size", "moe_shared_expert_intermediate_size")  # fmt: skip
_EXPERT_NAMES = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_TOP_NAMES = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "experts_per_token", "moe_k")
# Lists with one entry for each layer.
_PER_LAYER = ("layer_types", "no_rope_layers", "mlp_layer_types", "attention_types", "layers_block_type")
# Lists of layer numbers.
_LAYER_NUMBERS = ("mlp_only_layers", "moe_layers", "cross_attention_layers", "no_rope_layer_ids")
# Latent attention (DeepSeek): widths of its own.
_LATENT = {"q_lora_rank": 24, "kv_lora_rank": 16, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16}
_DROPPED = ("quantization_config", "_name_or_path", "transformers_version", "pretraining_tp")


class Shrunk(msgspec.Struct, frozen=True):
    """`config` is the small configuration, `changed` what was made smaller: name -> [before, after].

    `quantized` is the method of a quantised checkpoint; its random twin is not quantised.
    """

    config: dict[str, Any]
    changed: dict[str, list[Any]]
    quantized: str | None = None


def shrink(config: Mapping[str, Any]) -> Shrunk:
    """Raises ValueError for a configuration without layers, heads or a width: nothing that could be made small."""
    text = config.get("text_config")
    quantization = config.get("quantization_config")
    method = str(quantization.get("quant_method", "unknown")) if isinstance(quantization, dict) else None
    small = _composite(config, text) if isinstance(text, dict) else _decoder(config)
    for name in _DROPPED:
        small.pop(name, None)
    changed = {k: [config[k], small[k]] for k in small if k in config and config[k] != small[k]}
    return Shrunk(small, {k: v for k, v in changed.items() if not isinstance(v[0], (dict, list))}, method)


def _named(config: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if isinstance(config.get(name), int) and config[name] is not True), None)


def _decoder(config: Mapping[str, Any]) -> dict[str, Any]:
    small = dict(config)
    depth, width, heads = (_named(config, names) for names in (_LAYER_NAMES, _WIDTH_NAMES, _HEAD_NAMES))
    if depth is None or width is None or heads is None:
        raise ValueError("the configuration names no layers, width or heads")
    _layers(config, small, depth)
    hidden = _heads(config, small, heads)
    small[width] = hidden
    for name in _MIDDLE_NAMES:
        if isinstance(config.get(name), int):
            small[name] = min(config[name], 2 * hidden if name == "intermediate_size" else hidden)
    _experts(config, small)
    if isinstance(config.get("max_window_layers"), int):
        small["max_window_layers"] = min(config["max_window_layers"], small[depth])
    return small


def _layers(config: Mapping[str, Any], small: dict[str, Any], depth: str) -> None:
    """Two layers, or as many as there are kinds of layer, one of each."""
    count = min(config[depth], LAYERS)
    period = config.get("decoder_sparse_step") or config.get("full_attention_interval")
    if isinstance(period, int):
        count = max(count, min(period, 4))
    if isinstance(config.get("first_k_dense_replace"), int):  # that many dense layers before those with experts
        small["first_k_dense_replace"] = min(config["first_k_dense_replace"], 1)
    if isinstance(config.get("sliding_window_pattern"), int):
        small["sliding_window_pattern"] = min(config["sliding_window_pattern"], 2)
    lists = {n: config[n] for n in _PER_LAYER if isinstance(config.get(n), list) and len(config[n]) >= config[depth]}
    if lists:
        kinds = list(zip(*(values[: config[depth]] for values in lists.values()), strict=True))
        first = [kinds.index(kind) for kind in dict.fromkeys(kinds)]
        chosen = sorted({*first, *range(max(0, count - len(first)) + 1)} if len(first) < count else first)
        count = max(count, len(first))
        chosen = chosen[:count] if len(chosen) >= count else list(range(count))
        small.update({name: [values[i] for i in chosen] for name, values in lists.items()})
        count = len(chosen)
    small[depth] = count
    for name in _LAYER_NUMBERS:
        if isinstance(config.get(name), list):
            small[name] = [number for number in config[name] if isinstance(number, int) and number < count]


def _heads(config: Mapping[str, Any], small: dict[str, Any], heads: str) -> int:
    """Fewer heads of the same grouping; the width that follows from them."""
    groups = _named(config, _GROUP_NAMES)
    count = config[heads]
    shared = max(1, count // config[groups]) if groups else 1
    latent = isinstance(config.get("kv_lora_rank"), int)
    pairs = min(config[groups] if groups and not latent else count, 2 if shared < 4 else 1)
    small[heads] = shared * pairs if not latent else min(count, 4)
    if groups:
        small[groups] = pairs if not latent else small[heads]
    head = HEAD if small[heads] * HEAD <= WIDEST else 8
    width = _named(config, _WIDTH_NAMES)
    before = config.get("head_dim") or (config[width] // count if width else head)
    scalings = [name for name in ("rope_scaling", "rope_parameters") if isinstance(config.get(name), dict)]
    narrow = head
    for head in (*(size for size in (narrow, 16, 32, 64) if size < before), before):
        fitted = {name: _rope(config[name], before, head) for name in scalings}
        if None not in fitted.values():
            small.update(fitted)
            break
    hidden = small[heads] * head
    if isinstance(config.get("head_dim"), int):
        small["head_dim"] = head
    for name, size in _LATENT.items():
        if isinstance(config.get(name), int):
            small[name] = min(config[name], size)
    return max(hidden, 64) if isinstance(config.get("head_dim"), int) or latent else hidden


def _rope(scaling: Mapping[str, Any], before: int, head: int) -> dict[str, Any] | None:
    """Its lists for a narrower head: sections in proportion, factors cut off. None where that does not come out even."""
    fitted = dict(scaling)
    for name, values in scaling.items():
        if not isinstance(values, list):
            continue
        if name == "mrope_section" and all(value * head % before == 0 for value in values):
            fitted[name] = [value * head // before for value in values]
        elif len(values) == before // 2:
            fitted[name] = values[: head // 2]
        else:
            return None
    return fitted


def _experts(config: Mapping[str, Any], small: dict[str, Any]) -> None:
    """A few experts, of which a token takes as many as before; groups of experts stay whole."""
    name, top = _named(config, _EXPERT_NAMES), _named(config, _TOP_NAMES)
    if name is None:
        return
    wanted = max(EXPERTS, config[top] if top else 1)
    groups = config.get("n_group")
    if isinstance(groups, int) and groups > 1:
        taken = max(1, int(config.get("topk_group") or 1))
        wanted = groups * max(2, -(-wanted // taken))
    small[name] = min(config[name], wanted)


def _composite(config: Mapping[str, Any], text: Mapping[str, Any]) -> dict[str, Any]:
    """A model that reads images or sound: its language part as ever, the other parts with few and narrow layers."""
    small = dict(config)
    small["text_config"] = _decoder(text)
    width = _named(text, _WIDTH_NAMES)
    hidden = small["text_config"][width] if width else WIDEST
    for part in ("vision_config", "audio_config"):
        if isinstance(config.get(part), dict):
            small[part] = _tower(config[part], text[width] if width else None, hidden)
    for name in (*_LAYER_NAMES, *_WIDTH_NAMES, *_HEAD_NAMES, *_GROUP_NAMES, *_MIDDLE_NAMES):
        if name in config and name in small["text_config"]:  # older releases keep them at the top as well
            small[name] = small["text_config"][name]
    return small


def _tower(config: Mapping[str, Any], outer: int | None, hidden: int) -> dict[str, Any]:
    """The encoder of another modality; its output is as wide as the language part (`outer` before, `hidden` now)."""
    small = dict(config)
    depth, heads = _named(config, _LAYER_NAMES), _named(config, _HEAD_NAMES)
    if depth:
        small[depth] = min(config[depth], LAYERS)
        for name in ("fullatt_block_indexes", "deepstack_visual_indexes", "layers_hidden_size"):
            if isinstance(config.get(name), list):
                small[name] = [0] if config[name] else []
    if heads:
        small[heads] = min(config[heads], 2)
    for name in (*_WIDTH_NAMES, "intermediate_size", "out_hidden_size", "output_dim"):
        if isinstance(config.get(name), int):
            small[name] = hidden if config[name] == outer else min(config[name], 64)
    return small
