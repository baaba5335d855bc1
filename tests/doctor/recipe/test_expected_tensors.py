import pytest

from doctor.recipe import expected_tensors
from doctor.recipe.safetensors_header import Tensor
from tests.doctor.recipe import standin


def tensors(config=standin.QWEN2, **changed):
    made = {name: Tensor("F32", shape, (0, 0)) for name, shape in expected_tensors.wanted(config).items()}
    return {name: t for name, t in {**made, **changed}.items() if t is not None}


def test_all_that_is_called_for():
    assert expected_tensors.misfits(standin.QWEN2, tensors()) == ([], [])


@pytest.mark.parametrize("name", ["lm_head.weight", "model.norm.weight", "model.layers.0.self_attn.q_proj.bias"])
def test_a_missing_tensor(name):
    assert expected_tensors.misfits(standin.QWEN2, tensors(**{name: None})) == ([f"{name} is not in the weights"], [])


def test_another_shape():
    turned = {"model.layers.0.mlp.up_proj.weight": Tensor("F32", [8, 16], (0, 0))}
    missing, differing = expected_tensors.misfits(standin.QWEN2, tensors(**turned))
    assert (missing, differing) == (
        [],
        ["model.layers.0.mlp.up_proj.weight is [8, 16] in the weights, [16, 8] by config.json"],
    )


def test_tied_embeddings_need_no_head():
    tied = {**standin.QWEN2, "tie_word_embeddings": True}
    assert expected_tensors.misfits(tied, tensors(**{"lm_head.weight": None})) == ([], [])


def test_a_model_saved_without_its_head_and_prefix():
    tied = {**standin.QWEN2, "tie_word_embeddings": True}
    bare = {name.removeprefix("model."): t for name, t in tensors(**{"lm_head.weight": None}).items()}
    assert expected_tensors.misfits(tied, bare) == ([], [])


def test_biases_that_have_no_place():
    llama = {**standin.QWEN2, "model_type": "llama"}
    missing, _ = expected_tensors.misfits(llama, tensors())
    assert missing == ["model.layers.0.self_attn.q_proj.bias has no place in a llama"]
    assert expected_tensors.misfits({**llama, "attention_bias": True}, tensors()) == ([], [])


def test_what_is_not_judged():
    assert expected_tensors.misfits({**standin.QWEN2, "model_type": "new"}, {"a": Tensor("F32", [1], (0, 0))}) == (
        [],
        [],
    )
    assert expected_tensors.misfits({**standin.QWEN2, "quantization_config": {"bits": 4}}, tensors()) == ([], [])
    assert expected_tensors.misfits(None, {}) == ([], [])


def test_a_size_that_is_not_named():
    lacking = {key: value for key, value in standin.QWEN2.items() if key != "vocab_size"}
    assert "names no vocab_size" in expected_tensors.misfits(lacking, tensors())[1][0]


def test_heads_of_qwen3():
    assert expected_tensors.head_width({**standin.QWEN2, "model_type": "qwen3"}) == 128
    assert expected_tensors.head_width({**standin.QWEN2, "model_type": "qwen3", "head_dim": 4}) == 4


def test_a_number_of_layers_that_no_memory_holds_is_not_counted_up():
    missing, _ = expected_tensors.misfits({**standin.QWEN2, "num_hidden_layers": 10**9}, tensors())
    assert missing[0] == "model.layers.1.input_layernorm.weight is not in the weights"
    assert len(missing) <= expected_tensors.MOST + 1


@pytest.mark.parametrize("odd", [float("inf"), float("nan"), "many", [], {}])
@pytest.mark.parametrize("key", ["num_hidden_layers", "hidden_size", "head_dim", "num_attention_heads"])
def test_odd_values_raise_nothing(key, odd):
    expected_tensors.misfits({**standin.QWEN2, key: odd}, tensors())
