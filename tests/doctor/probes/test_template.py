import json

import pytest

from doctor.probes import llamafactory, model, recipe, template
from tests.doctor.recipe import standin


def examine(tmp_path, name, model_name="org/other"):
    made = standin.target(tmp_path, f"model_name_or_path: {model_name}\ntemplate: {name}\n")
    return standin.examine(made, recipe, llamafactory, model, template)[1]


@pytest.mark.parametrize(
    ("name", "details"),
    [
        ("qwen25", {"equal_template": "qwen"}),
        ("toyy", {"nearest_template": "toy"}),
        ("qwen3", {"newer_release": "0.9.3"}),
    ],
)
def test_a_template_that_is_not_there(tmp_path, name, details):
    found = examine(tmp_path, name)
    assert [f.cause for f in found] == ["tmpl-unknown"]
    assert found[0].evidence[0].where == "recipe.yaml:2"
    assert details.items() <= found[0].details.items()


def test_what_differs_is_said(tmp_path):
    assert any("<|endoftext|>" in e.what for e in examine(tmp_path, "qwen25")[0].evidence)


def test_the_releases_own_table_of_models(tmp_path):
    assert examine(tmp_path, "toy", "org/toy-chat") == []
    assert examine(tmp_path, "qwen", "org/toy") == []  # a base model takes any template
    found = examine(tmp_path, "qwen", "org/toy-chat")
    assert [(f.cause, f.details["fitting_template"]) for f in found] == [("tmpl-wrong-for-model", "toy")]


def test_a_template_for_images_and_a_model_without(tmp_path):
    folder = standin.model(tmp_path / "m")
    assert [f.cause for f in examine(tmp_path, "toy_vl", "m")] == ["tmpl-wrong-for-model"]
    (folder / "preprocessor_config.json").write_text("{}")
    assert examine(tmp_path, "toy_vl", "m") == []


def test_the_end_token_is_looked_for_in_the_tokenizer(tmp_path):
    folder = standin.model(tmp_path / "m")
    assert examine(tmp_path, "qwen", "m") == []
    added = [standin.added_token(11, "x")]
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": added, "model": {"vocab": {"a": 0}}}))
    (folder / "tokenizer_config.json").write_text("{}")
    found = examine(tmp_path, "qwen", "m")
    assert [(f.cause, f.severity.value) for f in found] == [("tmpl-wrong-for-model", "error")]


def test_without_llamafactory_nothing_is_said(tmp_path):
    made = standin.target(tmp_path, "model_name_or_path: org/x\ntemplate: qwen25\n")
    import shutil

    shutil.rmtree(tmp_path / "site-packages" / "llamafactory")
    facts = standin.Facts()
    for probe in (recipe, llamafactory, model, template):
        facts = facts.merged(probe.collect(made, facts))
    assert "not installed" in facts.why_unknown("template.known")


def test_settings_of_a_processor_that_cannot_be_read(tmp_path):
    folder = standin.model(tmp_path / "m")
    for content, told in (("{", ["model-processor-missing"]), ("[]", ["model-processor-missing"]), ("{}", [])):
        (folder / "preprocessor_config.json").write_text(content)
        assert [f.cause for f in examine(tmp_path, "toy_vl", "m")] == told
    assert examine(tmp_path, "toy", "m") == []  # a template for text asks for no processor


@pytest.mark.parametrize(
    ("kind", "name", "told"),
    [("qwen2_5_vl", "llava", 1), ("qwen2_5_vl", "qwen2_vl", 0), ("mllama", "llava", 0), ("llava", "qwen2_vl", 0)],
)
def test_a_template_that_takes_the_images_of_another_family(tmp_path, kind, name, told):
    """Of mllama this release has no template, and several share the type llava."""
    folder = standin.model(tmp_path / "m")
    (folder / "preprocessor_config.json").write_text("{}")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": kind}))
    found = [f for f in examine(tmp_path, name, "m") if f.cause == "tmpl-wrong-for-model"]
    assert [f.severity.value for f in found] == ["warning"] * told  # no image in the data
