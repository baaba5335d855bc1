import pytest

from doctor.recipe import model_values
from tests.doctor.recipe import standin

NEW = "5.6.0"


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"hidden_size": "8"}, "hidden_size is '8'"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"model_type": "deepseek_v2", "topk_method": "noaux_tc"}, "topk_method is 'noaux_tc'"),
        ({"model_type": "deepseek_v2", "n_routed_experts": 0}, "n_routed_experts is 0"),
        ({"hidden_act": "SiLU"}, "hidden_act is SiLU"),
        ({"rms_norm_eps": "1e-6"}, "rms_norm_eps is '1e-6'"),
        ({"attention_dropout": 1.5}, "from 0 to 1"),
        ({"rope_scaling": "yarn"}, "a mapping is needed"),
        ({"rope_scaling": {"type": "yarnn", "factor": 2.0}}, "of type yarnn"),
        ({"rope_scaling": {"rope_type": "yarn"}}, "lacks factor"),
        ({"torch_dtype": 16}, "torch_dtype is 16"),
        ({"torch_dtype": "auto"}, "no dtype of torch"),
        ({"pad_token_id": 12}, "pad_token_id is 12"),
        ({"layer_types": ["full_attention"] * 2}, "layer_types names 2 layers"),
        ({"router_aux_loss_coef": "x"}, "router_aux_loss_coef is 'x'"),
        ({"mlp_only_layers": 5}, "mlp_only_layers is '5'"),
        ({"model_type": "qwen2_moe", "decoder_sparse_step": 0}, "it is divided by"),
        ({"model_type": "gpt2", "n_embd": 64, "n_head": 5}, "does not divide n_embd: 64"),
        ({"model_type": "gpt2", "activation_function": "foo"}, "activation_function is foo"),
        ({"model_type": "gpt2", "resid_pdrop": 1.5}, "resid_pdrop is 1.5"),
    ],
)
def test_values_that_no_model_is_made_from(changed, says):
    (fault,) = model_values.faults({**standin.QWEN2, **changed}, NEW)
    assert says in fault


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"num_key_value_heads": None, "head_dim": None, "max_position_embeddings": None},
        {"rope_scaling": None},
        {"rope_scaling": {"rope_type": "default"}},
        {"decoder_sparse_step": 0, "activation_function": "own", "n_embd": 64, "n_head": 5},
        {"rope_scaling": {"type": "yarn", "factor": 4.0}},
        {"hidden_act": "gelu_pytorch_tanh", "torch_dtype": "bfloat16"},
        {"hidden_size": "own", "auto_map": {"AutoConfig": "c.C"}},
        {"intermediate_size": [16, 32]},
    ],
)
def test_values_that_are_right(changed):
    assert not list(model_values.faults({**standin.QWEN2, **changed}, NEW))


def test_older_releases_look_at_less():
    config = {**standin.QWEN2, "layer_types": [], "rope_scaling": {"rope_type": "llama3"}}
    assert not list(model_values.faults(config, "4.42.0"))


def test_generation():
    assert list(model_values.generation_faults([])) == [model_values.NO_OBJECT]
    assert list(model_values.generation_faults({"eos_token_id": "2"})) == ["eos_token_id is '2'; a token id is needed"]
    assert not list(model_values.generation_faults({"eos_token_id": [1, 2], "pad_token_id": None}))
