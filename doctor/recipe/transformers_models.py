"""Which model types and tokenizer classes the installed transformers knows, read from its source; first releases of some.

Model types stand as `("qwen2", "Qwen2Config")` or `"qwen2": "Qwen2Config"` in `models/auto/configuration_auto.py`, from
5.0 on in `auto_mappings.py` beside it.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

_PAIR = re.compile(r"\"([\w.-]+)\"\s*[,:]\s*\"(\w+Config)\"")
_TOKENIZER = re.compile(r"\"(\w+(?:Tokenizer|TokenizerFast))\"")
ALWAYS = ("PreTrainedTokenizer", "PreTrainedTokenizerFast")

# First release of transformers with the model type (release notes of transformers).
FIRST_RELEASE = {
    "qwen2": "4.37.0", "qwen2_moe": "4.40.0", "qwen2_vl": "4.45.0", "qwen2_5_vl": "4.49.0", "qwen2_5_omni": "4.52.0",
    "qwen3": "4.51.0", "qwen3_moe": "4.51.0", "qwen3_next": "4.57.0", "qwen3_vl": "4.57.0", "qwen3_vl_moe": "4.57.0",
    "gemma": "4.38.0", "gemma2": "4.42.0", "gemma3": "4.50.0", "gemma3_text": "4.50.0", "gemma3n": "4.53.0",
    "llama4": "4.51.0", "mllama": "4.45.0", "phi3": "4.41.0", "mixtral": "4.36.0", "mistral3": "4.50.0",
    "deepseek_v3": "4.51.0", "glm": "4.46.0", "glm4": "4.51.3", "glm4_moe": "4.54.0", "granite": "4.45.0",
    "olmo2": "4.47.0", "cohere2": "4.48.0", "gpt_oss": "4.55.0", "starcoder2": "4.39.0", "llava_onevision": "4.45.0",
}  # fmt: skip


class Known(msgspec.Struct, frozen=True):
    """Model types, and the names of tokenizer classes."""

    model_types: list[str]
    tokenizers: list[str]


def sources(transformers: Path) -> list[Path]:
    """The files that are read; those that exist."""
    auto = transformers / "models" / "auto"
    names = ("configuration_auto.py", "auto_mappings.py", "tokenization_auto.py")
    return [auto / name for name in names if (auto / name).is_file()]


def read(transformers: Path) -> Known:
    """Raises OSError."""
    text = {path.name: path.read_text(encoding="utf-8") for path in sources(transformers)}
    configurations = text.get("configuration_auto.py", "") + text.get("auto_mappings.py", "")
    tokenizers = set(_TOKENIZER.findall(text.get("tokenization_auto.py", ""))) | set(ALWAYS)
    if "TokenizersBackend" in text.get("tokenization_auto.py", ""):
        tokenizers.add("TokenizersBackend")
    return Known(sorted({kind for kind, _ in _PAIR.findall(configurations)}), sorted(tokenizers))
