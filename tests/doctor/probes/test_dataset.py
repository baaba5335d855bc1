import json

import pytest

from doctor.facts import Facts
from doctor.probes import dataset, llamafactory, recipe, records
from doctor.probes import template as template_probe
from doctor.recipe import records_judged
from knowledge_base.schema import Severity
from tests.doctor.recipe import standin

RECIPE = "model_name_or_path: org/toy\nstage: {stage}\ndo_train: true\ndataset: {dataset}\ntemplate: toy\n"
TAGS = {"role_tag": "from", "content_tag": "value", "user_tag": "user", "assistant_tag": "assistant"}
SKY = {"file_name": "d.json", "formatting": "sharegpt", "columns": {"messages": "conversations"}, "tags": TAGS}


def talk(*roles, **more):
    return {"conversations": [{"from": role, "value": "text"} for role in roles], **more}


def examine(tmp_path, info, data=None, stage="sft", names="sky", more="", file="d.json"):
    made = standin.target(tmp_path, RECIPE.format(stage=stage, dataset=names) + more)
    (tmp_path / "data").mkdir(exist_ok=True)
    if info is not None:
        text = info if isinstance(info, str) else json.dumps(info, indent=1)
        (tmp_path / "data" / "dataset_info.json").write_text(text, encoding="utf-8")
    if data is not None:
        content = data if isinstance(data, (bytes, str)) else json.dumps(data, ensure_ascii=False, indent=1)
        (tmp_path / "data" / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    return standin.examine(made, recipe, llamafactory, dataset, records)[1]


def causes(found):
    return [f.cause for f in found]


NULL_ANSWER = '[{"conversations": [{"from": "user", "value": "q"}, {"from": "assistant", "value": null}]}]'
GOOD = [talk("user", "assistant")] * 4


def test_a_good_data_set_gives_nothing(tmp_path):
    assert examine(tmp_path, {"sky": SKY}, GOOD) == []


def test_several_faults_are_found_in_one_pass(tmp_path):
    info = '{\n "sky": {\n  "file_name": "your data path here",\n  "formatting": "sharegpt"\n },\n}\n'
    found = examine(tmp_path, info)
    assert causes(found) == ["data-info-invalid-json", "data-file-missing"]
    assert found[0].evidence[0].where == "data/dataset_info.json:5"
    assert found[0].details["info_file"] == "data/dataset_info.json"
    assert not found[0].details["ambiguous"]
    assert found[1].evidence[0].where == "data/dataset_info.json:3"
    assert (found[1].details["entry"], found[1].details["placeholder"]) == ("sky", True)


def test_dataset_info_elsewhere_means_another_working_directory(tmp_path):
    (tmp_path / "inner" / "data").mkdir(parents=True)
    (tmp_path / "inner" / "data" / "dataset_info.json").write_text("{}")
    found = examine(tmp_path, None)
    assert causes(found) == ["cli-wrong-workdir"]
    assert found[0].details["workdir"] == str(tmp_path / "inner")


@pytest.mark.parametrize(
    ("names", "details"),
    [
        ("Sky", {"nearest": "sky"}),
        ("sky.json", {"key_without_suffix": "sky"}),
        ("sky,othr", {"nearest": "sky,other"}),
        ("[sky, zzz]", {}),
    ],
)
def test_entries_that_are_not_defined(tmp_path, names, details):
    found = examine(tmp_path, {"sky": SKY, "other": SKY}, GOOD, names=names)
    assert causes(found) == ["data-entry-missing"]
    assert found[0].evidence[0].where == "recipe.yaml:4"
    assert details.items() <= found[0].details.items()


@pytest.mark.parametrize(
    ("entry", "data", "stage", "cause", "details"),
    [
        ({**SKY, "file_name": "e.json"}, GOOD, "sft", "data-file-missing", {"nearest_file": "d.json"}),
        ({"formatting": "sharegpt"}, None, "sft", "data-info-no-source", {"entry": "sky"}),
        ({**SKY, "file_name": "d.xlsx"}, GOOD, "sft", "data-file-type", {"file": "data/d.xlsx"}),
        ({**SKY, "columns": {"system": "system"}}, [talk("user", "assistant", system="x")], "sft",
         "data-info-columns-incomplete", {"columns": {"system": "system", "messages": "conversations"}}),
        ({**SKY, "ranking": True, "columns": {"messages": "conversations", "chosen": "c", "rejected": "r"}}, None, "sft",
         "data-stage-mismatch", {"fitting_stage": "dpo", "has_pairs": True}),
        ({**SKY, "ranking": True}, None, "sft", "data-stage-mismatch", {"pairs_undeclared": True}),
        ({"file_name": "d.json"}, [{"instruction": "q", "input": "", "answer": "a"}], "sft",
         "data-column-missing", {"whole_columns": {"prompt": "instruction", "query": "input", "response": "answer"}}),
        (SKY, None, "rm", "data-stage-mismatch", {"fitting_stage": "sft"}),
        ({"file_name": "d.json", "columns": {"prompt": "text"}}, [{"text": "x"}], "sft",
         "data-stage-mismatch", {"fitting_stage": "pt"}),
        ({**SKY, "num_sample": 3}, GOOD, "sft", "data-format-undeclared", {"nearest": "num_samples"}),
    ],
)  # fmt: skip
def test_entries_that_the_loader_cannot_use(tmp_path, entry, data, stage, cause, details):
    found = examine(tmp_path, {"sky": entry}, data or GOOD, stage, file="d.xlsx" if "xlsx" in str(entry) else "d.json")
    assert cause in causes(found)
    assert details.items() <= next(f for f in found if f.cause == cause).details.items()


def test_format_instead_of_formatting(tmp_path):
    entry = {"file_name": "d.json", "format": "sharegpt"}
    found = examine(tmp_path, {"sky": entry}, [talk("human", "gpt")])
    assert set(causes(found)) == {"data-format-undeclared"}
    assert found[0].details["messages_column"] == "conversations"
    assert found[1].details["tags"]["user_tag"] == "human"


def test_a_comma_after_which_no_name_follows(tmp_path):
    (found,) = examine(tmp_path, {"sky": SKY}, GOOD, names="'sky,'")
    assert (found.cause, found.details["named_entries"]) == ("data-entry-missing", "sky")


def test_the_file_given_for_its_folder(tmp_path):
    (found,) = examine(tmp_path, {"sky": SKY}, GOOD, more="dataset_dir: data/dataset_info.json\n")
    assert (found.cause, found.details["dataset_dir"]) == ("cli-wrong-workdir", "data")


def test_an_unread_key_that_says_what_another_says_is_harmless(tmp_path):
    assert examine(tmp_path, {"sky": {**SKY, "format": "sharegpt"}}, GOOD) == []


def test_records_under_a_key_lack_their_column_alone(tmp_path):
    found = examine(tmp_path, {"sky": SKY}, {"data": [talk("user", "assistant"), talk("user", "assistant")]})
    assert causes(found) == ["data-column-missing"]


def test_hub_entries_are_not_looked_for_on_disk(tmp_path):
    assert examine(tmp_path, {"sky": {"hf_hub_url": "org/data"}}) == []


def test_tokenised_data_needs_no_dataset_info(tmp_path):
    (tmp_path / "tok").mkdir()
    (tmp_path / "tok" / "data.arrow").write_bytes(b"x")
    (tmp_path / "tok" / "dataset_info.json").write_text("{}")
    (tmp_path / "tok" / "state.json").write_text('{"_data_files": [{"filename": "data.arrow"}]}')
    assert examine(tmp_path, None, more="tokenized_path: tok\n") == []


# -- records ------------------------------------------------------------------------------------------------------------
def test_other_tags_in_the_data_than_in_the_entry(tmp_path):
    found = examine(tmp_path, {"sky": SKY}, [talk("human", "gpt")] * 3)
    assert causes(found) == ["data-role-tag-mismatch"]
    assert found[0].details["tags"] == {**TAGS, "user_tag": "human", "assistant_tag": "gpt"}
    assert any(e.where == "data/d.json:2" for e in found[0].evidence)


def test_other_keys_in_the_messages(tmp_path):
    data = [{"conversations": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}]
    found = examine(tmp_path, {"sky": SKY}, data)
    assert causes(found) == ["data-role-tag-mismatch"]
    assert found[0].details["tags"]["role_tag"] == "role"
    assert found[0].details["tags"]["content_tag"] == "content"


def test_an_optional_column_that_is_not_there(tmp_path):
    entry = {**SKY, "columns": {"messages": "conversations", "system": "system"}}
    found = examine(tmp_path, {"sky": entry}, GOOD)
    assert causes(found) == ["data-column-missing"]
    assert found[0].details["optional"] is True
    assert found[0].details["columns_without"] == {"system": None}


def test_the_messages_under_another_name(tmp_path):
    data = [{"messages": r["conversations"]} for r in GOOD]
    found = examine(tmp_path, {"sky": SKY}, data)
    assert causes(found) == ["data-column-missing"]
    assert (found[0].details["role"], found[0].details["nearest"]) == ("messages", "messages")


def test_dropped_records_are_counted_and_shown(tmp_path):
    found = examine(tmp_path, {"sky": SKY}, [*GOOD * 30, talk("user"), talk("assistant", "user")])
    assert causes(found) == ["data-role-order"]
    assert found[0].severity.value == "warning"
    assert (found[0].details["count"], found[0].details["few_bad_rows"]) == (2, True)
    assert any("record 121" in e.what for e in found[0].evidence)


@pytest.mark.parametrize(
    ("data", "cause", "details"),
    [
        ('[{"a": 1}', "data-invalid-json", {"truncated": True}),
        ('[{"a": 1},]', "data-invalid-json", {"ambiguous": False, "truncated": False}),
        ("[]", "data-invalid-json", {"file": "data/d.json"}),
        ('[{"conversations": "中文内容说明"}]'.encode("gbk"), "data-encoding", {"encoding": "gb18030"}),
        ('[{"conversations": [], "id": 1}, {"conversations": [], "id": "x"}]', "data-schema-mixed-types", {"column": "id"}),
        (NULL_ANSWER, "data-null-content", {"file": "data/d.json"}),
        (json.dumps(GOOD[:1])[:-1] + ", 3]", "data-invalid-json", {"kind": "not objects"}),
    ],
)  # fmt: skip
def test_what_data_files_suffer_from(tmp_path, data, cause, details):
    found = [f for f in examine(tmp_path, {"sky": SKY}, data) if f.cause == cause]
    assert found
    assert details.items() <= found[0].details.items()


def test_answers_that_are_not_there(tmp_path):
    entry = {"file_name": "d.json"}
    found = examine(tmp_path, {"sky": entry}, [{"instruction": "q", "input": "", "output": None}] * 3)
    assert causes(found) == ["data-empty-after-filter"]
    assert found[0].severity is None


def test_images_that_are_not_there(tmp_path):
    entry = {"file_name": "d.json", "columns": {"prompt": "instruction", "response": "output", "images": "images"}}
    data = [
        {"instruction": "<image>?", "output": "x", "images": ["/nowhere/a.png"]},
        {"instruction": "?", "output": "x", "images": ["b.png"]},
    ]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "b.png").write_bytes(b"GIF89a")
    found = examine(tmp_path, {"sky": entry}, data)
    assert causes(found) == ["data-multimodal-placeholder", "data-media-missing"]
    assert found[1].details["count"] == 1


