"""Faults of the data and of dataset_info.json."""

from __future__ import annotations

import json

from tests.stack.reproductions.place import Place
from tests.stack.reproductions.run import Reproduction

OPENAI_TAGS = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
PACKAGES = ("datasets", "pyarrow")


def trailing_comma(place: Place) -> None:
    text = place.info.read_text()
    place.info.write_text(text[: text.rindex("\n}")] + ",\n}\n")


def placeholder_for_the_file(place: Place) -> None:
    place.write_info(file_name="your data path here")


def entry_of_another_name(place: Place) -> None:
    place.set_recipe(dataset="Sky_T1")


def turns(place: Place, role: str, content: str, names: dict[str, str]) -> None:
    """Rename keys and speakers of every turn."""
    rows = place.rows()
    for row in rows:
        row["conversations"] = [{role: names[t["from"]], content: t["value"]} for t in row["conversations"]]
    place.write_rows(rows)


def tags_left_out(place: Place) -> None:
    """user and assistant in the data, and no tags block that says so."""
    place.write_info(without=("tags",))


def openai_turns_without_tags(place: Place) -> None:
    turns(place, "role", "content", {"user": "user", "assistant": "assistant"})
    place.write_info(without=("tags",))


def format_left_out(place: Place) -> None:
    """sharegpt data that is registered as if it were alpaca's."""
    turns(place, "from", "value", {"user": "human", "assistant": "gpt"})
    place.write_info(without=("formatting", "columns", "tags"))


def column_of_another_name(place: Place) -> None:
    rows = [{"system": row["system"], "conversation": row["conversations"]} for row in place.rows()]
    place.write_rows(rows)


def system_column_not_there(place: Place) -> None:
    place.write_rows([{"conversations": row["conversations"]} for row in place.rows()])


def comma_behind_the_last_row(place: Place) -> None:
    text = place.data.read_text()
    place.data.write_text(text[: text.rindex("]")].rstrip() + ",\n]\n")


def gbk(place: Place) -> None:
    place.data.write_bytes(place.data.read_text().encode("gbk"))


def columns_incomplete(place: Place) -> None:
    place.write_info(columns={"system": "system"})


def two_types_in_a_field(place: Place) -> None:
    rows = place.rows()
    for number, row in enumerate(rows):
        row["id"] = number if number % 2 else {"split": "a"}
    place.write_rows(rows)


def one_type(place: Place) -> None:
    rows = place.rows()
    for row in rows:
        row["id"] = str(row["id"])
    place.write_rows(rows)


def every_row_begins_with_the_answer(place: Place) -> None:
    rows = place.rows()
    for row in rows:
        row["conversations"].reverse()
    place.write_rows(rows)


def questions_first(place: Place) -> None:
    every_row_begins_with_the_answer(place)


def no_source(place: Place) -> None:
    place.write_info(without=("file_name",))


def validation_of_more_than_there_is(place: Place) -> None:
    place.set_recipe(val_size=1000, eval_strategy="no")


def spreadsheet(place: Place) -> None:
    place.data.rename(place.data.with_suffix(".xlsx"))
    place.write_info(file_name="sky-t1.xlsx")


def back_to_json(place: Place) -> None:
    place.data.with_suffix(".xlsx").rename(place.data)
    place.write_info()


def ranking_data_in_sft(place: Place) -> None:
    """Pairs for DPO, registered as such, and a recipe of stage sft."""
    rows = [{"instruction": "Add.", "input": "", "chosen": "good answer", "rejected": "bad answer"} for _ in range(16)]
    place.write_rows(rows)
    columns = {"prompt": "instruction", "query": "input", "chosen": "chosen", "rejected": "rejected"}
    place.info.write_text(json.dumps({"Sky-T1": {"file_name": place.data.name, "ranking": True, "columns": columns}}))


def null_answer(place: Place) -> None:
    rows = place.rows()
    rows[0]["conversations"][1]["value"] = None
    place.write_rows(rows)


def drop_null_answer(place: Place) -> None:
    place.write_rows(place.rows()[1:])


CASES = [
    Reproduction("data-info-invalid-json", trailing_comma),
    Reproduction("data-file-missing", placeholder_for_the_file, arguments=("--dataset", "{data}")),
    Reproduction("data-entry-missing", entry_of_another_name),
    Reproduction("data-role-tag-mismatch", tags_left_out),
    Reproduction("data-role-tag-mismatch", openai_turns_without_tags, name="data-role-tag-mismatch-keys"),
    Reproduction("data-format-undeclared", format_left_out),
    Reproduction("data-column-missing", column_of_another_name),
    Reproduction("data-column-missing", system_column_not_there, name="data-column-missing-system"),
    Reproduction("data-invalid-json", comma_behind_the_last_row),
    Reproduction("data-encoding", gbk),
    Reproduction("data-info-columns-incomplete", columns_incomplete),
    Reproduction("data-schema-mixed-types", two_types_in_a_field, only="cast-field", by_hand=one_type),
    Reproduction("data-role-order", every_row_begins_with_the_answer, only="merge-turns", by_hand=questions_first),
    Reproduction("data-info-no-source", no_source, arguments=("--dataset", "{data}")),
    Reproduction("data-val-split-too-large", validation_of_more_than_there_is),
    Reproduction("data-file-type", spreadsheet, only="convert", by_hand=back_to_json),
    Reproduction("data-stage-mismatch", ranking_data_in_sft),
    Reproduction("data-null-content", null_answer, only="fill-or-drop", by_hand=drop_null_answer),
]
CASES = [case.needing(*PACKAGES) for case in CASES]
