"""Media of the data against the template: marks without a column, damaged files, kinds that it does not take, the cutoff."""

import json
import time

import msgspec
import pytest

from doctor.facts import Facts
from doctor.recipe import conversion, data_scan, dataset_info, dataset_rules, json_text, media_judged
from tests.doctor.recipe.test_media_files import png

QWEN = {"template.name": "qwen2_vl", "template.known": True, "template.multimodal": True, "template.plugin": "qwen2_vl",
        "template.media": {"images": "<|i|>", "videos": "<|v|>"}, "template.counted": list(conversion.MARKS)}  # fmt: skip
TEXT = {"template.name": "qwen", "template.known": True, "template.multimodal": False, "template.plugin": None,
        "template.media": {}, "template.counted": []}  # fmt: skip


def facts(tmp_path, rows, template=QWEN, columns=None, processor=None, **values):
    path = tmp_path / "d.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    columns = {"messages": "conversations", **(columns or {})}
    given = {"sky": {"file_name": "d.json", "formatting": "sharegpt", "columns": columns}}
    rules = dataset_rules.FALLBACK
    entry = dataset_info.entry("sky", json_text.parse(json.dumps(given, indent=1)), rules)
    found = data_scan.scan(entry, [(path, path.name)], "json", "sft", tmp_path, time.monotonic() + 60)
    return Facts({
        **template, "dataset.entries": {"sky": msgspec.to_builtins(entry)},
        "records.scans": {"sky": msgspec.to_builtins(found)},
        "dataset.info_path": "i.json", "dataset.stage": "sft", "recipe.values": values, "recipe.path": "r.yaml",
        "recipe.lines": {"cutoff_len": 7}, "records.processor": processor or {},
    })  # fmt: skip


def row(text="<image>What?", **media):
    return {"conversations": [{"from": "human", "value": text}, {"from": "gpt", "value": "Yes."}], **media}


def causes(judgement, given):
    return [(f.cause, f.severity) for f in judgement(given)]


def test_a_mark_without_a_column_is_refused_by_what_counts_it(tmp_path):
    rows = [row(), row("Hi")]
    (found,) = media_judged.marks_declared(facts(tmp_path, rows))
    assert found.cause == "data-multimodal-placeholder"
    assert '<image> stands in the text, and "sky" declares no column of images' in found.evidence[0].what
    assert causes(media_judged.marks_declared, facts(tmp_path, rows, TEXT)) == []
    assert causes(media_judged.marks_declared, facts(tmp_path, [row(images=["a"])], columns={"images": "images"})) == []


def test_a_damaged_picture_is_told_once_for_all_that_show_it(tmp_path):
    (tmp_path / "a.png").write_bytes(png()[:50])
    rows = [row(images=["a.png"]), row(images=["a.png"])]
    (found,) = media_judged.files_there(facts(tmp_path, rows, columns={"images": "images"}))
    assert (found.cause, found.details["count"]) == ("data-media-missing", 2)
    assert "a.png is cut off" in found.evidence[0].what
    (tmp_path / "a.png").write_bytes(png())
    assert causes(media_judged.files_there, facts(tmp_path, rows, columns={"images": "images"})) == []


def test_a_damaged_video_has_a_cause_of_its_own(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"")
    given = facts(tmp_path, [row("<video>", videos=["a.mp4"])], columns={"videos": "videos"})
    assert [f.cause for f in media_judged.files_there(given)] == ["data-video-decode"]


@pytest.mark.parametrize(
    ("template", "told"), [(QWEN, 1), (TEXT, 1), ({**QWEN, "template.media": {"audios": "<|a|>"}}, 0)]
)
def test_a_kind_that_the_template_does_not_take(tmp_path, template, told):
    given = facts(tmp_path, [row("<audio>", audios=["a.wav"])], template, columns={"audios": "audios"})
    given["dataset.entries"]["sky"]["columns"]["audios"] = "audios"  # a column of later releases
    given["records.scans"]["sky"]["media_given"] = {"audios": 1}
    assert [f.cause for f in media_judged.wanted(given)] == ["tmpl-wrong-for-model"] * told


@pytest.mark.parametrize(
    ("cutoff", "processor", "told"),
    [
        (30, {"patch_size": 14, "merge_size": 2}, 1),
        (36, {"patch_size": 14, "merge_size": 2}, 0),  # 168 x 168 pixels are 6 x 6 tokens
        (30, {"patch_size": 14, "merge_size": 2, "max_pixels": 784 * 20}, 0),
        (30, {"patch_size": 14, "merge_size": 2, "size": {"longest_edge": 784 * 20}}, 0),
        (24, {}, 1),
        (25, {}, 0),
    ],
)
def test_an_image_longer_than_the_cutoff(tmp_path, cutoff, processor, told):
    (tmp_path / "a.png").write_bytes(png(168))
    given = facts(
        tmp_path, [row(images=["a.png"])], columns={"images": "images"}, processor=processor, cutoff_len=cutoff
    )
    assert [f.cause for f in media_judged.images_within_cutoff(given)] == ["data-cutoff-truncates"] * told


def test_a_number_is_no_path(tmp_path):
    given = facts(tmp_path, [row(images=[5])], columns={"images": "images"})
    assert [f.cause for f in media_judged.files_there(given)] == ["data-media-missing"]