def test_more_validation_records_than_there_are(tmp_path):
    found = examine(tmp_path, {"sky": SKY}, GOOD, more="val_size: 500\n")
    assert causes(found) == ["data-val-split-too-large"]


def test_csv_and_jsonl(tmp_path):
    entry = {"file_name": "d.csv", "columns": {"prompt": "q", "response": "a"}}
    assert examine(tmp_path, {"sky": entry}, "q,a\nwhat,this\n", file="d.csv") == []
    assert causes(examine(tmp_path, {"sky": entry}, "q,b\nwhat,this\n", file="d.csv")) == ["data-column-missing"]
    lines = "\n".join(map(json.dumps, GOOD))
    assert examine(tmp_path, {"sky": {**SKY, "file_name": "d.jsonl"}}, lines, file="d.jsonl") == []


def test_chats_without_formatting_are_one_finding(tmp_path):
    undeclared = {key: value for key, value in SKY.items() if key != "formatting"}
    (found,) = examine(tmp_path, {"sky": undeclared}, GOOD)
    assert (found.cause, found.details["messages_column"]) == ("data-format-undeclared", "conversations")


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("validation", ["data-split-missing"]),
        ("train", []),
        ("train[:50%]", []),
        ("train[:x]", ["data-split-missing"]),
        ("", ["data-split-missing"]),
        ("train+train[2:]", []),
    ],
)
def test_files_have_one_split(tmp_path, split, expected):
    assert causes(examine(tmp_path, {"sky": {**SKY, "split": split}}, GOOD)) == expected


