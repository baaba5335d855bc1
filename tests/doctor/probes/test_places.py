"""Lines of the keys of the JSON files beside a recipe; a file that cannot be read has none and stops nothing."""

import json

import pytest

from doctor.facts import Facts
from doctor.probes import places
from tests.doctor.rehearse.standin import build


@pytest.fixture
def target(tmp_path):
    return build(tmp_path)


def collected(target, **known):
    facts = Facts({"recipe.values": {}, "deepspeed.config_path": None, "model.path": None, **known})
    return places.collect(target, facts)["places.lines"]


def test_settings_model_and_adapters(target):
    (target.workdir / "ds.json").write_text('{\n "zero_optimization": {\n  "stage": 3\n }\n}')
    adapter = target.workdir / "lora" / "adapter_config.json"
    adapter.parent.mkdir()
    adapter.write_text(json.dumps({"r": 8, "target_modules": ["q_proj"]}, indent=1))
    named = {"recipe.values": {"adapter_name_or_path": "lora, gone"}, "deepspeed.config_path": "ds.json"}
    found = collected(target, **named, **{"model.path": "models/big"})
    assert found["ds.json"] == {"zero_optimization": 2, "zero_optimization.stage": 3}
    assert found["lora/adapter_config.json"] == {"r": 2, "target_modules": 3}
    assert found["models/big/config.json"]["model_type"] == 1
    assert "gone/adapter_config.json" not in found


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[1, 2", b"no json at all", b'{"a": ' + b"[" * 5000])
def test_what_cannot_be_read_has_no_lines(target, content):
    (target.workdir / "ds.json").write_bytes(content)
    assert collected(target, **{"deepspeed.config_path": "ds.json"}).get("ds.json", {}).keys() <= {"a"}


def test_nothing_to_read(target):
    assert collected(target) == {}
    assert collected(target, **{"deepspeed.config_path": "(in the recipe)", "model.path": "no\0name"}) == {}
    (target.workdir / "ds.json").write_text('{"a": "' + "x" * places.LARGEST + '"}')
    assert collected(target, **{"deepspeed.config_path": "ds.json"}) == {}
