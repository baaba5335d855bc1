"""The small twin of a configuration: same class, vocabulary and grouping; real configurations of real families."""

import pytest

from doctor.rehearse.shrink import shrink

QWEN_32B = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 5120, "intermediate_size": 27648,
    "num_hidden_layers": 64, "num_attention_heads": 40, "num_key_value_heads": 8, "vocab_size": 152064,
    "max_window_layers": 70, "rope_theta": 1e6, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
}  # fmt: skip
QWEN3_MOE = {
    "architectures": ["Qwen3MoeForCausalLM"], "hidden_size": 2048, "head_dim": 128, "intermediate_size": 6144,
    "moe_intermediate_size": 768, "num_experts": 128, "num_experts_per_tok": 8, "decoder_sparse_step": 1,
    "mlp_only_layers": [], "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4,
    "vocab_size": 151936,
}  # fmt: skip
DEEPSEEK = {
    "architectures": ["DeepseekV3ForCausalLM"], "hidden_size": 7168, "intermediate_size": 18432, "kv_lora_rank": 512,
    "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "n_routed_experts": 256,
    "n_group": 8, "topk_group": 4, "num_experts_per_tok": 8, "n_shared_experts": 1, "moe_intermediate_size": 2048,
    "first_k_dense_replace": 3, "num_hidden_layers": 61, "num_attention_heads": 128, "num_key_value_heads": 128,
    "vocab_size": 129280, "quantization_config": {"quant_method": "fp8"},
}  # fmt: skip
GEMMA3 = {
    "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34, "num_attention_heads": 8,
    "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 262208, "sliding_window": 1024,
    "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 5 + ["sliding_attention"] * 4,
}  # fmt: skip
QWEN_VL = {
    "architectures": ["Qwen2_5_VLForConditionalGeneration"], "hidden_size": 3584, "num_hidden_layers": 28,
    "num_attention_heads": 28, "num_key_value_heads": 4, "intermediate_size": 18944, "vocab_size": 152064,
    "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
}  # fmt: skip


def test_a_32b_model_becomes_small_and_keeps_what_data_and_template_see():
    small = shrink(QWEN_32B).config
    assert small["vocab_size"] == 152064
    assert small["num_hidden_layers"] == 2
    assert small["num_attention_heads"] / small["num_key_value_heads"] == 40 / 8
    assert small["hidden_size"] <= 128
    assert small["hidden_size"] % small["num_attention_heads"] == 0
    assert (small["hidden_size"] // small["num_attention_heads"]) % 2 == 0  # RoPE turns pairs
    for name in ("architectures", "rope_theta", "tie_word_embeddings", "torch_dtype"):
        assert small[name] == QWEN_32B[name]


def test_experts_are_few_and_as_many_are_taken():
    small = shrink(QWEN3_MOE).config
    assert small["num_experts"] == small["num_experts_per_tok"] == 8
    assert small["head_dim"] <= 16
    assert small["moe_intermediate_size"] < 768


def test_groups_of_experts_stay_whole_and_a_dense_layer_stays():
    shrunk = shrink(DEEPSEEK)
    small = shrunk.config
    experts, groups = small["n_routed_experts"], small["n_group"]
    assert experts % groups == 0
    assert experts // groups * small["topk_group"] >= small["num_experts_per_tok"]
    assert small["first_k_dense_replace"] == 1 < small["num_hidden_layers"]
    assert small["num_key_value_heads"] == small["num_attention_heads"]
    assert shrunk.quantized == "fp8"
    assert "quantization_config" not in small


def test_every_kind_of_layer_is_there_once():
    small = shrink(GEMMA3).config
    assert sorted(small["layer_types"]) == ["full_attention", "sliding_attention"]
    assert small["num_hidden_layers"] == 2


def test_lists_of_rope_follow_the_width_of_a_head():
    small = shrink(QWEN_VL).config
    head = small["hidden_size"] // small["num_attention_heads"]
    assert head <= 16
    assert sum(small["rope_scaling"]["mrope_section"]) == head // 2
    factors = {"rope_scaling": {"type": "longrope", "short_factor": [1.0] * 64, "long_factor": [2.0] * 64}}
    small = shrink({**QWEN_32B, **factors}).config
    assert len(small["rope_scaling"]["short_factor"]) == small["hidden_size"] // small["num_attention_heads"] // 2


def test_a_head_that_cannot_be_narrower_stays():
    odd = {**QWEN_32B, "rope_scaling": {"type": "mrope", "mrope_section": [17, 23, 24]}}
    small = shrink(odd).config
    assert small["hidden_size"] // small["num_attention_heads"] == 128


def test_the_language_part_of_a_composite_is_shrunk_and_the_tower_follows_its_width():
    vision = {"depth": 32, "hidden_size": 1280, "num_heads": 16, "out_hidden_size": 3584, "intermediate_size": 3420,
              "fullatt_block_indexes": [7, 15, 23, 31]}  # fmt: skip
    small = shrink({"text_config": QWEN_VL, "vision_config": vision, "vocab_size": 152064}).config
    assert small["text_config"]["num_hidden_layers"] == 2
    assert small["vision_config"]["out_hidden_size"] == small["text_config"]["hidden_size"]
    assert small["vision_config"]["depth"] == 2
    assert small["vision_config"]["fullatt_block_indexes"] == [0]


def test_a_toy_is_not_made_larger():
    toy = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
           "num_key_value_heads": 2, "vocab_size": 512}  # fmt: skip
    small = shrink(toy).config
    assert all(small[name] <= toy[name] for name in toy)


def test_a_configuration_without_layers_is_refused():
    with pytest.raises(ValueError, match="layers"):
        shrink({"model_type": "odd", "vocab_size": 7})