def test_a_list_of_entries_is_no_dataset_info(tmp_path):
    assert causes(examine(tmp_path, [{"name": "sky", **SKY}], GOOD)) == ["data-info-invalid-json"]


@pytest.mark.parametrize(
    ("turns", "cause"), [(None, "data-null-content"), (json.dumps(GOOD[0]["conversations"]), "data-invalid-json")]
)
def test_turns_that_are_no_list_end_the_run(tmp_path, turns, cause):
    found = examine(tmp_path, {"sky": SKY}, [*GOOD, {"conversations": turns}])
    assert [f.details["row"] for f in found if f.cause == cause] == [5]


def test_files_of_a_folder_must_have_the_same_columns(tmp_path):
    parts = tmp_path / "data/parts"
    parts.mkdir(parents=True)
    (parts / "a.json").write_text(json.dumps(GOOD))
    (parts / "b.json").write_text(json.dumps([talk("user", "assistant", score=1)]))
    (found,) = examine(tmp_path, {"sky": {**SKY, "file_name": "parts"}})
    assert (found.cause, found.details["columns"]) == ("data-schema-mixed-types", ["score"])
    (parts / "b.json").write_text(json.dumps(GOOD))
    assert examine(tmp_path, {"sky": {**SKY, "file_name": "parts"}}) == []


