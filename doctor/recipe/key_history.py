"""Recipe keys over releases: which were renamed, and which release brought a key.

Compared from the dataclasses of LLaMA-Factory 0.8.3 to 0.9.5 and of transformers 4.46 and 5.6.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection

# Names for the same thing in different releases, and names from other programs: any of them -> those that may be known.
_SAME = (
    ("eval_strategy", "evaluation_strategy"),
    ("media_dir", "image_dir"),
    ("image_max_pixels", "image_resolution"),
    ("video_max_pixels", "video_resolution"),
    ("add_special_tokens", "new_special_tokens"),
    ("use_kv_cache", "use_cache"),
    ("use_cpu", "no_cuda"),
    ("pref_beta", "dpo_beta"),
    ("pref_loss", "dpo_loss"),
    ("pref_ftx", "dpo_ftx"),
    ("cutoff_len", "max_seq_length", "max_seq_len", "max_length", "model_max_length", "max_source_length"),
    ("per_device_train_batch_size", "per_gpu_train_batch_size", "batch_size", "train_batch_size", "micro_batch_size"),
    ("per_device_eval_batch_size", "per_gpu_eval_batch_size", "eval_batch_size"),
    ("learning_rate", "lr"),
    ("num_train_epochs", "epochs", "num_epochs"),
    ("lora_rank", "lora_r"),
    ("lora_target", "target_modules", "lora_target_modules", "lora_modules"),
    ("finetuning_type", "finetune_type", "finetuning_method"),
    ("gradient_accumulation_steps", "accumulation_steps", "grad_accum_steps"),
    ("flash_attn", "use_flash_attn", "flash_attention"),
    ("val_size", "dev_ratio", "dev_size"),
    ("quantization_bit", "load_in_4bit", "load_in_8bit"),
    ("adapter_name_or_path", "checkpoint_dir", "lora_path", "adapter_path"),
    ("model_name_or_path", "model_path", "model_name", "base_model"),
    ("report_to", "logger", "log_with"),
)
# The old key's value means something else: names, other words, or pixels of a side instead of pixels of the image.
_VALUE_DIFFERS = ("quantization_bit", "flash_attn", "lora_target", "image_max_pixels", "video_max_pixels")

# trust_remote_code is left out: releases before 0.9.2 trust always, so that there the key can simply be removed.
FIRST_RELEASE = {
    key: release
    for release, keys in {
        "0.9.0": "enable_liger_kernel preprocessing_batch_size use_adam_mini use_unsloth_gc video_fps video_maxlen",
        "0.9.1": "include_effective_tokens_per_second om_hub_token vllm_config",
        "0.9.2": "apollo_layerwise apollo_proj apollo_proj_type apollo_rank apollo_scale apollo_scale_front "
        "apollo_scale_type apollo_target apollo_update_interval disable_shuffling freeze_language_model "
        "freeze_multi_modal_projector image_max_pixels image_min_pixels media_dir skip_special_tokens swanlab_api_key "
        "swanlab_logdir swanlab_mode swanlab_project swanlab_run_name swanlab_workspace use_apollo "
        "use_reentrant_gc use_swanlab video_max_pixels video_min_pixels ray_num_workers",
        "0.9.3": "add_special_tokens add_tokens audio_sampling_rate crop_to_patches data_shared_file_system "
        "early_stopping_steps enable_thinking eval_on_each_dataset image_do_pan_and_scan ld_alpha ray_init_kwargs "
        "sglang_config sglang_lora_backend sglang_maxlen sglang_mem_fraction sglang_tp_size swanlab_lark_secret "
        "swanlab_lark_webhook_url use_audio_in_video use_muon",
        "0.9.4": "fp8 fp8_backend fp8_enable_fsdp_float8_all_gather init_special_tokens module_dropout "
        "new_special_tokens_config oft_block_size oft_rank oft_target pref_bco_weight use_dft_loss use_kt use_kv_cache "
        "use_mca use_v1_kernels",
        "0.9.5": "asft_alpha eaft_alpha enable_torch_profiler hyper_parallel_args kt_weight_path kt_expert_checkpoint_path "
        "kt_use_lora_experts master_addr master_port preserve_thinking profiler_active_steps profiler_output_dir "
        "use_asft_loss use_eaft_loss use_hyper_parallel",
    }.items()
    for key in keys.split()
}


def renamed_to(key: str, known: Collection[str]) -> str | None:
    """The installed release's name for what `key` means elsewhere, where the value can be kept; None when there is none."""
    for names in _SAME:
        if key in names and names[0] not in _VALUE_DIFFERS:
            return next((name for name in names if name in known), None)
    return None


def nearest(key: str, known: Collection[str]) -> str | None:
    """The known key most like this one."""
    for names in _SAME:
        if key in names and (found := next((name for name in names if name in known), None)):
            return found
    plain = {name.replace("_", ""): name for name in known}
    wanted = re.sub(r"[^a-z0-9]", "", key.lower())
    if wanted in plain:
        return plain[wanted]
    found_names = difflib.get_close_matches(key.lower(), list(known), n=1, cutoff=0.75)
    return found_names[0] if found_names else None
