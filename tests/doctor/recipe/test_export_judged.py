import pytest

from doctor.facts import Facts
from doctor.recipe import export_judged

MERGE = {"model_name_or_path": "m", "adapter_name_or_path": "a", "export_dir": "out"}
GPTQ = {"quantization_config": {"quant_method": "gptq"}}


def found(values, config=None):
    facts = Facts({"recipe.path": "r.yaml", "recipe.lines": {}, "recipe.values": values, "model.config": config or {}})
    return [finding.cause for rule in export_judged.ALL for finding in rule(facts)]


@pytest.mark.parametrize(
    ("more", "config", "cause"),
    [
        ({"export_quantization_bit": 4}, {}, "quant-export-order"),
        ({"quantization_bit": 4}, {}, "quant-merge-into-quantized"),
        ({}, GPTQ, "quant-merge-into-quantized"),
    ],
)
def test_what_export_refuses(more, config, cause):
    assert found({**MERGE, **more}, config) == [cause]


def test_what_export_takes():
    assert found(MERGE) == []
    assert found({"model_name_or_path": "m", "export_dir": "out", "export_quantization_bit": 4}) == []
    assert found({"model_name_or_path": "m", "export_dir": "out"}, GPTQ) == []


def test_a_training_recipe_is_another_matter():
    assert found({**MERGE, "do_train": True, "quantization_bit": 4}) == []
