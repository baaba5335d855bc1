"""Faults of dataset_info.json: its syntax, its entries, the columns and tags that they declare."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

from tests.faults.catalogue.recipe import values
from tests.faults.fault import Fault, Inject
from tests.faults.workspace import Workspace

DATA = ("--dataset", "{data}")


def text(change: str, into: str) -> Inject:
    """One replacement in the text of dataset_info.json, which is indented by two."""

    def inject(place: Workspace) -> None:
        before = place.info.read_text()
        assert change in before
        place.info.write_text(before.replace(change, into, 1))

    return inject


def entry(*, without: tuple[str, ...] = (), **changed: object) -> Inject:
    return lambda place: place.write_info(without=without, **changed)


def trailing_comma(place: Workspace) -> None:
    written = place.info.read_text()
    place.info.write_text(written[: written.rindex("\n}")] + ",\n}\n")


def missing_brace(place: Workspace) -> None:
    place.info.write_text(place.info.read_text().rstrip()[:-1])


def with_bom(place: Workspace) -> None:
    place.info.write_bytes(b"\xef\xbb\xbf" + place.info.read_bytes())


def in_gbk(place: Workspace) -> None:
    place.info.write_bytes(
        place.info.read_text().replace("{", '{\n  "数据": {"file_name": "甲.json"},', 1).encode("gbk")
    )


def as_a_list(place: Workspace) -> None:
    info = json.loads(place.info.read_text())
    place.info.write_text(json.dumps([{"name": name, **entry} for name, entry in info.items()], indent=2))


def moved_away(place: Workspace) -> None:
    """The user stands one folder too high."""
    (place.root / "data").rename(place.root / "datasets")
    (place.root / "src").mkdir()
    (place.root / "datasets").rename(place.root / "src/data")


def replaced(change: Callable[[dict[str, Any]], Any]) -> Inject:
    """Something else in the place of the entry."""

    def inject(place: Workspace) -> None:
        info = json.loads(place.info.read_text())
        place.info.write_text(json.dumps({name: change(entry) for name, entry in info.items()}, indent=2))

    return inject


PARQUET = """
import json, sys
import pyarrow, pyarrow.parquet
rows = [{row} for row in json.load(open(sys.argv[1]))]
pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), sys.argv[2])
"""


def in_parquet(row: str) -> Inject:
    """The data as a Parquet file, written by the pyarrow that will read it; `row` is an expression."""

    def inject(place: Workspace) -> None:
        file = place.data.with_suffix(".parquet")
        script = PARQUET.replace("{row}", row)
        subprocess.run([str(place.environment.python), "-c", script, str(place.data), str(file)], check=True)
        place.write_info(file_name=file.name)

    return inject


FAULTS = [
    Fault("info-split-slice", "data-split-missing", 'split: "train[:x]"', entry(split="train[:x]"), "current full"),
    Fault("info-trailing-comma", "data-info-invalid-json", "a comma behind the last entry", trailing_comma),
    Fault("info-comma-missing", "data-info-invalid-json", "no comma between two keys", text('",\n', '"\n')),
    Fault("info-brace-missing", "data-info-invalid-json", "the last brace is missing", missing_brace, "current full"),
    Fault("info-single-quotes", "data-info-invalid-json", "a name in single quotes", text('"Sky-T1"', "'Sky-T1'")),
    Fault("info-comment", "data-info-invalid-json", "a // comment", text("{", "{  // our data"), "current lora"),
    Fault(
        "info-python-none",
        "data-info-invalid-json",
        "None instead of null",
        text('"formatting"', '"subset": None,\n    "formatting"'),
    ),
    Fault("info-full-width-comma", "data-info-invalid-json", "a full-width comma", text('",\n', '"，\n')),
    Fault("info-bom", "data-info-invalid-json", "a byte order mark", with_bom),
    Fault("info-gbk", "data-encoding", "dataset_info.json in GBK", in_gbk, "sky-t1 lora"),
    Fault("info-list", "data-info-invalid-json", "a list of entries", as_a_list, "current full", healable=False),
    Fault("dataset-misspelt", "data-entry-missing", "dataset: Sky_T1", values(dataset="Sky_T1")),
    Fault("dataset-case", "data-entry-missing", "dataset: sky-t1", values(dataset="sky-t1"), "current lora"),
    Fault("dataset-is-a-file", "data-entry-missing", "dataset: Sky-T1.json", values(dataset="Sky-T1.json")),
    Fault(
        "dataset-unknown", "data-entry-missing", "dataset: mine, not registered", values(dataset="mine"), arguments=DATA
    ),
    Fault(
        "eval-dataset-unknown",
        "data-entry-missing",
        "eval_dataset: validation, not registered",
        values(eval_dataset="validation"),
        "current full",
        healable=False,
    ),
    Fault("dataset-dir-wrong", "cli-wrong-workdir", "data/dataset_info.json lies in another folder", moved_away),
    Fault(
        "file-placeholder",
        "data-file-missing",
        "file_name: your data path here",
        entry(file_name="your data path here"),
        arguments=DATA,
    ),
    Fault("file-case", "data-file-missing", "file_name: Sky-T1.json", entry(file_name="Sky-T1.json")),
    Fault(
        "file-folder-twice",
        "data-file-missing",
        "file_name: data/sky-t1.json",
        entry(file_name="data/sky-t1.json"),
        "current full",
    ),
    Fault(
        "file-of-another-machine",
        "data-file-missing",
        "an absolute path of another machine",
        entry(file_name="/home/other/sky-t1.json"),
        "current lora",
        arguments=DATA,
    ),
    Fault(
        "no-source", "data-info-no-source", "an entry without file_name", entry(without=("file_name",)), arguments=DATA
    ),
    Fault("key-format", "data-format-undeclared", '"format" instead of "formatting"', text('"formatting"', '"format"')),
    Fault(
        "formatting-unknown",
        "data-format-undeclared",
        "formatting: share_gpt",
        entry(formatting="share_gpt"),
        "current full",
    ),
    Fault(
        "formatting-missing",
        "data-format-undeclared",
        "sharegpt data without formatting",
        entry(without=("formatting",)),
    ),
    Fault(
        "columns-incomplete",
        "data-info-columns-incomplete",
        "columns without messages",
        entry(columns={"system": "system"}),
    ),
    Fault(
        "columns-of-another-file",
        "data-column-missing",
        "columns: messages: messages",
        entry(columns={"messages": "messages", "system": "system"}),
        "current full",
    ),
    Fault(
        "system-column-absent",
        "data-column-missing",
        "columns: system: prompt",
        entry(columns={"messages": "conversations", "system": "prompt"}),
    ),
    Fault("tags-missing", "data-role-tag-mismatch", "user and assistant without tags", entry(without=("tags",))),
    Fault(
        "tags-of-openai",
        "data-role-tag-mismatch",
        "role_tag: role, the data have from",
        entry(tags={"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}),
    ),
    Fault(
        "assistant-tag-wrong",
        "data-role-tag-mismatch",
        "assistant_tag: gpt",
        entry(tags={"role_tag": "from", "content_tag": "value", "user_tag": "user", "assistant_tag": "gpt"}),
        "current lora",
    ),
    Fault("split-unknown", "data-split-missing", "split: validation", entry(split="validation")),
    Fault("ranking-in-sft", "data-stage-mismatch", "ranking data with stage: sft", entry(ranking=True)),
    Fault(
        "sft-data-in-dpo",
        "data-stage-mismatch",
        "stage: dpo with sft data",
        values(stage="dpo"),
        "current lora",
        healable=False,
    ),
    Fault(
        "sft-data-in-kto",
        "data-stage-mismatch",
        "stage: kto with sft data",
        values(stage="kto"),
        "sky-t1 lora",
        healable=False,
    ),
    Fault(
        "entry-null", "data-format-undeclared", "an entry that is null", replaced(lambda entry: None), healable=False
    ),
    Fault(
        "entry-is-a-name",
        "data-format-undeclared",
        "the file name in the place of the entry",
        replaced(lambda entry: entry["file_name"]),
        healable=False,
    ),
    Fault(
        "entry-is-a-list",
        "data-format-undeclared",
        "the entry in a list",
        replaced(lambda entry: [entry]),
        "current full",
        healable=False,
    ),
    Fault("columns-null", "data-format-undeclared", "columns: null", entry(columns=None), healable=False),
    Fault("samples-of-entry-zero", "data-format-undeclared", "num_samples: 0", entry(num_samples=0), healable=False),
    Fault(
        "samples-of-entry-negative",
        "data-format-undeclared",
        "num_samples: -1",
        entry(num_samples=-1),
        "current full",
        healable=False,
    ),
    Fault("file-with-slash", "data-file-missing", "file_name: sky-t1.json/", entry(file_name="sky-t1.json/")),
    Fault(
        "parquet-turns-as-text",
        "data-invalid-json",
        "a Parquet file with the turns as text",
        in_parquet("{**row, 'conversations': json.dumps(row['conversations'])}"),
        healable=False,
    ),
    Fault(
        "parquet-other-keys",
        "data-role-tag-mismatch",
        "a Parquet file with role and content, the tags of from and value",
        in_parquet(
            "{**row, 'conversations': [{'role': t['from'], 'content': t['value']} for t in row['conversations']]}"
        ),
        "current full",
        healable=False,
    ),
]
