"""Values of config.json and generation_config.json that transformers takes into its classes and fails on later."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from packaging.version import InvalidVersion, Version

NO_OBJECT = "it holds no JSON object"
_COUNTS = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
_COUNTS_OR_NONE = ("num_key_value_heads", "head_dim", "max_position_embeddings")
_NUMBERS = ("rms_norm_eps", "layer_norm_eps", "rope_theta", "initializer_range", "attention_dropout")
# ACT2CLS of transformers/activations.py, all releases together
_ACTIVATIONS = ("gelu", "gelu_10", "gelu_accurate", "gelu_fast", "gelu_new", "gelu_python", "gelu_python_tanh",
                "gelu_pytorch_tanh", "laplace", "leaky_relu", "linear", "mish", "prelu", "quick_gelu", "relu", "relu2",
                "relu6", "relu_squared", "sigmoid", "silu", "swish", "tanh", "xielu")  # fmt: skip
# rope type -> the parameters that it cannot do without (modeling_rope_utils.py); mrope and su are of single models.
_ROPE: dict[str, tuple[str, ...]] = {
    "default": (), "mrope": (), "su": (), "proportional": (), "longrope": ("short_factor", "long_factor"),
    "linear": ("factor",), "dynamic": ("factor",), "yarn": ("factor",),
    "llama3": ("factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor"),
}  # fmt: skip
_LAYER_TYPES_SINCE = "4.53"
_ROPE_SINCE = "4.43"  # older releases know linear and dynamic, and say less


def faults(config: Mapping[str, Any], transformers: str) -> Iterator[str]:
    """Each in words. A model that brings its own code is left to it."""
    if config.get("auto_map"):
        return
    text = config["text_config"] if isinstance(config.get("text_config"), Mapping) else config
    yield from _counts(text)
    activation = text.get("hidden_act")
    if isinstance(activation, str) and activation not in _ACTIVATIONS:
        yield f"hidden_act is {activation}, which transformers does not have"
    if at_least(transformers, _ROPE_SINCE):
        yield from _rope(text)
    yield from _dtype(config)
    layers, kinds = text.get("num_hidden_layers"), text.get("layer_types")
    if (
        isinstance(kinds, list)
        and isinstance(layers, int)
        and len(kinds) != layers
        and at_least(transformers, _LAYER_TYPES_SINCE)
    ):
        yield f"layer_types names {len(kinds)} layers, num_hidden_layers is {layers}"
    pad, rows = text.get("pad_token_id", config.get("pad_token_id")), text.get("vocab_size")
    if isinstance(pad, int) and isinstance(rows, int) and pad >= rows:
        yield f"pad_token_id is {pad}, the vocabulary has {rows} entries"


def at_least(installed: str, release: str) -> bool:
    try:
        return Version(installed) >= Version(release)
    except InvalidVersion:
        return False


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _counts(text: Mapping[str, Any]) -> Iterator[str]:
    for name in (*_COUNTS, *_COUNTS_OR_NONE):
        given = text.get(name, 1)
        left_open = given is None and name in _COUNTS_OR_NONE
        if not (
            _whole(given) or left_open or isinstance(given, (list, Mapping))
        ):  # of some families one for each layer
            yield f"{name} is {given!r}; a whole number above 0 is needed"
    for name in _NUMBERS:
        given = text.get(name)
        if isinstance(given, (str, bool)):
            yield f"{name} is {given!r}; a number is needed"
    dropout = text.get("attention_dropout")
    if isinstance(dropout, (int, float)) and not 0 <= dropout <= 1:
        yield f"attention_dropout is {dropout}; it must be from 0 to 1"


def _rope(text: Mapping[str, Any]) -> Iterator[str]:
    given = text.get("rope_scaling")
    if given is None:
        return
    if not isinstance(given, Mapping):
        yield f"rope_scaling is {given!r}; a mapping is needed"
        return
    kind = given.get("rope_type", given.get("type"))
    if isinstance(kind, str) and kind not in _ROPE:
        yield f"rope_scaling is of type {kind}; known are {', '.join(_ROPE)}"
    elif isinstance(kind, str):
        lacking = [name for name in _ROPE[kind] if name not in given]
        if lacking:
            yield f"rope_scaling of type {kind} lacks {', '.join(lacking)}"


def _dtype(config: Mapping[str, Any]) -> Iterator[str]:
    for name in ("torch_dtype", "dtype"):
        given = config.get(name)
        if given is not None and not isinstance(given, (str, Mapping)):
            yield f"{name} is {given!r}; the name of a dtype is needed"
        elif given == "auto":
            yield f'{name} is "auto", which is no dtype of torch'


def generation_faults(generation: Any) -> Iterator[str]:
    """Of a generation_config.json that is JSON; one that is not is passed over by transformers. Ids since its release 5."""
    if not isinstance(generation, Mapping):
        yield NO_OBJECT
        return
    for name in ("eos_token_id", "bos_token_id", "pad_token_id"):
        given = generation.get(name)
        ids = given if isinstance(given, list) else [given]
        if any(one is not None and (not isinstance(one, int) or isinstance(one, bool)) for one in ids):
            yield f"{name} is {given!r}; a token id is needed"
