"""The data folder of a rehearsal: the same entries on samples; what cannot be sampled stays as it is."""

import json
import shutil

from doctor.rehearse import data
from tests.doctor.rehearse.standin import ENTRY, build, facts_of


def prepared(target, count=24):
    folder = target.workdir / "prepared"
    made = data.prepare(target, facts_of(target), folder, count, lambda text: None)
    info = folder / "dataset_info.json"
    return made, json.loads(info.read_text()) if info.exists() else None, folder


def declare(target, recipe="", **entries):
    (target.workdir / "data/dataset_info.json").write_text(json.dumps({"sky": ENTRY, **entries}))
    if recipe:
        kept = [line for line in target.recipe.read_text().splitlines() if not line.startswith("dataset:")]
        target.recipe.write_text("\n".join([*kept, recipe]) + "\n")


def test_the_entry_is_the_same_on_a_sample(tmp_path):
    target = build(tmp_path, rows=500)
    made, info, folder = prepared(target)
    assert info.keys() == {"sky"}
    assert {**info["sky"], "file_name": "sky.json"} == ENTRY
    assert len(json.loads((folder / info["sky"]["file_name"]).read_text())) == 24 == made.records
    assert made.total == 500
    assert made.values == {"dataset_dir": "prepared"}


def test_several_sets_share_and_the_hub_stays(tmp_path):
    target = build(tmp_path, rows=500)
    hub = {"hf_hub_url": "org/data", "columns": {"prompt": "q"}}
    declare(target, "dataset: sky,twin,hub", twin={**ENTRY, "num_samples": 900}, hub=hub)
    made, info, _ = prepared(target)
    assert info["hub"] == hub
    assert info["twin"]["num_samples"] == 8
    assert made.records == 24
    assert made.total is None


def test_images_are_still_found_where_they_lie(tmp_path):
    target = build(tmp_path)
    pictured = {**ENTRY, "columns": {"messages": "conversations", "images": "pictures"}}
    declare(target, "dataset: pictured", pictured=pictured)
    made, _, _ = prepared(target)
    assert made.values["media_dir"] == "data"


def test_files_of_other_kinds_are_used_from_their_beginning(tmp_path):
    target = build(tmp_path)
    (target.workdir / "data/rows.csv").write_text("instruction,output\n1 + 1?,2\n")
    declare(target, "dataset: rows", rows={"file_name": "rows.csv"})
    made, info, _ = prepared(target)
    assert info["rows"]["file_name"] == str(target.workdir / "data/rows.csv")
    assert made.values["max_samples"] == data.FIRST
    assert "csv" in made.notes[0].en


def test_broken_data_and_a_broken_registry_are_left_for_the_run(tmp_path):
    target = build(tmp_path)
    (target.workdir / "data/sky.json").write_text('[{"conversations": [')
    _, info, _ = prepared(target)
    assert info["sky"]["file_name"] == str(target.workdir / "data/sky.json")
    (target.workdir / "data/dataset_info.json").write_text('{"sky": {"file_name": "sky.json"},}')
    shutil.rmtree(target.workdir / "prepared")
    made, _, _ = prepared(target)
    assert "dataset_dir" not in made.values


def test_what_the_steps_consume_is_taken_within_bounds():
    assert data.wanted({"gradient_accumulation_steps": 12, "per_device_train_batch_size": 1}, 2, 2) == 72
    assert data.wanted({}, 1, 2) == data.FEWEST
    assert data.wanted({"gradient_accumulation_steps": 512}, 2, 2) == data.MOST
    assert data.wanted({"gradient_accumulation_steps": "12"}, 1, 2) == data.FEWEST
