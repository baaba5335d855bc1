import json

import pytest

from doctor.probes import adapter, model, recipe
from tests.doctor.recipe import standin

AT = "base_model.model.model.layers.{}.self_attn.{}.lora_{}.weight"


def said(tmp_path, names, **config):
    standin.model(tmp_path / "m")
    folder = tmp_path / "saves/adapter"
    folder.mkdir(parents=True)
    written = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "target_modules": ["q_proj"], **config}
    (folder / "adapter_config.json").write_text(json.dumps(written))
    standin.safetensors(folder / "adapter_model.safetensors", {n: [2, 8] if "_A" in n else [8, 2] for n in names})
    made = standin.target(tmp_path, "model_name_or_path: m\nadapter_name_or_path: saves/adapter\n")
    return [e.what for f in standin.examine(made, recipe, model, adapter)[1] for e in f.evidence]


def pair(layer=0, module="q_proj"):
    return [AT.format(layer, module, part) for part in "AB"]


def test_an_adapter_that_fits(tmp_path):
    assert said(tmp_path, pair()) == []


@pytest.mark.parametrize(
    ("names", "config", "word"),
    [
        (pair()[:1], {}, "no lora_B"),
        (pair()[1:], {}, "no lora_A"),
        (pair(), {"peft_type": "IA3"}, "the weights are those of LoRA"),
        (pair(), {"peft_type": "ADALORA"}, "the weights are those of LoRA"),
        (
            pair() + pair(module="k_proj") + pair(module="v_proj"),
            {"target_modules": None},
            "target_modules is not given",
        ),
        (pair(4), {}, "reach to layer 4, the model to layer 0"),
        (pair(), {"target_modules": ["q_proj", "v_proj"]}, "v_proj has no tensors"),
        (pair() + pair(module="v_proj"), {}, "v_proj is no target_modules"),
        (pair(), {"use_dora": True}, "lora_magnitude_vector"),
        (pair(), {"target_modules": "W_.*"}, "which no module of the model matches"),
        (pair(), {"rank_pattern": {"q_proj": 8}}, "the rank 8, the weights have 2"),
        (pair(), {"bias": "lora_onlyy"}, "bias is 'lora_onlyy'"),
        (pair(), {"lora_dropout": float("inf")}, "lora_dropout"),
        (pair(), {"init_lora_weights": "gauss"}, "init_lora_weights"),
        ([name.replace("base_model.model.", "") for name in pair()], {}, "passed over"),
        ([name.replace(".weight", ".default.weight") for name in pair()], {}, "passed over"),
    ],
)
def test_one_that_does_not(tmp_path, names, config, word):
    assert any(word in one for one in said(tmp_path, names, **config))


@pytest.mark.parametrize(("rows", "more", "causes"), [(12, "", 0), (13, "", 1), (13, "resize_vocab: true\n", 0)])
def test_an_adapter_of_another_vocabulary(tmp_path, rows, more, causes):
    standin.model(tmp_path / "m")  # 12 rows
    folder = tmp_path / "saves/adapter"
    folder.mkdir(parents=True)
    written = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps({**written, "modules_to_save": ["embed_tokens"]}))
    tensors = {name: [2, 8] if "_A" in name else [8, 2] for name in pair()}
    tensors["base_model.model.model.embed_tokens.weight"] = [rows, 8]
    standin.safetensors(folder / "adapter_model.safetensors", tensors)
    made = standin.target(tmp_path, f"model_name_or_path: m\nadapter_name_or_path: saves/adapter\n{more}")
    found = [finding.cause for finding in standin.examine(made, recipe, model, adapter)[1]]
    assert found == ["tok-vocab-mismatch"] * causes
