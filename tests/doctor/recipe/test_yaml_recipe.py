"""The recipe is read as LLaMA-Factory reads it, and what cannot be read is one sentence with the place."""

import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doctor.errors import BadInput
from doctor.facts import Facts
from doctor.probes import recipe as recipe_probe
from doctor.recipe import yaml_recipe

GOOD = "### model\nmodel_name_or_path: Qwen/Qwen2.5-32B-Instruct\n\nlearning_rate: 1e-5\nbf16: true  # on\n"


def test_values_lines_and_yaml_1_1():
    recipe = yaml_recipe.parse(GOOD, "r.yaml")
    assert recipe.values == {"model_name_or_path": "Qwen/Qwen2.5-32B-Instruct", "learning_rate": "1e-5", "bf16": True}
    assert recipe.lines == {"model_name_or_path": 2, "learning_rate": 4, "bf16": 5}


def test_a_repeated_key_is_kept_with_its_second_line():
    assert yaml_recipe.parse("a: 1\nb: 2\na: 3\n", "r.yaml").repeated == {"a": 3}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "The recipe r.yaml is empty"),
        ("# only a comment\n", "The recipe r.yaml is empty"),
        ("- a\n- b\n", "holds a list"),
        ("just words\n", "holds plain text"),
        ("a: 1\nb: 2\n\tc: 3\n", r"r.yaml:3 is not valid YAML .*a tab stands there"),
        ("a: 'open\n", r"r.yaml:\d is not valid YAML"),
        ("a: !!python/object/apply:os.system ['true']\n", "r.yaml:1 is not valid YAML"),
        ('a: 1\nb: {c: ["x\\0"]}\n', "r.yaml:2 holds a NUL character"),
        ('a: 1\noutput_dir: "out\\ud800"\n', "r.yaml:2 holds half of a surrogate pair"),
    ],
)
def test_text_that_is_no_recipe(text, sentence):
    with pytest.raises(BadInput, match=sentence) as raised:
        yaml_recipe.parse(text, "r.yaml")
    assert "\n" not in str(raised.value)


def read_error(path):
    with pytest.raises(BadInput) as raised:
        yaml_recipe.read(path, path.name)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_files_that_are_no_recipe(tmp_path):
    assert "does not exist" in read_error(tmp_path / "missing.yaml")
    assert "is a directory" in read_error(tmp_path)
    (tmp_path / "model.bin").write_bytes(b"\x00\x01\x02" * 100)
    assert "binary file" in read_error(tmp_path / "model.bin")
    (tmp_path / "gbk.yaml").write_bytes("a: 1\nname: 训练\n".encode("gbk"))
    assert "gbk.yaml:2 is not UTF-8" in read_error(tmp_path / "gbk.yaml")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path):
    path = tmp_path / "locked.yaml"
    path.write_text(GOOD)
    path.chmod(0)
    assert "permission denied" in read_error(path)


def test_spaces_chinese_bom_and_crlf_are_fine(tmp_path):
    path = tmp_path / "我的 recipe 配方.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert yaml_recipe.read(path, path.name).lines["bf16"] == 5


def test_overrides_are_read_as_yaml_values():
    given_ = {"cutoff_len": "512", "bf16": "false", "template": "qwen", "odd": "[1, 2"}
    assert yaml_recipe.parse_overrides(given_) == {"cutoff_len": 512, "bf16": False, "template": "qwen", "odd": "[1, 2"}


@given(st.text(max_size=300))
def test_any_text_is_a_recipe_or_a_sentence(text):
    sentence = None
    try:
        assert isinstance(yaml_recipe.parse(text, "r.yaml").values, dict)
    except BadInput as error:
        sentence = str(error)
    assert sentence is None or "\n" not in sentence


def test_two_halves_are_one_character():
    assert (
        yaml_recipe.parse('{"default_system": "\\ud83d\\ude00 hello"}', "r.json").values["default_system"] == "😀 hello"
    )


def test_a_long_text_under_many_aliases_is_looked_through_once():
    """Sixty thousand values of five thousand characters."""
    rows = ["a0: &a0 " + "模" * 5000] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 6)]
    begun = time.process_time()
    assert len(yaml_recipe.parse("\n".join(rows) + "\n", "r.yaml").values) == 6
    assert time.process_time() - begun < 1.5


def test_a_tab_that_only_libyaml_takes():
    assert yaml_recipe.parse("a: 1\nb:\t2\n", "r.yaml") == yaml_recipe.Recipe({"a": 1, "b": 2}, {"a": 1, "b": 2}, {}, 2)
    assert yaml_recipe.parse("a: 1\nb: 2  # two\n", "r.yaml").tab is None


@pytest.mark.parametrize(
    ("loader", "omegaconf", "fault"),
    [("OmegaConf", "2.4.0", False), ("OmegaConf", "2.3.0", True), ("PyYAML", "2.4.0", True), ("OmegaConf", "x", True)],
)
def test_who_takes_it(loader, omegaconf, fault):
    known = {"recipe.path": "r.yaml", "arguments.loader": loader, "packages.versions": {"omegaconf": omegaconf}}
    found = [one.cause for one in recipe_probe.tab_is_taken(Facts({**known, "recipe.tab": 2}))]
    assert found == (["cfg-yaml-syntax"] if fault else [])
    assert list(recipe_probe.tab_is_taken(Facts({**known, "recipe.tab": None}))) == []
