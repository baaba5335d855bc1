import pytest

from doctor.recipe import known_models, model_size


# Totals: half of `total_size` (bytes of bfloat16) of each repository's weight index on huggingface.co.
@pytest.mark.parametrize(
    ("repository", "parameters"),
    [
        ("Qwen/Qwen2.5-0.5B", 494_032_768),
        ("Qwen/Qwen2.5-1.5B-Instruct", 1_543_714_304),
        ("Qwen/Qwen2.5-3B", 3_085_938_688),
        ("Qwen/Qwen2.5-7B-Instruct", 7_615_616_512),
        ("Qwen/Qwen2.5-14B", 14_770_033_664),
        ("Qwen/Qwen2.5-32B-Instruct", 32_763_876_352),
        ("NovaSky-AI/Sky-T1-32B-Preview", 32_763_876_352),
        ("Qwen/Qwen2.5-72B-Instruct", 72_706_203_648),
        ("meta-llama/Meta-Llama-3-8B-Instruct", 8_030_261_248),
        ("meta-llama/Llama-3.2-1B", 1_235_814_400),
        ("Qwen/Qwen3-8B", 8_190_735_360),
        ("Qwen/Qwen3-32B", 32_762_123_264),
    ],
)
def test_published_totals(repository, parameters):
    assert model_size.parameters(known_models.config(repository)) == parameters


def test_experts_are_counted():
    # Mixtral-8x7B: 46.70e9 parameters
    config = {"model_type": "mixtral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
              "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32000, "num_local_experts": 8}  # fmt: skip
    assert model_size.parameters(config) == 46_702_792_704


def test_what_is_not_known_is_none():
    assert known_models.config("someone/else-7B") is None
    assert model_size.parameters({"model_type": "mamba"}) is None
    assert model_size.parameters({"model_type": "llama", "hidden_size": "x"}) is None
