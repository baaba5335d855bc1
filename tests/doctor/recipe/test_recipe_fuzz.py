"""Recipes, dataset_info.json and model folders that nobody would write: a finding or nothing, never an exception."""

import json

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from doctor.errors import BadInput
from doctor.probes import adapter, architecture, arguments, dataset, llamafactory, model, recipe, records, template
from tests.doctor.recipe import standin

PROBES = (recipe, llamafactory, model, adapter, template, dataset, records, arguments, architecture)
MORE = {"packages.versions": {"transformers": "4.46.1"}}

_scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 10**20), st.floats(allow_nan=False), st.text(max_size=8),
    st.sampled_from(["no", "1e-5", "sky", "m", "../x", "~", "/", "steps", "full", "toy", "a,b", "d.json", "ONLINE"]),
)  # fmt: skip
_values = st.recursive(
    _scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=5), v, max_size=3), max_leaves=6
)
_KEYS = """
model_name_or_path adapter_name_or_path adapter_folder template dataset eval_dataset dataset_dir output_dir stage
finetuning_type val_size streaming eval_strategy save_steps learning_rate report_to deepspeed lora_target tokenized_path
cache_dir model_revision media_dir quantization_bit interleave_probs unknown
"""
_keys = st.sampled_from(_KEYS.split())
_recipes = st.dictionaries(_keys, _values, max_size=8)
_fuzz = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("fuzz")
    standin.target(made)
    standin.model(made / "m")
    (made / "data").mkdir()
    return made


def write(folder, info, data):
    (folder / "data" / "dataset_info.json").write_text(info, encoding="utf-8")
    (folder / "data" / "d.json").write_bytes(data)


@_fuzz
@given(_recipes)
def test_any_recipe(folder, values):
    write(folder, json.dumps({"sky": {"file_name": "d.json"}}), b'[{"instruction": "q", "input": "", "output": "a"}]')
    made = standin.target(folder, yaml.safe_dump({"do_train": True, **values}, allow_unicode=True))
    facts, found, refused = None, (), ""
    try:
        facts, found = standin.examine(made, *PROBES, more=MORE)
    except BadInput as error:
        refused = str(error)
    assert facts.known("recipe.values") if facts else "NUL character" in refused
    assert facts is not None or "\\0" in made.recipe.read_text(encoding="utf-8")
    assert all(finding.evidence for finding in found)


@_fuzz
@given(st.binary(max_size=60), st.integers(0, 200))
def test_any_bytes_as_a_recipe(folder, inserted, place):
    text = b"model_name_or_path: m\ndo_train: true\ndataset: sky\ntemplate: toy\noutput_dir: o\n"
    made = standin.target(folder)
    made.recipe.write_bytes(text[: place % len(text)] + inserted + text[place % len(text) :])
    facts, refused = None, None
    try:
        facts, _ = standin.examine(made, *PROBES, more=MORE)
    except BadInput as error:
        refused = error
    assert facts.known("recipe.values") if facts else str(refused).endswith(".")


@_fuzz
@given(
    st.dictionaries(st.sampled_from(["sky", "a"]), _values, max_size=2),
    st.text(max_size=3),
    st.integers(0, 300),
    _values,
)
def test_any_dataset_info(folder, info, inserted, place, record):
    entry = {
        "file_name": "d.json",
        "formatting": "sharegpt",
        **(info.get("a") if isinstance(info.get("a"), dict) else {}),
    }
    text = json.dumps({"sky": entry, **info})
    place %= len(text) + 1
    write(folder, (text[:place] + inserted + text[place:]).replace("\ud800", ""), json.dumps([record, record]).encode())
    made = standin.target(folder, "model_name_or_path: m\ndo_train: true\ndataset: sky\ntemplate: toy\noutput_dir: o\n")
    facts, found = standin.examine(made, *PROBES, more=MORE)
    assert facts.known("dataset.info_state")
    assert all(finding.evidence for finding in found)


@_fuzz
@given(
    st.sampled_from(["config.json", "tokenizer_config.json", "tokenizer.json", "adapter_config.json"]),
    _values,
    st.binary(max_size=4),
)
def test_any_file_of_a_model(folder, name, value, junk):
    standin.model(folder / "m")
    (folder / "m" / name).write_bytes(json.dumps(value).encode() + junk)
    made = standin.target(folder, "model_name_or_path: m\nadapter_name_or_path: m\ndo_train: true\ntemplate: toy\n")
    facts, found = standin.examine(made, *PROBES, more=MORE)
    assert facts.known("model.name")
    assert all(finding.evidence for finding in found)
    standin.model(folder / "m")
    (folder / "m" / "adapter_config.json").unlink(missing_ok=True)
