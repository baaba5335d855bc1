"""fsdp, its settings and those of accelerate: judged by the installed transformers before it parses them."""

import json

import pytest

from doctor.probes import arguments, llamafactory, recipe
from tests.doctor.probes.test_arguments import GOOD, MORE
from tests.doctor.recipe import standin

WRAPS = {"fsdp_transformer_layer_cls_to_wrap": "Qwen2DecoderLayer"}


def found_in(folder, lines):
    (folder / "good.json").write_text(json.dumps(WRAPS))
    (folder / "batches.json").write_text('{"split_batchez": true}')
    (folder / "broken.json").write_text('{"a": ')
    (folder / "list.json").write_text("[1]")
    return standin.examine(standin.target(folder, GOOD + lines), recipe, llamafactory, arguments, more=MORE)[1]


@pytest.mark.parametrize(
    ("lines", "cause", "says"),
    [
        ("fsdp: full", "cfg-invalid-choice", "'full' is not a valid FSDPOption"),
        ("fsdp: offload", "cfg-conflicting-args", "can't work on its own"),
        ("fsdp: false", "cfg-bad-value-type", "argument of type 'bool' is not iterable"),
        ("fsdp_config: nowhere.json", "cfg-bad-value-type", "nowhere.json does not exist"),
        ("fsdp_config: broken.json", "cfg-bad-value-type", "broken.json is not JSON"),
        ("fsdp_config: list.json", "cfg-bad-value-type", "no JSON object"),
        ("fsdp: full_shard\nfsdp_config: {min_num_params: 9, transformer_layer_cls_to_wrap: [A]}",
         "cfg-conflicting-args", "exclude each other"),
        ("accelerator_config: {split_batchez: true}", "cfg-unknown-key", '"split_batchez" is no setting of it; "split_b'),
        ("accelerator_config: batches.json", "cfg-unknown-key", '"split_batchez" is no setting'),
        ("accelerator_config: '{\"split_batchez\": true}'", "cfg-unknown-key", '"split_batchez" is no setting'),
        ("accelerator_config: nowhere.json", "cfg-bad-value-type", "nowhere.json does not exist"),
        ("accelerator_config: [split_batches]", "cfg-bad-value-type", "a mapping"),
    ],
)  # fmt: skip
def test_what_transformers_refuses(tmp_path, lines, cause, says):
    found = found_in(tmp_path, lines + "\n")
    assert [f.cause for f in found] == [cause]
    assert says in found[0].evidence[0].what
    assert lines.rpartition("\n")[2].startswith(found[0].details["key"])


@pytest.mark.parametrize(
    "lines",
    ["fsdp: full_shard offload", "fsdp_config: good.json", "accelerator_config: {even_batches: false}",
     "fsdp_config: {min_num_params: 9, transformer_layer_cls_to_wrap: [A]}", "fsdp_config: {whatever: 1}",
     "lora_alpha: 16.0", "lora_alpha: 16.5", "ddp_timeout: 180000000.0"],
)  # fmt: skip
def test_what_it_takes(tmp_path, lines):
    assert found_in(tmp_path, lines + "\n") == []


def test_a_rank_is_a_whole_number(tmp_path):
    assert [f.cause for f in found_in(tmp_path, "lora_rank: 8.0\n")] == ["cfg-bad-value-type"]


def test_settings_of_a_release_whose_class_is_not_to_be_read(tmp_path):
    made = standin.target(tmp_path, GOOD + "accelerator_config: {split_batchez: true}\n")
    (tmp_path / "site-packages" / "transformers" / "trainer_pt_utils.py").write_text("class (")
    assert standin.examine(made, recipe, llamafactory, arguments, more=MORE)[1] == []
