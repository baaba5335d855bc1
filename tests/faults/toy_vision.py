"""Writes a random Qwen2-VL of two layers: `python toy_vision.py TEXT_MODEL DIR`, in an environment that has transformers."""

import json
import sys
from pathlib import Path

import transformers
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLImageProcessor

TOKENS = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
TEXT = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 512, "max_position_embeddings": 2048}  # fmt: skip
VISION = {"depth": 1, "embed_dim": 32, "hidden_size": 64, "num_heads": 2, "mlp_ratio": 2, "patch_size": 14,
          "spatial_merge_size": 2, "temporal_patch_size": 2, "in_channels": 3}  # fmt: skip
SECTIONS = [2, 3, 3]  # of the rotary embedding: time, height, width


def write_tokenizer(text: Path, folder: Path) -> dict[str, int]:
    """The text model's, with the tokens of images; and the files of a slow one, which processors ask for."""
    tokenizer = json.loads((text / "tokenizer.json").read_text())
    last, ids = max(tokenizer["model"]["vocab"].values()), {}
    for number, name in enumerate(TOKENS, start=last + 1):
        ids[name] = number
        entry = {"id": number, "content": name, "single_word": False, "lstrip": False, "rstrip": False}
        tokenizer["added_tokens"].append({**entry, "normalized": False, "special": True})
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    settings = json.loads((text / "tokenizer_config.json").read_text())
    settings["additional_special_tokens"] += TOKENS
    settings |= {
        "tokenizer_class": "Qwen2TokenizerFast",
        "chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1))
    (folder / "vocab.json").write_text(json.dumps(tokenizer["model"]["vocab"]))
    merges = [one if isinstance(one, str) else " ".join(one) for one in tokenizer["model"]["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    return ids


def config(ids: dict[str, int]) -> Qwen2VLConfig:
    more = {"vision_config": VISION, "eos_token_id": 2, "pad_token_id": 0, "tie_word_embeddings": False}
    more |= {name.strip("<|>").replace("_pad", "") + "_token_id": ids[name] for name in TOKENS}
    if transformers.__version__.startswith("4"):
        return Qwen2VLConfig(
            **TEXT, rope_theta=10000.0, rope_scaling={"type": "mrope", "mrope_section": SECTIONS}, **more
        )
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": SECTIONS}
    return Qwen2VLConfig(text_config={**TEXT, "rope_parameters": rope}, **more)


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    target.mkdir(parents=True)
    made = config(write_tokenizer(source, target))
    made.architectures = ["Qwen2VLForConditionalGeneration"]
    Qwen2VLForConditionalGeneration(made).save_pretrained(target)
    Qwen2VLImageProcessor(min_pixels=784, max_pixels=784 * 4).save_pretrained(target)
