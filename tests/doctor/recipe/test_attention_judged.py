import pytest

from doctor.facts import Facts
from doctor.recipe import attention_judged
from knowledge_base.schema import Severity


def found(version, config=None, **values):
    facts = Facts(
        {
            "recipe.path": "r.yaml",
            "recipe.lines": {},
            "recipe.values": {"do_train": True, "flash_attn": "fa2", "bf16": True, **values},
            "packages.versions": {"flash-attn": version} if version else {},
            "model.config": config or {},
        }
    )
    return [(finding.cause, finding.severity) for rule in attention_judged.ALL for finding in rule(facts)]


def test_the_package():
    assert found(None) == [("attn-flash-missing", Severity.WARNING)]
    assert found("1.0.9") == [("attn-flash-too-old", Severity.WARNING)]
    assert found("2.7.4.post1") == []
    assert found(None, flash_attn="sdpa") == []


@pytest.mark.parametrize("config", [{}, {"torch_dtype": "float32"}, {"dtype": "float32"}])
def test_a_model_in_float32(config):
    assert found("2.7.4", config, bf16=False) == [("attn-fa2-dtype", None)]
    for key in ("bf16", "fp16", "pure_bf16"):
        assert found("2.7.4", config, **{"bf16": False, key: True}) == []


def test_a_model_in_half_precision():
    assert found("2.7.4", {"torch_dtype": "bfloat16"}, bf16=False) == []
    assert found("2.7.4", {"dtype": "torch.float16"}, bf16=False) == []