def test_a_file_that_only_its_name_makes_parquet(tmp_path):
    found = examine(tmp_path, {"sky": {**SKY, "file_name": "d.parquet"}}, GOOD, file="d.parquet")
    assert causes(found) == ["data-file-type"]


@pytest.mark.parametrize(("template", "expected"), [("toy", ["tmpl-wrong-for-model"]), ("toy_vl", [])])
def test_images_need_a_template_for_them(tmp_path, template, expected):
    info = {"sky": {**SKY, "columns": {**SKY["columns"], "images": "images"}}}
    rows = [
        {"conversations": [{"from": "user", "value": "<image>"}, {"from": "assistant", "value": "a"}], "images": ["i"]}
    ]
    made = standin.target(tmp_path, RECIPE.format(stage="sft", dataset="sky").replace("toy\\n", f"{template}\\n"))
    made.recipe.write_text(made.recipe.read_text().replace("template: toy", f"template: {template}"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data/i").write_bytes(b"GIF89a")
    (tmp_path / "data/dataset_info.json").write_text(json.dumps(info))
    (tmp_path / "data/d.json").write_text(json.dumps(rows))
    found = standin.examine(made, recipe, llamafactory, dataset, records, template_probe)[1]
    assert [f.cause for f in found if f.source == "probe:records"] == expected


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        ({"data-00000-of-00001.arrow": "x"}, "dataset_info.json is not there"),
        ({"dataset_info.json": "{}", "state.json": '{"_data_files": [{"filename": "a.arrow"}]}'}, "a.arrow is empty"),
        ({"dataset_dict.json": '{"splits": ["train"]}'}, "train/dataset_info.json is not there"),
        ({"dataset_dict.json": '{"spl'}, "dataset_dict.json cannot be read"),
    ],
)
def test_tokenised_data_whose_writing_was_broken_off(tmp_path, files, fault):
    (tmp_path / "tok").mkdir()
    for name, text in files.items():
        (tmp_path / "tok" / name).write_text(text)
    (found,) = examine(tmp_path, None, more="tokenized_path: tok\n")
    assert found.cause == "data-cache-corrupt"
    assert fault in found.evidence[0].what


