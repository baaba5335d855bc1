import json
import struct

import pytest

from doctor.recipe import adapter_folder


@pytest.mark.parametrize("odd", ["8", None, True, 0, -1, [8], {"q_proj": 8}])
def test_a_rank_that_is_no_number_above_0(tmp_path, odd):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": odd, "lora_alpha": 16}))
    assert adapter_folder.inspect("adapter", tmp_path).faults == [f"r is {odd!r}; a whole number above 0 is needed"]


def test_a_sound_adapter(tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 8, "lora_alpha": 0.5}))
    assert adapter_folder.inspect("adapter", tmp_path).faults == []


ODD = (5, True, "", {}, [5], [{}], {"a": "8"}, [])


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [("rank_pattern", [{}, {"q_proj": 8}], [None, [], {"q_proj": "8"}, {"q_proj": True}]),
     ("alpha_pattern", [{}, {"q_proj": 0.5}], [None, "q_proj"]),
     ("target_modules", [None, "all-linear", ["q_proj"]], [[], 5, {"q_proj": 1}, [5]]),
     ("layers_to_transform", [None, 0, [0, 1]], ["0", ["0"], {}])],
)  # fmt: skip
def test_fields_that_peft_takes_apart(tmp_path, name, right, wrong):
    def said(value):
        (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 8, name: value}))
        return adapter_folder.inspect("adapter", tmp_path).faults

    assert [said(value) for value in right] == [[]] * len(right)
    assert all(name in said(value)[0] for value in wrong)
    for value in ODD:
        said(value)


def weights(path, dtype, content):
    name = "base_model.model.q_proj.lora_A.weight"
    held = {name: {"dtype": dtype, "shape": [1, len(content) // WIDTH[dtype]], "data_offsets": [0, len(content)]}}
    header = json.dumps(held if content else {}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + content)


WIDTH = {"F32": 4, "F16": 2, "BF16": 2, "I32": 4, "F64": 8}
NAN = {"F32": "0000c07f", "BF16": "c07f", "F16": "007e", "F64": "000000000000f87f"}


@pytest.mark.parametrize(
    ("dtype", "content", "fault"),
    [*((dtype, bytes.fromhex(nan) * 4, "NaN") for dtype, nan in NAN.items()), ("I32", bytes(16), "floating"),
     ("F32", bytes(16), None), ("F32", bytes.fromhex("0000c07f") * 3 + bytes(4), None), ("BF16", b"\x80\x7f" * 4, None),
     ("F32", b"", "no tensors")],
)  # fmt: skip
def test_what_the_tensors_hold(tmp_path, dtype, content, fault):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 1}))
    weights(tmp_path / "adapter_model.safetensors", dtype, content)
    error = adapter_folder.inspect("adapter", tmp_path).weights_error
    assert (fault in error) if fault else error is None
