"""The shape of a decoder as its config.json gives it: widths, and the sizes of its weights tensor by tensor. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from doctor.recipe import model_size


class Shape(msgspec.Struct, frozen=True):
    """Widths in elements. `experts` 0 is a dense model; `shared` is the inner width of a shared expert."""

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

    @property
    def layer_weights(self) -> tuple[int, ...]:
        """Elements of the matrices of one layer, in the order of the forward pass."""
        query, key = self.heads * self.head, self.groups * self.head
        attention = (self.hidden * query, self.hidden * key, self.hidden * key, query * self.hidden)
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
    if isinstance(config.get("text_config"), Mapping):
        config = {**config["text_config"], "tie_word_embeddings": config.get("tie_word_embeddings", False)}
    try:
        hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        experts = int(config.get("num_local_experts") or config.get("num_experts") or 0)
        inner = int(config["intermediate_size"])
        return Shape(
            hidden=hidden,
            inner=inner,
            layers=int(config["num_hidden_layers"]),
            heads=heads,
            groups=int(config.get("num_key_value_heads") or heads),
            head=int(config.get("head_dim") or hidden // heads),
            vocabulary=int(config["vocab_size"]),
            tied=bool(config.get("tie_word_embeddings", str(config.get("model_type")).startswith("gemma"))),
            experts=experts,
            chosen=int(config.get("num_experts_per_tok") or 2) if experts else 0,
            expert_inner=int(config.get("moe_intermediate_size") or inner) if experts else 0,
            shared=int(config.get("shared_expert_intermediate_size") or 0) if experts else 0,
            total=model_size.parameters(config) or 0,
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None


def from_parameters(parameters: float) -> Shape:
    """A usual decoder of so many parameters, for models whose config is not at hand: widths between those of the
    Qwen2.5 and Llama 3 families, so that activations are about right."""
    sizes = ((0.9e9, 896, 4864, 24), (2.2e9, 1536, 8960, 28), (5e9, 2048, 11008, 36), (11e9, 3584, 18944, 28),
             (24e9, 5120, 13824, 48), (50e9, 5120, 27648, 64), (float("inf"), 8192, 29568, 80))  # fmt: skip
    _, hidden, inner, layers = next(size for size in sizes if parameters < size[0])
    return Shape(hidden, inner, layers, hidden // 128, 8, 128, 152064, hidden < 3584, total=int(parameters))
