import json
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from doctor.recipe import safetensors_header
from tests.doctor.recipe.standin import safetensors


def test_names_shapes_and_elements(tmp_path):
    safetensors(tmp_path / "m.safetensors", {"a.weight": [3, 2], "b.bias": [4]})
    tensors = safetensors_header.read(tmp_path / "m.safetensors")
    assert {name: (t.shape, t.elements) for name, t in tensors.items()} == {"a.weight": ([3, 2], 6), "b.bias": ([4], 4)}


def write(path, length, rest):
    path.write_bytes(struct.pack("<Q", length) + rest)


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda p: p.write_bytes(b""), "empty"),
        (
            lambda p: p.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
            "git-lfs pointer",
        ),
        (lambda p: p.write_bytes(b"\1\2\3"), "cut off"),
        (lambda p: safetensors(p, {"a": [8]}, short_by=1), "cut off"),
        (lambda p: write(p, 500, b'{"a": {'), "cut off"),
        (lambda p: write(p, 500, b"<html>"), "not a safetensors file"),
        (lambda p: write(p, 1 << 60, b"PK"), "not a safetensors file"),
        (lambda p: write(p, 4, b"true"), "not a safetensors file"),
        (lambda p: write(p, 31, b'{"__metadata__":{"format":"\x80"}}'), "not a safetensors file"),
        (lambda p: write(p, 2, b"{}extra"), "longer than its header says"),
    ],
)
def test_damage_is_told_apart(tmp_path, make, kind):
    make(tmp_path / "m.safetensors")
    with pytest.raises(safetensors_header.Unreadable) as caught:
        safetensors_header.read(tmp_path / "m.safetensors")
    assert caught.value.kind == kind


def test_a_whole_file_with_too_large_a_header_is_not_called_damaged(tmp_path):
    path = tmp_path / "m.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 100_000_001) + b"{")
        file.truncate(8 + 100_000_001)
    with pytest.raises(safetensors_header.Unreadable) as caught:
        safetensors_header.read(path)
    assert caught.value.kind == "header above the limit"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=400)
@given(st.integers(0, 400), st.binary(max_size=9), st.integers(0, 9))
def test_damaged_headers_end_in_tensors_or_one_clear_error(tmp_path, place, inserted, removed):
    path = tmp_path / "m.safetensors"
    safetensors(path, {"a.weight": [3, 2], "b": [4]})
    raw = path.read_bytes()
    place %= len(raw)
    path.write_bytes(raw[:place] + inserted + raw[place + removed :])
    fault, tensors = None, {}
    try:
        tensors = safetensors_header.read(path)
    except safetensors_header.Unreadable as error:
        fault = error
    assert fault.kind if fault else all(json.dumps(t.shape) for t in tensors.values())
