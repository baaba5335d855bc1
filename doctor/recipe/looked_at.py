"""Whether a run looks at an argument at all. What it does not look at may hold anything: the parser of LLaMA-Factory
compares no choice of a Literal, and a value that is never used ends no run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from doctor.facts import Facts

Values = Mapping[str, Any]


def _set(*keys: str) -> Callable[[Values], bool]:
    return lambda values: any(values.get(key) for key in keys)


def _never(values: Values) -> bool:
    return False


def _evaluates(values: Values) -> bool:
    asked = [str(values.get(key, "no")).lower() for key in ("eval_strategy", "evaluation_strategy")]
    given = any(values.get(key) for key in ("do_eval", "do_predict", "val_size", "eval_dataset", "eval_on_start"))
    return given or any(one not in ("no", "none", "false") for one in asked)


def generates(values: Values) -> bool:
    """Whether answers are made while the run evaluates or predicts."""
    return bool(values.get("predict_with_generate")) and _evaluates(values)


def _beams(values: Values) -> bool:
    beams = values.get("num_beams", 1)
    return generates(values) and not (isinstance(beams, int) and beams <= 1)


def _several(values: Values) -> bool:
    """Whether there are data to be mixed."""
    named = [values.get(key) for key in ("dataset", "eval_dataset")]
    return any(len(one if isinstance(one, list) else str(one or "").split(",")) > 1 for one in named)


# Argument -> whether a training run with these values looks at it: hparams/*.py and where they are used, 0.9.1 and 0.9.5.
_WHEN: dict[str, Callable[[Values], bool]] = {
    **dict.fromkeys(("export_device", "sglang_lora_backend", "infer_dtype", "infer_backend"), _never),
    # The Trainer compares them with single names, and goes on with any other.
    **dict.fromkeys(("half_precision_backend", "fp16_backend", "train_sampling_strategy", "debug"), _never),
    **dict.fromkeys(("quantization_method", "quantization_type", "quantization_device_map"), _set("quantization_bit")),
    **dict.fromkeys(("badam_mode", "badam_switch_mode", "badam_mask_mode"), _set("use_badam")),
    # Of other commands, and of engines that none of them starts while it trains.
    **dict.fromkeys(
        (
            "export_size",
            "export_quantization_bit",
            "export_quantization_maxlen",
            "export_legacy_format",
            "export_quantization_nsamples",
            "vllm_maxlen",
            "vllm_gpu_util",
            "vllm_enforce_eager",
            "vllm_max_lora_rank",
            "sglang_maxlen",
            "sglang_mem_fraction",
            "sglang_tp_size",
        ),
        _never,
    ),
    **dict.fromkeys(
        (
            "kt_maxlen",
            "kt_mode",
            "kt_lora_expert_num",
            "kt_lora_expert_intermediate_size",
            "kt_num_threads",
            "cpu_infer",
            "chunk_size",
            "kt_weight_path",
            "kt_optimize_rule",
        ),
        _set("use_kt"),
    ),
    **dict.fromkeys(("temperature", "top_p", "top_k", "num_beams", "repetition_penalty"), generates),
    "length_penalty": _beams,
    "eval_num_beams": _set("predict_with_generate"),
    **dict.fromkeys(
        ("per_device_eval_batch_size", "eval_accumulation_steps", "eval_delay", "include_for_metrics"), _evaluates
    ),
    "trackio_space_id": lambda values: "trackio" in str(values.get("report_to")),
    "liger_kernel_config": _set("use_liger_kernel"),
    "galore_proj_type": _set("use_galore"),
    **dict.fromkeys(("apollo_proj", "apollo_proj_type", "apollo_scale_type"), _set("use_apollo")),
    "init_special_tokens": _set("new_special_tokens", "new_special_tokens_config", "add_special_tokens", "add_tokens"),
    "pref_loss": lambda values: values.get("stage") == "dpo",
    "reward_model_type": lambda values: values.get("stage") == "ppo",
    "mix_strategy": _several,
    "buffer_size": _set("streaming"),
    # Given to the trackers alone.
    "run_name": lambda values: values.get("report_to") not in (None, "none", [], "None"),
}


# Given to the processor of a model of images, videos or sound, which a model of text does not have.
_OF_MEDIA = ("video_fps", "video_maxlen", "audio_sampling_rate")
_COMPARED = ("image_max_pixels", "image_min_pixels", "video_max_pixels", "video_min_pixels")  # while arguments are read
_OF_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")


def looked_at(facts: Facts, key: str) -> bool:
    values = facts["recipe.values"]
    if key == "rope_scaling" and facts.get("arguments.length_as_fraction"):
        longest, cutoff = (
            (facts.get("model.config") or {}).get("max_position_embeddings"),
            values.get("cutoff_len", 2048),
        )
        return not (type(longest) is int and type(cutoff) is int and cutoff <= longest)
    if key == "pref_loss" and facts.get("arguments.loss_is_sigmoid"):
        return False  # orpo and simpo are all that is asked for, and both are known
    if key == "default_system":  # of older releases the text is only joined to others
        return facts.get("arguments.loader") == "OmegaConf"
    if key in _OF_MEDIA or (key in _COMPARED and isinstance(values.get(key), float)):
        return facts.get("model.local") is not True or _has_processor(facts)
    if key == "moe_aux_loss_coef":
        config = facts.get("model.config")
        return not isinstance(config, Mapping) or any(config.get(name) for name in _OF_EXPERTS)
    if key == "cache_dir":  # nothing of a folder of this machine is put into a cache
        return facts.get("model.local") is not True
    return _WHEN[key](values) if key in _WHEN else True


def _has_processor(facts: Facts) -> bool:
    files = facts.get("model.files") or ()
    return any(name in files for name in ("preprocessor_config.json", "processor_config.json"))
