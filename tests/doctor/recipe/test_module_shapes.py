import json

import pytest

from doctor.recipe import model_folder, module_shapes
from tests.doctor.recipe import standin

SOURCE = """
class Attention(nn.Module):
    def __init__(self, config, layer):
        self.head_dim = getattr(config, "head_dim", config.hidden_size // config.num_attention_heads)
        self.q_proj = nn.Linear(config.hidden_size, config.num_attention_heads * self.head_dim, bias=config.attention_bias)

class MLP(nn.Module):
    def __init__(self, config, intermediate_size=None):
        self.middle = intermediate_size if intermediate_size is not None else config.intermediate_size
        self.up_proj = nn.Linear(config.hidden_size, self.middle, bias=False)

class Sparse(nn.Module):
    def __init__(self, config):
        self.gate = nn.Linear(config.hidden_size, config.num_experts, bias=False)
        self.experts = nn.ModuleList([MLP(config, intermediate_size=config.moe) for _ in range(config.num_experts)])

KINDS = {"eager": Attention}

class Layer(nn.Module):
    def __init__(self, config, layer):
        self.self_attn = KINDS[config.attention](config, layer)
        if config.num_experts > 0 and layer % 2 == 0:
            self.mlp = Sparse(config)
        else:
            self.mlp = MLP(config)

class Inner(nn.Module):
    def __init__(self, config):
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList([Layer(config, n) for n in range(config.num_hidden_layers)])

class Model(nn.Module):
    def __init__(self, config):
        self.model = Inner(config)
        self.other = Unknown(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
"""
CONFIG = {
    "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16, "moe": 4, "num_experts": 2, "vocab_size": 12,
    "num_hidden_layers": 2, "attention_bias": False,
}  # fmt: skip


def weights():
    found = {"model.embed_tokens.weight": [12, 8], "lm_head.weight": [12, 8]}
    for layer in range(2):
        at = f"model.layers.{layer}"
        found |= {f"{at}.self_attn.q_proj.weight": [8, 8]}
    found |= {"model.layers.0.mlp.gate.weight": [2, 8], "model.layers.1.mlp.up_proj.weight": [16, 8]}
    found |= {f"model.layers.0.mlp.experts.{n}.up_proj.weight": [4, 8] for n in range(2)}
    return found


def words(tmp_path, config, tensors):
    path = tmp_path / "model.safetensors"
    standin.safetensors(path, tensors)
    (tmp_path / "config.json").write_text(json.dumps({}))
    outline = model_folder.inspect(tmp_path).weights.outline
    return list(module_shapes.misfits(module_shapes.made(SOURCE, {**CONFIG, **config}, "Model"), outline, False))


def test_weights_that_fit(tmp_path):
    assert words(tmp_path, {}, weights()) == []


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"intermediate_size": 32, "moe": 32}, "up_proj.weight is [16, 8]"),
        ({"num_experts": 3}, "2 experts in the weights, 3 by config.json"),
        ({"num_hidden_layers": 3}, "2 layers in the weights, 3 by config.json"),
        ({"head_dim": 16}, "q_proj.weight is [8, 8] in the weights, [32, 8] by config.json"),
        ({"attention_bias": True}, "q_proj.bias is not in the weights"),
        ({"hidden_size": "8"}, ""),
        ({"vocab_size": float("nan"), "num_hidden_layers": None, "num_experts": []}, ""),
    ],
)
def test_what_the_configuration_says_otherwise(tmp_path, config, said):
    assert any(said in word for word in words(tmp_path, config, weights())) or not said


def test_weights_without_experts(tmp_path):
    dense = {name: shape for name, shape in weights().items() if "experts" not in name}
    assert any("the weights have none" in word for word in words(tmp_path, {}, dense))


def test_a_module_that_is_always_made(tmp_path):
    lacking = {name: shape for name, shape in weights().items() if "embed" not in name}
    assert "embed_tokens is not in the weights" in words(tmp_path, {}, lacking)


@pytest.mark.parametrize(
    "tied",
    [
        '_tied_weights_keys = ["embed_tokens.weight"]',
        '_tied_weights_keys = ["model.embed_tokens"]',
        '_tied_weights_keys = {"model.embed_tokens.weight": "other.weight"}',
    ],
)
def test_a_module_that_the_class_ties_is_saved_once(tied):
    source = SOURCE.replace("class Model(nn.Module):\n", f"class Model(nn.Module):\n    {tied}\n")
    lacking = {"lm_head.weight": {"shapes": [[12, 8]], "counts": []}}
    said = list(module_shapes.misfits(module_shapes.made(source, CONFIG, "Model"), lacking, False))
    assert not any("embed_tokens" in word for word in said)
    bias = source.replace("embed_tokens.weight", "embed_tokens.bias").replace('model.embed_tokens"', 'x.bias"')
    said = list(module_shapes.misfits(module_shapes.made(bias, CONFIG, "Model"), lacking, False))
    assert "embed_tokens is not in the weights" in said


def test_a_size_that_is_counted_up_is_not_followed():
    plain = "        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)\n"
    counted = plain.replace("config.vocab_size", "rows")
    source = SOURCE.replace(plain, f"        rows = config.vocab_size\n        rows += 1\n{counted}")
    for rows in (12, 13):
        held = {"model.embed_tokens.weight": {"shapes": [[rows, 8]], "counts": []}}
        said = list(module_shapes.misfits(module_shapes.made(source, CONFIG, "Model"), held, False))
        assert not any("embed_tokens.weight is" in word for word in said)
