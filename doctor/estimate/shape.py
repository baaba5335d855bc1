"""The shape of a decoder as its config.json gives it: widths, and the sizes of its weights tensor by tensor. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from doctor.estimate import vision
from doctor.recipe import model_size


class Shape(msgspec.Struct, frozen=True):
    """Widths in elements. `experts` 0 is a dense model; `shared` is the inner width of the shared experts. `latent` are
    the matrices of a multi-head latent attention; `vision` the elements of a vision tower with its projector."""

    hidden: int
    inner: int
    layers: int
    heads: int
    groups: int
    head: int
    vocabulary: int
    tied: bool
    experts: int = 0
    chosen: int = 0
    expert_inner: int = 0
    shared: int = 0
    total: int = 0
    latent: tuple[int, ...] = ()
    vision: int = 0

    @property
    def layer_weights(self) -> tuple[int, ...]:
        """Elements of the matrices of one layer, in the order of the forward pass."""
        query, key = self.heads * self.head, self.groups * self.head
        attention = self.latent or (self.hidden * query, self.hidden * key, self.hidden * key, query * self.hidden)
        if not self.experts:
            return (*attention, *(self.hidden * self.inner,) * 3)
        routed = (2 * self.experts * self.hidden * self.expert_inner, self.experts * self.hidden * self.expert_inner)
        return (*attention, *routed, *((self.hidden * self.shared,) * 3 if self.shared else ()))

    @property
    def layer(self) -> int:
        return sum(self.layer_weights)

    @property
    def embedding(self) -> int:
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """All elements: those of `doctor.recipe.model_size` where it knows the architecture, else the matrices'."""
        return self.total or self.layers * self.layer + self.embedding * (1 if self.tied else 2)


def from_config(config: Mapping[str, Any]) -> Shape | None:
    """The language model of a config.json; None where it does not say enough."""
    whole = config
    if isinstance(config.get("text_config"), Mapping):
        inside = config["text_config"]
        tied = config.get("tie_word_embeddings", inside.get("tie_word_embeddings", False))
        config = {**inside, "tie_word_embeddings": tied}
    try:
        hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        names = ("num_local_experts", "num_experts", "n_routed_experts")
        experts = next((int(config[name]) for name in names if config.get(name)), 0)
        inner = int(config["intermediate_size"])
        head = int(config.get("head_dim") or hidden // heads)
        expert_inner = int(config.get("moe_intermediate_size") or inner) if experts else 0
        shared = int(config.get("shared_expert_intermediate_size") or 0) if experts else 0
        shared = shared or int(config.get("n_shared_experts") or 0) * expert_inner
        latent = _latent(config, hidden, heads)
        if latent:
            head = int(config["qk_nope_head_dim"]) + int(config["qk_rope_head_dim"])
        shape = Shape(
            hidden=hidden,
            inner=inner,
            layers=int(config["num_hidden_layers"]),
            heads=heads,
            groups=int(config.get("num_key_value_heads") or heads),
            head=head,
            vocabulary=int(config["vocab_size"]),
            tied=bool(config.get("tie_word_embeddings", str(config.get("model_type")).startswith("gemma"))),
            experts=experts,
            chosen=int(config.get("num_experts_per_tok") or 2) if experts else 0,
            expert_inner=expert_inner,
            shared=shared,
            total=model_size.parameters(config) or 0,
            latent=latent,
            vision=vision.parameters(whole, hidden),
        )
        plain = int(config.get("first_k_dense_replace") or 0) if experts else 0
        if plain and not shape.total:  # DeepSeek's first layers have no experts
            sparse = sum(shape.layer_weights[len(latent) or 4 :])
            total = shape.parameters - plain * (sparse - 3 * hidden * inner)
            return msgspec.structs.replace(shape, total=total)
        return shape
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None


def _latent(config: Mapping[str, Any], hidden: int, heads: int) -> tuple[int, ...]:
    """Matrices of DeepSeek's multi-head latent attention; none for other models."""
    if not config.get("kv_lora_rank"):
        return ()
    rank, query_rank = int(config["kv_lora_rank"]), int(config.get("q_lora_rank") or 0)
    plain, turned, value = (int(config[n]) for n in ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"))
    query = heads * (plain + turned)
    queries = (hidden * query_rank, query_rank * query) if query_rank else (hidden * query,)
    return (*queries, hidden * (rank + turned), rank * heads * (plain + value), heads * value * hidden)


def from_parameters(parameters: float) -> Shape:
    """A usual decoder of so many parameters, for models whose config is not at hand: widths between those of the
    Qwen2.5 and Llama 3 families, so that activations are about right, and as many layers as make up the size."""
    sizes = ((0.9e9, 896, 4864), (2.2e9, 1536, 8960), (5e9, 2048, 11008), (11e9, 3584, 18944), (24e9, 5120, 13824),
             (50e9, 5120, 27648), (200e9, 8192, 29568), (float("inf"), 16384, 53248))  # fmt: skip
    _, hidden, inner = next(size for size in sizes if parameters < size[0])
    one = Shape(hidden, inner, 1, hidden // 128, 8, 128, 152064, hidden < 3584)
    layers = max(1, round((parameters - one.parameters + one.layer) / one.layer))
    return msgspec.structs.replace(one, layers=layers, total=int(parameters))
