"""Configurations of well-known hub models, so that a recipe can be judged before the model is on the machine.

From the config.json of each repository on huggingface.co; the totals that follow from them are tested against the
`total_size` of the repositories' weight indices.
"""

from __future__ import annotations

from typing import Any

_FIELDS = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
           "vocab_size", "tie_word_embeddings", "max_position_embeddings")  # fmt: skip

_QWEN25 = {
    "0.5B": (896, 4864, 24, 14, 2, 151936, True, 32768),
    "1.5B": (1536, 8960, 28, 12, 2, 151936, True, 32768),
    "3B": (2048, 11008, 36, 16, 2, 151936, True, 32768),
    "7B": (3584, 18944, 28, 28, 4, 152064, False, 32768),
    "14B": (5120, 13824, 48, 40, 8, 152064, False, 32768),
    "32B": (5120, 27648, 64, 40, 8, 152064, False, 32768),
    "72B": (8192, 29568, 80, 64, 8, 152064, False, 32768),
}
_QWEN3 = {
    "0.6B": (1024, 3072, 28, 16, 8, 151936, True, 40960),
    "1.7B": (2048, 6144, 28, 16, 8, 151936, True, 40960),
    "4B": (2560, 9728, 36, 32, 8, 151936, True, 40960),
    "8B": (4096, 12288, 36, 32, 8, 151936, False, 40960),
    "14B": (5120, 17408, 40, 40, 8, 151936, False, 40960),
    "32B": (5120, 25600, 64, 64, 8, 151936, False, 40960),
}
_LLAMA = {
    "meta-llama/Meta-Llama-3-8B": (4096, 14336, 32, 32, 8, 128256, False, 8192),
    "meta-llama/Meta-Llama-3-70B": (8192, 28672, 80, 64, 8, 128256, False, 8192),
    "meta-llama/Llama-3.1-8B": (4096, 14336, 32, 32, 8, 128256, False, 131072),
    "meta-llama/Llama-3.1-70B": (8192, 28672, 80, 64, 8, 128256, False, 131072),
    "meta-llama/Llama-3.2-1B": (2048, 8192, 16, 32, 8, 128256, True, 131072),
    "meta-llama/Llama-3.2-3B": (3072, 8192, 28, 24, 8, 128256, True, 131072),
}
# Fine-tuned models with the configuration of another one.
_SAME_AS = {
    "NovaSky-AI/Sky-T1-32B-Preview": "Qwen/Qwen2.5-32B",
    "NovaSky-AI/Sky-T1-32B-Flash": "Qwen/Qwen2.5-32B",
    "Qwen/QwQ-32B-Preview": "Qwen/Qwen2.5-32B",
    "Qwen/QwQ-32B": "Qwen/Qwen2.5-32B",
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B": "Qwen/Qwen2.5-14B",
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B": "Qwen/Qwen2.5-32B",
    "deepseek-ai/DeepSeek-R1-Distill-Llama-8B": "meta-llama/Llama-3.1-8B",
    "deepseek-ai/DeepSeek-R1-Distill-Llama-70B": "meta-llama/Llama-3.1-70B",
}


def config(repository: str) -> dict[str, Any] | None:
    """The configuration of a hub model; None where this table does not know it."""
    name = _SAME_AS.get(repository, repository)
    for suffix in ("-Instruct", "-Base"):
        name = name.removesuffix(suffix)
    for owner, sizes, kind, extra in (
        ("Qwen/Qwen2.5-", _QWEN25, "qwen2", {}),
        ("Qwen/Qwen2.5-Coder-", _QWEN25, "qwen2", {}),
        ("Qwen/Qwen3-", _QWEN3, "qwen3", {"head_dim": 128}),
        ("", _LLAMA, "llama", {}),
    ):
        size = name.removeprefix(owner)
        if name.startswith(owner) and size in sizes:
            return {"model_type": kind, **dict(zip(_FIELDS, sizes[size], strict=True)), **extra}
    return None
