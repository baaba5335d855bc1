"""The size of a vision tower with its projector, from the vision_config of a model's config.json. Pure.

Follows the modelling code of transformers: Qwen2-VL and its successors (a merger of patches, gated projections from 2.5
on, mergers of deeper layers from 3 on), else a plain vision transformer with a two-layer projector, as LLaVA has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def parameters(config: Mapping[str, Any], hidden: int) -> int:
    """Elements of the tower and the projector into `hidden` of the language model; 0 without a vision_config."""
    vision = config.get("vision_config")
    if not isinstance(vision, Mapping):
        return 0

    def number(default: float, *names: str) -> int:
        found = next((vision[name] for name in names if isinstance(vision.get(name), (int, float))), default)
        return int(found)

    kind = str(config.get("model_type") or "")
    qwen = kind.startswith(("qwen2_vl", "qwen2_5_vl", "qwen3_vl"))
    # Qwen2-VL calls the tower's own width embed_dim and the language model's hidden_size
    width = number(1024, "embed_dim", "hidden_size")
    depth = number(24, "depth", "num_hidden_layers")
    inner = number(int(width * float(vision.get("mlp_ratio") or 4)), "intermediate_size")
    patch = number(14, "patch_size")
    layer = 4 * width**2 + (3 if kind == "qwen2_5_vl" else 2) * width * inner
    pixels = number(3, "in_channels", "in_chans", "num_channels") * patch**2
    if not qwen:
        positions = (number(336, "image_size") // max(1, patch)) ** 2 * width
        return depth * layer + pixels * width + positions + width * hidden + hidden**2
    merged = width * number(2, "spatial_merge_size") ** 2
    mergers = 1 + len(vision.get("deepstack_visual_indexes") or ())
    return depth * layer + pixels * number(2, "temporal_patch_size") * width + mergers * (merged**2 + merged * hidden)
