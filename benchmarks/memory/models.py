"""Random models and data sets of the campaign: written on the machine that measures, nothing is downloaded."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TILE = 64 << 20  # bytes of random weights that are repeated to fill a checkpoint

_COMMON = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_act": "silu", "rms_norm_eps": 1e-6,
    "max_position_embeddings": 32768, "rope_theta": 1e6, "torch_dtype": "bfloat16", "attention_dropout": 0.0,
    "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 0, "use_sliding_window": False, "initializer_range": 0.02,
}  # fmt: skip


def _qwen(hidden: int, inner: int, layers: int, heads: int, groups: int, vocabulary: int, tied: bool) -> dict[str, Any]:
    return {
        **_COMMON,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "vocab_size": vocabulary,
        "tie_word_embeddings": tied,
    }


SHAPES: dict[str, dict[str, Any]] = {
    "tiny": _qwen(64, 128, 2, 4, 2, 512, True),  # to try the campaign itself
    "0.5B": _qwen(896, 4864, 24, 14, 2, 151936, True),
    "1.5B": _qwen(1536, 8960, 28, 12, 2, 151936, True),
    "3B": _qwen(2048, 11008, 36, 16, 2, 151936, True),
    "7B": _qwen(3584, 18944, 28, 28, 4, 152064, False),
    "7B-8-layers": _qwen(3584, 18944, 8, 28, 4, 152064, False),
    "moe": {
        **_qwen(1024, 2816, 12, 16, 4, 151936, False),
        "architectures": ["Qwen2MoeForCausalLM"],
        "model_type": "qwen2_moe",
        "moe_intermediate_size": 704,
        "shared_expert_intermediate_size": 2816,
        "num_experts": 16,
        "num_experts_per_tok": 4,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    },
}


def tensors(config: dict[str, Any]) -> Iterator[tuple[str, list[int]]]:
    """Names and shapes of a dense Qwen2 checkpoint."""
    hidden, inner, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    head = hidden // config["num_attention_heads"]
    widths = {"q": config["num_attention_heads"] * head, "k": config["num_key_value_heads"] * head}
    widths["v"] = widths["k"]
    yield "model.embed_tokens.weight", [vocabulary, hidden]
    for layer in range(config["num_hidden_layers"]):
        base = f"model.layers.{layer}."
        for name, width in widths.items():
            yield f"{base}self_attn.{name}_proj.weight", [width, hidden]
            yield f"{base}self_attn.{name}_proj.bias", [width]
        yield f"{base}self_attn.o_proj.weight", [hidden, widths["q"]]
        yield f"{base}mlp.gate_proj.weight", [inner, hidden]
        yield f"{base}mlp.up_proj.weight", [inner, hidden]
        yield f"{base}mlp.down_proj.weight", [hidden, inner]
        yield f"{base}input_layernorm.weight", [hidden]
        yield f"{base}post_attention_layernorm.weight", [hidden]
    yield "model.norm.weight", [hidden]
    if not config["tie_word_embeddings"]:
        yield "lm_head.weight", [vocabulary, hidden]


def write_dense(folder: Path, config: dict[str, Any]) -> None:
    """One safetensors file of 16-bit weights: a tile of small normal numbers, repeated."""
    import torch

    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in tensors(config):
        size = 2
        for extent in shape:
            size *= extent
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    tile = (torch.randn(TILE // 2) * 0.02).to(torch.bfloat16).view(torch.uint8).numpy().tobytes()
    with open(folder / "model.safetensors.part", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for start in range(0, end, TILE):
            file.write(tile[: min(TILE, end - start)])


def write_by_transformers(folder: Path, config: dict[str, Any]) -> None:
    """Initialised and saved by transformers, for layouts that `tensors` does not know."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    kind = config["model_type"]
    settings = AutoConfig.for_model(kind, **{k: v for k, v in config.items() if k != "model_type"})
    model = AutoModelForCausalLM.from_config(settings).to(torch.bfloat16)
    model.save_pretrained(folder / "saved")
    os.rename(folder / "saved" / "model.safetensors", folder / "model.safetensors.part")


def write_model(root: Path, shape: str) -> None:
    """`root/<shape>`: config.json, weights and a tokenizer of a few words. The weights' name appears when all is there."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    folder, config = root / shape, SHAPES[shape]
    folder.mkdir(parents=True, exist_ok=True)
    words = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "[UNK]", *(f"w{i}" for i in range(200))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", unk_token="[UNK]"
    ).save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    (write_dense if config["model_type"] == "qwen2" else write_by_transformers)(folder, config)
    os.rename(folder / "model.safetensors.part", folder / "model.safetensors")


def write_data(folder: Path, vocabulary: int, length: int, count: int, ragged: bool, parts: int) -> None:
    """`count` tokenised samples of random ids. `ragged`: every second one is half as long, so that batches are padded.
    `parts`: as neat packing makes them, so many sequences in each sample, numbered in the attention mask."""
    import random

    from datasets import Dataset

    shutil.rmtree(folder, ignore_errors=True)
    rows = []
    for i in range(count):
        size = length // 2 if ragged and i % 2 else length
        ids = [random.randrange(4, vocabulary) for _ in range(size)]
        mask = [1 + j * parts // size for j in range(size)] if parts > 1 else [1] * size
        rows.append({"input_ids": ids, "attention_mask": mask, "labels": ids})
    Dataset.from_list(rows).save_to_disk(str(folder))
