"""What an estimate consists of, and settings that no run was measured with."""

import pytest

from doctor.estimate import World, estimate, vision
from doctor.estimate.shape import from_config, from_parameters
from doctor.recipe import known_models

GIB = 1 << 30
H100 = int(79.18 * GIB)
QWEN_32B = known_models.config("Qwen/Qwen2.5-32B-Instruct")
BASE = {"finetuning_type": "full", "bf16": True, "per_device_train_batch_size": 1, "cutoff_len": 4096}
ZERO3 = {"zero_optimization": {"stage": 3, "stage3_gather_16bit_weights_on_model_save": True}}
OFFLOAD = {
    "zero_optimization": {
        **ZERO3["zero_optimization"], "offload_optimizer": {"device": "cpu"}, "offload_param": {"device": "cpu"},
    }
}  # fmt: skip
NVME = {
    "zero_optimization": {
        "stage": 3, "offload_optimizer": {"device": "nvme", "nvme_path": "/n"}, "offload_param": {"device": "nvme"},
    }
}  # fmt: skip
# from the models' own config.json
DEEPSEEK_V2_LITE = {
    "model_type": "deepseek_v2", "hidden_size": 2048, "intermediate_size": 10944, "num_hidden_layers": 27,
    "num_attention_heads": 16, "num_key_value_heads": 16, "vocab_size": 102400, "n_routed_experts": 64,
    "n_shared_experts": 2, "num_experts_per_tok": 6, "moe_intermediate_size": 1408, "kv_lora_rank": 512,
    "q_lora_rank": None, "first_k_dense_replace": 1, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
}  # fmt: skip
QWEN_VL_7B = {
    "model_type": "qwen2_5_vl", "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
    "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064, "tie_word_embeddings": False,
    "vision_config": {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16,
                      "out_hidden_size": 3584, "patch_size": 14, "spatial_merge_size": 2},
}  # fmt: skip


@pytest.mark.parametrize(
    ("more", "deepspeed"),
    [({}, ZERO3), ({}, OFFLOAD), ({}, NVME), ({}, None), ({"finetuning_type": "lora"}, None),
     ({"finetuning_type": "lora", "quantization_bit": 4}, None), ({"fsdp": "full_shard auto_wrap"}, None),
     ({"disable_gradient_checkpointing": True, "cutoff_len": 512}, ZERO3), ({"use_unsloth": True}, None)],
)  # fmt: skip
def test_parts_add_up(more, deepspeed):
    found = estimate(BASE | more, QWEN_32B, deepspeed, World(8, 1, H100, int(1.7e12)), records=100)
    assert sum(found.parts.values()) == found.gpu_bytes_per_rank
    assert sum(found.host_parts.values()) == found.host_bytes_per_node
    assert all(size >= 0 for size in (*found.parts.values(), *found.host_parts.values()))


def test_states_under_zero3_are_what_the_formula_says():
    parts = estimate(BASE, QWEN_32B, ZERO3, World(8, 1)).parts
    assert parts["weights"] == pytest.approx(2 * 32.76e9 / 8, rel=0.01)
    assert parts["optimizer"] == pytest.approx(12 * 32.76e9 / 8, rel=0.01)
    assert parts["gradients"] == pytest.approx(2 * 32.76e9 / 8, rel=0.01)


def test_activations_are_told_by_layer_type_and_checkpointing_keeps_inputs_only():
    plain = estimate(BASE | {"disable_gradient_checkpointing": True}, QWEN_32B, ZERO3, World(64, 1)).parts
    kept = estimate(BASE | {"cutoff_len": 16384}, QWEN_32B, ZERO3, World(64, 1)).parts
    assert plain["feed_forward"] > plain["norms"] > plain["attention"] > 0  # norms save 32-bit copies
    assert kept["layer_inputs"] == pytest.approx(2 * 16384 * 5120 * 64, rel=0.01)
    assert kept.get("feed_forward", 0) < plain["feed_forward"] / 10


def test_saving_gathers_the_weights_on_one_rank_and_copies_them_on_each_below_stage_3():
    gathered = estimate(BASE, QWEN_32B, ZERO3, World(8, 1))
    copied = estimate(BASE, QWEN_32B, {"zero_optimization": {"stage": 2}}, World(8, 1))
    assert gathered.host_bytes_saving == pytest.approx(2 * 32.76e9, rel=0.01)
    assert copied.host_bytes_saving == pytest.approx(8 * 2 * 32.76e9, rel=0.01)
    assert estimate(BASE | {"finetuning_type": "lora"}, QWEN_32B, ZERO3, World(8, 1)).host_bytes_saving == 0


def test_nvme_keeps_states_on_the_disk_and_only_buffers_in_memory():
    found = estimate(BASE, QWEN_32B, NVME, World(8, 1, H100, int(1.7e12)))
    assert found.swap_bytes == pytest.approx(14 * 32.76e9, rel=0.01)
    assert found.host_bytes_per_node < estimate(BASE, QWEN_32B, OFFLOAD, World(8, 1)).host_bytes_per_node
    assert estimate(BASE, QWEN_32B, OFFLOAD, World(8, 1)).swap_bytes == 0


