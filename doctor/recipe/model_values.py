"""Values of config.json and generation_config.json that transformers takes into its classes and fails on later."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from packaging.version import InvalidVersion, Version

from doctor.recipe.expected_tensors import FAMILIES

NO_OBJECT = "it holds no JSON object"
_COUNTS = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
_COUNTS_OR_NONE = ("num_key_value_heads", "head_dim", "max_position_embeddings")
_NUMBERS = ("rms_norm_eps", "layer_norm_eps", "rope_theta", "initializer_range", "attention_dropout",
            "final_logit_softcapping", "attn_logit_softcapping", "query_pre_attn_scalar", "logits_scaling",
            "embedding_multiplier", "residual_multiplier", "attention_multiplier")  # fmt: skip
# Names of older families, all of which GPT-2's class takes.
_DROPOUTS = ("attention_dropout", "attn_pdrop", "resid_pdrop", "embd_pdrop", "hidden_dropout", "hidden_dropout_prob",
             "attention_probs_dropout_prob", "emb_pdrop", "activation_dropout", "residual_dropout")  # fmt: skip
# Keys that a family divides by, or raises to a negative power.
_DIVISORS = {
    "decoder_sparse_step": ("qwen2_moe", "qwen3_moe"),
    "query_pre_attn_scalar": ("gemma2", "gemma3", "gemma3_text"),
}
# Families whose class asserts that the heads share the width out: name of the width, of the heads.
_SHARED = {kind: ("n_embd", "n_head") for kind in ("gpt2", "gptj", "codegen", "gpt_bigcode")} | {
    "gpt_neox": ("hidden_size", "num_attention_heads"), "falcon": ("hidden_size", "num_attention_heads"),
    "bloom": ("hidden_size", "n_head"), "opt": ("hidden_size", "num_attention_heads"),
    "gpt_neo": ("hidden_size", "num_heads"),
}  # fmt: skip
_NEVER_NULL = ("rms_norm_eps", "rope_theta", "attention_dropout", "hidden_act")
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
_TOPK = ("greedy", "group_limited_greedy")  # models/deepseek_v2/modeling_deepseek_v2.py
_ROUTED = ("deepseek_v2", "deepseek_v3", "mixtral", "qwen2_moe", "qwen3_moe")  # which are made of experts
_STRICT_SINCE = "5.0.0.dev0"
_LAYER_TYPES_SINCE = "4.53"
_ROPE_SINCE = "4.43"  # older releases know linear and dynamic, and say less


def faults(config: Mapping[str, Any], transformers: str) -> Iterator[str]:
    """Each in words. A model that brings its own code is left to it."""
    if config.get("auto_map"):
        return
    text = config["text_config"] if isinstance(config.get("text_config"), Mapping) else config
    yield from _counts(text, at_least(transformers, _STRICT_SINCE))
    for name in ("hidden_act", *(("activation_function",) if str(text.get("model_type")) in _SHARED else ())):
        activation = text.get(name)
        if activation is not None and (not isinstance(activation, str) or activation not in _ACTIVATIONS):
            yield f"{name} is {activation}, which transformers does not have"
    yield from _divided(text)
    yield from _nulls(text)
    if at_least(transformers, _ROPE_SINCE):
        yield from _rope(text)
    yield from _dtype(config, at_least(transformers, _STRICT_SINCE))
    yield from _labels(config)
    yield from _experts(text)
    layers, kinds = text.get("num_hidden_layers"), text.get("layer_types")
    if (
        isinstance(kinds, list)
        and isinstance(layers, int)
        and len(kinds) != layers
        and at_least(transformers, _LAYER_TYPES_SINCE)
    ):
        yield f"layer_types names {len(kinds)} layers, num_hidden_layers is {layers}"
    sliding = isinstance(kinds, list) and "sliding_attention" in kinds and at_least(transformers, _LAYER_TYPES_SINCE)
    if sliding and (text.get("sliding_window") is None or text.get("use_sliding_window") is False):
        yield "layer_types has sliding_attention, and sliding_window is not set"
    pad, rows = text.get("pad_token_id", config.get("pad_token_id")), text.get("vocab_size")
    if pad is not None and (not isinstance(pad, int) or pad < 0):
        yield f"pad_token_id is {pad!r}; a token id is needed"
    elif isinstance(pad, int) and isinstance(rows, int) and pad >= rows:
        yield f"pad_token_id is {pad}, the vocabulary has {rows} entries"


def at_least(installed: str, release: str) -> bool:
    try:
        return Version(installed) >= Version(release)
    except InvalidVersion:
        return False


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _counts(text: Mapping[str, Any], strict: bool) -> Iterator[str]:
    for name in (*_COUNTS, *_COUNTS_OR_NONE):
        given = text.get(name, 1)
        left_open = given is None and name in _COUNTS_OR_NONE
        if isinstance(given, str) and name == "max_position_embeddings" and not strict:
            continue  # nothing calculates with it unless the rope is scaled
        if not (
            _whole(given) or left_open or isinstance(given, (list, Mapping))
        ):  # of some families one for each layer
            yield f"{name} is {given!r}; a whole number above 0 is needed"
    for name in _NUMBERS:
        given = text.get(name)
        listed = isinstance(given, (list, Mapping)) and text.get("model_type") in FAMILIES
        if isinstance(given, (str, bool)) or listed:
            yield f"{name} is {str(given)[:40]!r}; a number is needed"
    for name in _DROPOUTS:
        dropout = text.get(name)
        if isinstance(dropout, (int, float)) and not 0 <= dropout <= 1:
            yield f"{name} is {dropout}; it must be from 0 to 1"


def _divided(text: Mapping[str, Any]) -> Iterator[str]:
    kind = str(text.get("model_type"))
    for name, families in _DIVISORS.items():
        if kind in families and text.get(name) == 0 and name in text:
            yield f"{name} is 0; it is divided by"
    width, heads = (text.get(name) for name in _SHARED.get(kind, ("", "")))
    if _whole(width) and _whole(heads) and int(width) % int(heads):  # type: ignore[arg-type]
        names = _SHARED[kind]
        yield f"{names[1]} is {heads}, which does not divide {names[0]}: {width}"


def _nulls(text: Mapping[str, Any]) -> Iterator[str]:
    """A null takes the place of the default that a key which is left out has."""
    if text.get("model_type") not in FAMILIES:
        return
    given = text.get("rope_parameters") or text.get("rope_scaling")
    elsewhere = ("rope_theta",) if isinstance(given, Mapping) and given.get("rope_theta") is not None else ()
    for name in _NEVER_NULL:
        if name in text and text[name] is None and name not in elsewhere:
            yield f"{name} is null; {'a name' if name == 'hidden_act' else 'a number'} is needed"


def _rope(text: Mapping[str, Any]) -> Iterator[str]:
    for key in ("rope_scaling", "rope_parameters"):
        given = text.get(key)
        if given is None:
            continue
        if not isinstance(given, Mapping):
            yield f"{key} is {given!r}; a mapping is needed"
        elif not any(
            isinstance(value, Mapping) for value in given.values()
        ):  # of some families one for each kind of layer
            yield from _rope_of(key, given, text)


def _rope_of(key: str, given: Mapping[str, Any], text: Mapping[str, Any]) -> Iterator[str]:
    kind, family = given.get("rope_type", given.get("type")), str(text.get("model_type"))
    if kind is None and key == "rope_scaling":
        yield f"{key} names no rope_type"
    if not isinstance(kind, str):
        return
    own = {"su": ("phi3",), "mrope": ("vl", "omni", "glm4v", "paddle", "ernie")}.get(kind)
    if kind not in _ROPE:
        yield f"{key} is of type {kind}; known are {', '.join(_ROPE)}"
    elif own and not any(part in family for part in own):
        yield f"{key} is of type {kind}, which a {family} does not have"
    lacking = [name for name in _ROPE.get(kind, ()) if name not in given]
    if lacking:
        yield f"{key} of type {kind} lacks {', '.join(lacking)}"
    for name in ("factor", "low_freq_factor", "high_freq_factor", "attention_factor", "rope_theta"):
        value = given.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            yield f"{name} of {key} is {value!r}; a number is needed"
    if kind == "longrope":
        yield from _factors(key, given, text)


def _factors(key: str, given: Mapping[str, Any], text: Mapping[str, Any]) -> Iterator[str]:
    """One factor for each pair of the values of a head."""
    hidden, heads, width = text.get("hidden_size"), text.get("num_attention_heads"), text.get("head_dim")
    if not isinstance(width, int) and _whole(hidden) and _whole(heads):
        width = int(hidden) // int(heads)  # type: ignore[arg-type]
    share = text.get("partial_rotary_factor", 1.0)
    if not isinstance(width, int) or not isinstance(share, (int, float)) or not 0 < share <= 1 or width > 1 << 20:
        return
    for name in ("short_factor", "long_factor"):
        listed = given.get(name)
        if isinstance(listed, list) and len(listed) not in (1, int(width * share) // 2):  # one is for all
            yield f"{name} of {key} has {len(listed)} numbers, a head of {width} needs {int(width * share) // 2}"


def _labels(config: Mapping[str, Any]) -> Iterator[str]:
    """Of PretrainedConfig, which every model type has."""
    if config.get("id2label") is not None and not isinstance(config["id2label"], Mapping):
        yield f"id2label is {str(config['id2label'])[:40]}; a mapping is needed"
    if "num_labels" in config and not isinstance(config["num_labels"], (int, type(None))):
        yield f"num_labels is {config['num_labels']!r}; a whole number is needed"
    kinds = ("regression", "single_label_classification", "multi_label_classification")
    if config.get("problem_type") is not None and config["problem_type"] not in kinds:
        yield f"problem_type is {config['problem_type']!r}; it may be {', '.join(kinds)}"
    quantised = config.get("quantization_config")
    if quantised is not None and not isinstance(quantised, Mapping):
        yield f"quantization_config is {str(quantised)[:40]}; a mapping is needed"
    window = config.get("sliding_window")
    if isinstance(window, str):
        yield f"sliding_window is {window!r}; a whole number is needed"
    pruned = config.get("pruned_heads")
    if isinstance(pruned, Mapping) and any(not str(layer).isdecimal() for layer in pruned):
        yield "pruned_heads names a layer that is no number"


def _experts(text: Mapping[str, Any]) -> Iterator[str]:
    chosen = text.get("num_experts_per_tok")
    share = text.get("router_aux_loss_coef")
    if isinstance(share, (str, list, Mapping)):
        yield f"router_aux_loss_coef is {str(share)[:40]!r}; a number is needed"
    dense = text.get("mlp_only_layers")
    if dense is not None and not isinstance(dense, list):
        yield f"mlp_only_layers is {str(dense)[:40]!r}; a list of layers is needed"
    way = text.get("topk_method")
    if text.get("model_type") == "deepseek_v2" and way is not None and way not in _TOPK:
        yield f"topk_method is {str(way)[:40]!r}; it may be {', '.join(_TOPK)}"
    for name in ("num_local_experts", "num_experts", "n_routed_experts"):
        there = text.get(name)
        if there == 0 and not isinstance(there, bool) and text.get("model_type") in _ROUTED:
            yield f"{name} is 0; a whole number above 0 is needed"
        if _whole(there) and isinstance(chosen, int) and chosen > int(there):  # type: ignore[arg-type]
            yield f"num_experts_per_tok is {chosen}, {name} is {there}"


def _dtype(config: Mapping[str, Any], strict: bool) -> Iterator[str]:
    """A name of torch that no weights can have is taken as long as LLaMA-Factory names the dtype by itself."""
    odd = ("int", "uint", "bool", "float8", "float4")
    for name in ("torch_dtype", "dtype"):
        given = config.get(name)
        if given is not None and not isinstance(given, (str, Mapping)):
            yield f"{name} is {given!r}; the name of a dtype is needed"
        elif given == "auto":
            yield f'{name} is "auto", which is no dtype of torch'
        elif isinstance(given, str) and given.startswith("torch."):
            yield f'{name} is "{given}"; the name stands there without torch.'
        elif strict and isinstance(given, str) and given.startswith(odd):
            yield f'{name} is "{given}"; a model is made in floating-point numbers of 16 bits or more'


_CACHES = ("static", "offloaded_static", "sliding_window", "hybrid", "hybrid_chunked", "offloaded_hybrid",
           "offloaded_hybrid_chunked", "mamba", "dynamic", "dynamic_full", "offloaded", "quantized")  # fmt: skip


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


def generation_refused(generation: Any) -> Iterator[str]:
    """What GenerationConfig.validate ends a run for: where the model is loaded, or where it is saved, which is strict."""
    if not isinstance(generation, Mapping):
        return
    get = generation.get
    most, early, cache = get("max_new_tokens"), get("early_stopping"), get("cache_implementation")
    if most is not None and not isinstance(most, (int, float)):
        yield f"max_new_tokens is {str(most)[:40]!r}; a whole number is needed"
    elif isinstance(most, int) and most <= 0:
        yield f"max_new_tokens is {most}; it must be above 0"
    if early is not None and not isinstance(early, bool) and early != "never":
        yield f"early_stopping is {early!r}; it may be true, false or never"
    if cache is not None and cache not in _CACHES:
        yield f"cache_implementation is {cache!r}; it may be {', '.join(_CACHES[:5])} …"
    pad = get("pad_token_id")
    if isinstance(pad, int) and pad < 0:
        yield f"pad_token_id is {pad}; a token id is needed"
    beams, several = get("num_beams", 1), get("num_return_sequences", 1)
    if beams in (1, None):
        if isinstance(several, int) and several > 1 and not get("do_sample"):
            yield f"num_return_sequences is {several} without do_sample and without beams"
        penalty = get("length_penalty")
        if penalty is not None and penalty != 1.0:
            yield f"length_penalty is {penalty!r}, which counts with beams alone"
        if early not in (None, False):
            yield f"early_stopping is {early!r}, which counts with beams alone"
    elif isinstance(beams, int) and isinstance(several, int) and several > beams > 1:
        yield f"num_return_sequences is {several}, num_beams is {beams}"
    shown = [
        name for name in ("output_scores", "output_attentions", "output_hidden_states", "output_logits") if get(name)
    ]
    if isinstance(get("compile_config"), Mapping):
        yield "compile_config is an object, of which no CompileConfig is made"
    if shown and get("return_dict_in_generate") is False:
        yield f"{shown[0]} without return_dict_in_generate"