ALPACA = {"instruction": "q", "input": "", "output": "a"}


def lines(*records):
    return "".join(json.dumps(record) + "\n" for record in records)


@pytest.mark.parametrize(
    ("data", "file", "cause"),
    [
        ("instruction,input,output\nq,,1\nq,,2\n", "d.csv", "data-empty-after-filter"),
        ("instruction,input,output\nq,,1\nq,,x\n", "d.csv", None),
        ("instruction,input,output\n1,,x\n2,,y\n", "d.csv", "data-schema-mixed-types"),
        (lines(*[{**ALPACA, "output": "2023-01-01"}] * 3), "d.jsonl", "data-schema-mixed-types"),
        (lines({**ALPACA, "output": "2023-01-01"}, ALPACA), "d.jsonl", None),
        (lines(*[{**ALPACA, "made": "2023-01-01T10:00:00"}] * 3), "d.jsonl", None),
        ([{**ALPACA, "output": "2023-01-01"}] * 3, "d.json", None),  # a list is read by Python, not by Arrow
        ([{**ALPACA, "id": 2**64}], "d.json", "data-schema-mixed-types"),
        ([{**ALPACA, "id": 2**64 - 1}], "d.json", None),
        (lines({**ALPACA, "id": 2**64}), "d.jsonl", None),
        (b"\xff\xff\xff\xff\x80\0\0\0" + bytes(100), "d.arrow", None),
        (b"no arrow", "d.arrow", "data-file-type"),
    ],
)
def test_types_as_the_loader_of_the_file_makes_them(tmp_path, data, file, cause):
    found = examine(tmp_path, {"sky": {"file_name": file}}, data, file=file)
    assert causes(found) == ([cause] if cause else [])


@pytest.mark.parametrize(
    ("key", "value", "fits"),
    [("columns", ["prompt"], False), ("tags", "from", False), ("num_samples", "5", False),
     ("num_samples", 5, True), ("num_samples", None, True)],
)  # fmt: skip
def test_values_of_an_entry_have_the_type_that_is_used(tmp_path, key, value, fits):
    found = examine(tmp_path, {"sky": {"file_name": "d.json", key: value}}, [ALPACA])
    assert [(f.cause, f.details["key"]) for f in found] == ([] if fits else [("data-format-undeclared", key)])


@pytest.mark.parametrize(
    ("size", "records", "fits"),
    [("0.1", 1, False), ("0.1", 2, True), ("0.6", 2, False), ("1", 2, True), ("1.0", 2, False)],
)
def test_a_share_for_validation_leaves_some_for_training(tmp_path, size, records, fits):
    found = examine(tmp_path, {"sky": SKY}, GOOD[:records], more=f"val_size: {size}\n")
    assert causes(found) == ([] if fits else ["data-val-split-too-large"])


@pytest.mark.parametrize(
    ("second", "severity"),
    [(["a", "b"], "none"), (["a", "b", "c"], None), (["a"], Severity.WARNING), (["a", "c"], None)],
)
def test_columns_of_the_files_of_a_folder(second, severity):
    """The first file makes the table: less is filled up, more is refused."""
    scan = {"read": 2, "file_columns": {"d/1.csv": ["a", "b"], "d/2.csv": second}}
    facts = Facts({"records.scans": {"x": scan}, "dataset.info_path": "i.json", "dataset.entries": {"x": {}}})
    assert [f.severity for f in records_judged.columns_alike(facts)] == ([] if severity == "none" else [severity])


def test_a_number_of_samples_that_is_a_boolean(tmp_path):
    found = examine(tmp_path, {"sky": {**SKY, "num_samples": True}}, GOOD)
    assert causes(found) == ["data-format-undeclared"]


def test_an_empty_file_beside_one_with_records(tmp_path):
    parts = tmp_path / "data/parts"
    parts.mkdir(parents=True)
    (parts / "a.json").write_text(json.dumps(GOOD))
    (parts / "b.json").write_text("")
    (found,) = examine(tmp_path, {"sky": {**SKY, "file_name": "parts"}})
    assert (found.cause, found.severity.value) == ("data-invalid-json", "warning")
