import json

import pytest

from doctor.recipe import adapter_folder


@pytest.mark.parametrize("odd", ["8", None, True, 0, -1, [8], {"q_proj": 8}])
def test_a_rank_that_is_no_number_above_0(tmp_path, odd):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": odd, "lora_alpha": 16}))
    assert adapter_folder.inspect("adapter", tmp_path).faults == [f"r is {odd!r}; a whole number above 0 is needed"]


def test_a_sound_adapter(tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 8, "lora_alpha": 0.5}))
    assert adapter_folder.inspect("adapter", tmp_path).faults == []