def test_fsdp_splits_32_bit_states_and_offload_moves_them():
    whole = BASE | {"fsdp": "full_shard auto_wrap"}
    found = estimate(whole, QWEN_32B, None, World(8, 1))
    assert found.parts["weights"] == pytest.approx(4 * 32.76e9 / 8, rel=0.01)
    assert found.parts["optimizer"] == pytest.approx(8 * 32.76e9 / 8, rel=0.01)
    moved = estimate(BASE | {"fsdp": ["full_shard", "auto_wrap", "offload"]}, QWEN_32B, None, World(8, 1))
    assert "optimizer" not in moved.parts
    assert moved.host_parts["states"] == pytest.approx(16 * 32.76e9, rel=0.01)
    assert estimate(whole, QWEN_32B, ZERO3, World(8, 1)).parts == estimate(BASE, QWEN_32B, ZERO3, World(8, 1)).parts


def test_what_was_not_measured_gets_a_verdict_only_far_from_the_limit():
    whole = BASE | {"fsdp": "full_shard auto_wrap"}
    needed = estimate(whole, QWEN_32B, None, World(8, 1)).gpu_bytes_per_rank
    for share, verdict in ((1.5, "fits"), (1.05, "cannot tell"), (0.95, "cannot tell"), (0.5, "does not fit")):
        assert estimate(whole, QWEN_32B, None, World(8, 1, int(needed * share))).verdict == verdict


def test_sequence_parallel_ranks_share_a_sample():
    one = estimate(BASE | {"cutoff_len": 16384}, QWEN_32B, OFFLOAD, World(8, 1), records=8000)
    eight = BASE | {"cutoff_len": 131072, "sequence_parallel_size": 8}
    found = estimate(eight, QWEN_32B, OFFLOAD, World(8, 1, int(60 * GIB), int(1e12)), records=8000)
    assert found.gpu_bytes_per_rank == pytest.approx(one.gpu_bytes_per_rank, rel=0.01)
    assert found.steps == 8 * one.steps
    shorter = next((c.set["cutoff_len"] for c in found.changes if "cutoff_len" in c.set), None)
    assert shorter in (None, 65536)


def test_unsloth_keeps_inputs_on_the_host_and_no_logits():
    plain = BASE | {"finetuning_type": "lora", "cutoff_len": 16384}
    found = estimate(plain | {"use_unsloth": True}, QWEN_32B, None, World())
    assert found.parts.get("layer_inputs", 0) < 2 * 2 * 16384 * 5120
    assert found.host_parts["buffers"] == pytest.approx(2 * 16384 * 5120 * 64, rel=0.01)
    assert found.parts.get("logits_and_loss", 0) < 1e9


def test_freeze_tuning_of_the_first_layers_needs_activations_of_all():
    last = estimate(BASE | {"finetuning_type": "freeze", "freeze_trainable_layers": 4}, QWEN_32B, None, World())
    first = estimate(BASE | {"finetuning_type": "freeze", "freeze_trainable_layers": -4}, QWEN_32B, None, World())
    assert first.parts["layer_inputs"] > 10 * last.parts.get("layer_inputs", 0)
    assert first.parts["optimizer"] == last.parts["optimizer"]


def test_a_checkpoint_of_freeze_tuning_holds_the_whole_model():
    found = estimate(BASE | {"finetuning_type": "freeze"}, QWEN_32B, None, World())
    assert 2 * 32.76e9 < found.checkpoint_bytes < 4 * 32.76e9


def test_latent_attention_and_routed_experts_are_counted():
    shape = from_config(DEEPSEEK_V2_LITE)
    assert shape.parameters == pytest.approx(15.7e9, rel=0.005)  # published
    assert (shape.experts, shape.chosen, shape.shared) == (64, 6, 2816)


def test_a_vision_tower_is_held_and_not_trained():
    assert vision.parameters(QWEN_VL_7B, 3584) == pytest.approx(0.676e9, rel=0.01)  # of 8.29e9 published
    text = {name: value for name, value in QWEN_VL_7B.items() if name != "vision_config"}
    seeing = estimate(BASE, QWEN_VL_7B, ZERO3, World(8, 1)).parts
    blind = estimate(BASE, text | {"model_type": "qwen2"}, ZERO3, World(8, 1)).parts
    assert seeing["weights"] - blind["weights"] == pytest.approx(2 * 0.676e9 / 8, rel=0.02)
    assert seeing["optimizer"] == blind["optimizer"]


@pytest.mark.parametrize("size", [0.5e9, 1.5e9, 3e9, 7e9, 14e9, 32e9, 72e9, 235e9, 405e9])
def test_a_size_alone_makes_a_shape_of_that_size(size):
    shape = from_parameters(size)
    assert shape.layers * shape.layer + shape.embedding * (1 if shape.tied else 2) == pytest.approx(size, rel=0.12)


@pytest.mark.parametrize("odd", [float("inf"), float("nan"), -4, 10**400, "many", None, True, [1], {"a": 1}])
@pytest.mark.parametrize(
    "key",
    ["cutoff_len", "sequence_parallel_size", "freeze_trainable_layers", "per_device_train_batch_size", "fsdp",
     "gradient_accumulation_steps", "lora_rank", "quantization_bit", "save_steps", "save_total_limit",
     "num_train_epochs", "max_samples", "max_steps"],
)  # fmt: skip
def test_odd_values_are_no_crash(key, odd):
    found = estimate(
        {"bf16": True, "finetuning_type": "freeze", key: odd}, 1e9, None, World(2, 1, H100, int(1e11)), 100
    )
    assert found.verdict in ("fits", "cannot tell")
