import json

import pytest

from doctor.probes import adapter, architecture, arguments, llamafactory, model, recipe
from knowledge_base.schema import Severity
from tests.doctor.recipe import standin

MORE = {"packages.versions": {"transformers": "4.46.1"}}


def examine(tmp_path, lines="", config=None, tokenizer_class="Qwen2Tokenizer", more=None):
    standin.model(tmp_path / "m", {**standin.QWEN2, **(config or {})}, tokenizer_class)
    made = standin.target(tmp_path, f"model_name_or_path: m\ndo_train: true\n{lines}")
    return standin.examine(
        made, recipe, llamafactory, model, adapter, arguments, architecture, more=MORE | (more or {})
    )[1]


def by_cause(found, *prefixes):
    return {f.cause: f.details for f in found if f.cause.startswith(prefixes)}


def test_a_known_model_gives_nothing(tmp_path):
    assert not by_cause(examine(tmp_path), "model", "tok", "pkg", "peft", "quant", "ds")


@pytest.mark.parametrize(
    ("config", "cause", "details"),
    [
        ({"model_type": "qwen3"}, "pkg-transformers-too-old-for-model", {"model_type": "qwen3"}),
        ({"model_type": "new", "transformers_version": "4.60.0"}, "pkg-transformers-too-old-for-model", {}),
        ({"model_type": "llava_qwen"}, "model-arch-unsupported", {"has_auto_map": False}),
        (
            {"model_type": "own", "auto_map": {"AutoConfig": "c.C"}},
            "model-needs-trust-remote-code",
            {"recipe_key_known": True},
        ),
        ({"rope_scaling": {"rope_type": "llama3"}}, "pkg-rope-scaling-too-old", {}),
    ],
)
def test_configurations(tmp_path, config, cause, details):
    more = {"packages.versions": {"transformers": "4.40.0"}} if "rope_scaling" in config else None
    found = by_cause(examine(tmp_path, config=config, more=more), "model", "pkg")
    assert list(found) == [cause]
    assert details.items() <= found[cause].items()


def test_trusted_code_is_no_finding(tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m/c.py").write_text("")
    config = {"model_type": "own", "auto_map": {"AutoConfig": "c.C"}}
    assert not by_cause(examine(tmp_path, "trust_remote_code: true\n", config), "model")


def test_a_tokenizer_saved_by_transformers_5(tmp_path):
    found = by_cause(examine(tmp_path, tokenizer_class="TokenizersBackend"), "tok")
    assert found["tok-saved-by-newer-transformers"]["fitting_class"] == "PreTrainedTokenizerFast"


@pytest.mark.parametrize(("method", "package"), [("gptq", "gptqmodel"), ("awq", "autoawq")])
def test_the_reader_of_a_quantised_model(tmp_path, method, package):
    config = {"quantization_config": {"quant_method": method}}
    (found,) = by_cause(examine(tmp_path, "", config), "quant").values()
    assert found[f"{method}_model"] is True
    there = {"packages.versions": {package: "1.0"}}
    assert not by_cause(examine(tmp_path, "", config, more=there), "quant")


def test_a_quantised_model(tmp_path):
    config = {"quantization_config": {"quant_method": "gptq"}}
    reader = {"packages.versions": {"transformers": "4.46.1", "auto-gptq": "0.7.1"}}
    zero3 = {"deepspeed.config": {"zero_optimization": {"stage": 3}}, **reader}
    assert not by_cause(examine(tmp_path, "", config, more=reader), "quant", "ds")
    full = by_cause(examine(tmp_path, "finetuning_type: full\n", config, more=reader), "quant")
    assert set(full) == {"quant-no-adapter"}
    assert set(by_cause(examine(tmp_path, "", config, more=zero3), "ds")) == {"ds-zero3-quantized"}


@pytest.mark.parametrize(
    ("target", "found"), [("all", False), ("q_proj", False), ("q_proj,x", False), ("W_pack", True), (".*x.*", True)]
)
def test_lora_targets(tmp_path, target, found):
    of_peft = [f for f in examine(tmp_path, f"lora_target: '{target}'\n") if f.cause.startswith("peft")]
    details = by_cause([f for f in of_peft if f.severity is None], "peft")
    assert bool(details) is found
    if found:
        assert details["peft-target-modules-missing"]["attention_modules"] == "k_proj,o_proj,q_proj,v_proj"
    assert (target == "q_proj,x") is any(f.severity is Severity.WARNING for f in of_peft)  # x is passed over


def _adapter(folder, rank=8, config_rank=8):
    folder.mkdir(parents=True)
    config = {"peft_type": "LORA", "r": config_rank, "base_model_name_or_path": "org/toy"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    at = "base_model.model.model.layers.0.self_attn.q_proj"
    standin.safetensors(
        folder / "adapter_model.safetensors", {f"{at}.lora_A.weight": [rank, 8], f"{at}.lora_B.weight": [8, rank]}
    )


def test_adapters(tmp_path):
    _adapter(tmp_path / "good")
    _adapter(tmp_path / "other", rank=16)
    _adapter(tmp_path / "out" / "checkpoint-5")
    _adapter(tmp_path / "empty", rank=0)
    (tmp_path / "m").mkdir()
    cases = {
        "good": {},
        "org/on-the-hub": {},
        "other": {"peft-adapter-mismatch": 16},
        "empty": {"ckpt-zero3-empty-adapter": None},
        "out": {"peft-adapter-path-wrong": None},
        "./nowhere": {"peft-adapter-path-wrong": None},
    }
    for name, expected in cases.items():
        found = by_cause(examine(tmp_path, f"adapter_name_or_path: {name}\n"), "peft", "ckpt")
        assert {cause: details.get("weights_rank") for cause, details in found.items()} == expected
    assert by_cause(examine(tmp_path, "adapter_name_or_path: out\n"), "peft")["peft-adapter-path-wrong"][
        "adapter_found_at"
    ]
    full = by_cause(examine(tmp_path, "adapter_name_or_path: m\n"), "peft")
    assert full["peft-adapter-path-wrong"]["path_is_full_model"]
