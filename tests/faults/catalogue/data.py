"""Faults of the data files: syntax, encoding, types, records that the converter drops or that end the run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from typing import Any

from tests.faults.fault import Fault, Inject
from tests.faults.workspace import Workspace

Row = dict[str, Any]
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "5e" * 32 + "\nsize 471992\n"
PIXEL = bytes.fromhex(  # a PNG of one pixel
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763f8cfc000000301010018dd8db0"
    "0000000049454e44ae426082"
)
DATA = ("--dataset", "{root}/sky-t1-whole.json")


def rows(change: Callable[[int, Row], None]) -> Inject:
    """Change every row; it is given its number."""

    def inject(place: Workspace) -> None:
        changed = place.rows()
        for number, row in enumerate(changed):
            change(number, row)
        place.write_rows(changed)

    return inject


def raw(change: Callable[[str], str | bytes], keep: bool = True) -> Inject:
    """Change the text of the file; a whole copy lies elsewhere, as after another download."""

    def inject(place: Workspace) -> None:
        if keep:
            shutil.copy(place.data, place.root.parent / "sky-t1-whole.json")
        changed = change(place.data.read_text())
        place.data.write_bytes(changed if isinstance(changed, bytes) else changed.encode())

    return inject


def other_file(name: str, write: Callable[[Workspace], str | bytes]) -> Inject:
    """Another data file in the place of the JSON, which a copy keeps."""

    def inject(place: Workspace) -> None:
        shutil.copy(place.data, place.root.parent / "sky-t1-whole.json")
        written = write(place)
        file = place.data.with_name(name)
        file.write_bytes(written if isinstance(written, bytes) else written.encode())
        place.write_info(file_name=name)

    return inject


def jsonl(place: Workspace) -> str:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in place.rows()) + "\n"


def line_cut(place: Workspace) -> str:
    lines = jsonl(place).splitlines()
    lines[7] = lines[7][: len(lines[7]) // 2]
    return "\n".join(lines) + "\n"


def folder(*files: tuple[str, Callable[[Workspace], str]]) -> Inject:
    """A folder of data files as file_name."""

    def inject(place: Workspace) -> None:
        shutil.copy(place.data, place.root.parent / "sky-t1-whole.json")
        parts = place.data.with_name("parts")
        parts.mkdir()
        for name, write in files:
            (parts / name).write_text(write(place))
        place.write_info(file_name="parts")

    return inject


def without_system(place: Workspace) -> str:
    return json.dumps([{"conversations": row["conversations"], "more": 1} for row in place.rows()])


def turn(number: int, at: int, **changed: Any) -> Callable[[int, Row], None]:
    """Change one turn of one row."""
    return lambda n, row: row["conversations"][at].update(changed) if n == number else None


def reverse(which: Callable[[int], bool]) -> Callable[[int, Row], None]:
    return lambda n, row: row["conversations"].reverse() if which(n) else None


def alpaca(entry: Row, **columns: str) -> Inject:
    """Instruction data, registered with these columns."""

    def inject(place: Workspace) -> None:
        place.write_rows([{"instruction": f"Add {n}.", "input": "", **entry} for n in range(16)])
        declared = {"columns": columns} if columns else {}
        place.info.write_text(json.dumps({"Sky-T1": {"file_name": place.data.name, **declared}}, indent=2))

    return inject


def set_key(key: str, value: Callable[[int], Any]) -> Callable[[int, Row], None]:
    return lambda n, row: row.update({key: value(n)})


def tool_call(number: int, row: Row) -> None:
    row["conversations"][1] = {"from": "function_call", "value": "{name: add}"}


def function_calls(place: Workspace) -> None:
    rows(tool_call)(place)
    tags = {"role_tag": "from", "content_tag": "value", "user_tag": "user", "assistant_tag": "assistant"}
    place.write_info(tags={**tags, "function_tag": "function_call"})


def images(number: int, row: Row) -> None:
    row["images"] = ["photos/1.png"]
    row["conversations"][0]["value"] = "<image>" + row["conversations"][0]["value"]


def with_images(template: str) -> Inject:
    def inject(place: Workspace) -> None:
        rows(images)(place)
        place.write_info(columns={"messages": "conversations", "system": "system", "images": "images"})
        place.set_recipe(template=template)

    return inject


def images_there(place: Workspace) -> None:
    with_images("qwen")(place)
    (place.root / "data/photos").mkdir()
    (place.root / "data/photos/1.png").write_bytes(PIXEL)


SYNTAX = [
    Fault(
        "rows-trailing-comma",
        "data-invalid-json",
        "a comma behind the last row",
        raw(lambda text: text[: text.rindex("]")].rstrip() + ",\n]\n"),
    ),
    Fault(
        "rows-truncated",
        "data-invalid-json",
        "the file ends in the middle",
        raw(lambda text: text[: len(text) // 2]),
        "current full",
        arguments=DATA,
    ),
    Fault(
        "rows-concatenated",
        "data-invalid-json",
        "two lists, one behind the other",
        raw(lambda text: text + text),
        arguments=DATA,
    ),
    Fault("file-empty", "data-invalid-json", "an empty file", raw(lambda text: ""), "current lora", arguments=DATA),
    Fault("list-empty", "data-invalid-json", "an empty list", raw(lambda text: "[]"), arguments=DATA),
    Fault("data-pointer", "data-invalid-json", "git-lfs pointer text", raw(lambda text: POINTER), arguments=DATA),
    Fault(
        "data-html",
        "data-invalid-json",
        "a saved web page",
        raw(lambda text: "<!DOCTYPE html>\n<html></html>\n"),
        "sky-t1 lora",
        arguments=DATA,
    ),
    Fault(
        "line-truncated",
        "data-invalid-json",
        "a broken line of a .jsonl",
        other_file("sky-t1.jsonl", line_cut),
        "current full",
        arguments=DATA,
    ),
    Fault(
        "rows-in-an-object",
        "data-column-missing",
        'rows under a key "data"',
        raw(lambda text: json.dumps({"data": json.loads(text)})),
        "sky-t1 lora",
        arguments=DATA,
    ),
    Fault(
        "rows-of-python",
        "data-invalid-json",
        "rows printed by Python, in single quotes",
        raw(lambda text: str(json.loads(text))),
        "current lora",
        arguments=DATA,
    ),
]
ENCODING = [
    Fault("data-gbk", "data-encoding", "the file is in GBK", raw(lambda text: text.encode("gbk"))),
    Fault(
        "data-utf16", "data-encoding", "the file is in UTF-16", raw(lambda text: text.encode("utf-16")), "current full"
    ),
    Fault(
        "data-one-bad-byte",
        "data-encoding",
        "one byte that is not UTF-8",
        raw(lambda text: text.encode().replace("相加".encode(), b"\xff\xfe", 1)),
        "sky-t1 lora",
        arguments=DATA,
    ),
]
FORMAT = [
    Fault(
        "data-xlsx",
        "data-file-type",
        "a spreadsheet",
        other_file("sky-t1.xlsx", lambda place: b"PK\x03\x04xl"),
        arguments=DATA,
    ),
    Fault(
        "data-without-suffix",
        "data-file-type",
        "no suffix",
        other_file("sky-t1", jsonl),
        "current full",
        arguments=DATA,
    ),
    Fault(
        "data-not-parquet",
        "data-file-type",
        "a .parquet that is none",
        other_file("sky-t1.parquet", jsonl),
        arguments=DATA,
    ),
    Fault(
        "folder-of-two-types",
        "data-file-type",
        "a folder with json and csv",
        folder(("a.json", lambda place: json.dumps(place.rows())), ("b.csv", lambda place: "a,b\n1,2\n")),
        arguments=DATA,
    ),
    Fault(
        "folder-of-two-schemas",
        "data-schema-mixed-types",
        "two files with different columns",
        folder(("a.json", lambda place: json.dumps(place.rows())), ("b.json", without_system)),
        "current lora",
        arguments=DATA,
    ),
]
TYPES = [
    Fault(
        "id-number-or-object",
        "data-schema-mixed-types",
        "a field that is a number or an object",
        rows(set_key("id", lambda n: n if n % 2 else {"split": "a"})),
        arguments=DATA,
        healable=False,
    ),
    Fault(
        "text-or-number",
        "data-schema-mixed-types",
        "a number where the others have text",
        rows(turn(5, 1, value=11)),
        "current full",
        healable=False,
    ),
    Fault(
        "text-or-list",
        "data-schema-mixed-types",
        "a list of parts where the others have text",
        rows(turn(5, 0, value=[{"type": "text", "text": "What?"}])),
        "sky-t1 lora",
        healable=False,
    ),
    Fault(
        "turns-as-text",
        "data-invalid-json",
        "conversations written as text",
        rows(lambda n, row: row.update(conversations=json.dumps(row["conversations"]))),
        healable=False,
    ),
    Fault("answer-null", "data-null-content", "an answer that is null", rows(turn(0, 1, value=None)), healable=False),
    Fault(
        "turns-null",
        "data-null-content",
        "a row without conversations",
        rows(lambda n, row: row.update(conversations=None) if n == 3 else None),
        "current lora",
        healable=False,
    ),
]
RECORDS = [
    Fault(
        "answers-first",
        "data-role-order",
        "every row begins with the answer",
        rows(reverse(lambda n: True)),
        healable=False,
    ),
    Fault(
        "answers-first-current",
        "data-role-order",
        "every row begins with the answer",
        rows(reverse(lambda n: True)),
        "current full",
        healable=False,
    ),
    Fault(
        "some-answers-first",
        "data-role-order",
        "four rows begin with the answer and are left out",
        rows(reverse(lambda n: n < 4)),
        "current lora",
        healable=False,
        warns=True,
    ),
    Fault(
        "question-without-answer",
        "data-role-order",
        "every row ends with a question",
        rows(lambda n, row: row["conversations"].append({"from": "user", "value": "And?"})),
        healable=False,
    ),
    Fault(
        "role-unknown",
        "data-role-tag-mismatch",
        "one turn from a role that no tag names",
        rows(turn(4, 1, **{"from": "bot"})),
        healable=False,
    ),
    Fault(
        "column-renamed",
        "data-column-missing",
        "the column is called conversation",
        rows(lambda n, row: row.update(conversation=row.pop("conversations"))),
    ),
    Fault(
        "alpaca-without-output",
        "data-column-missing",
        "instruction data without output",
        alpaca({"answer": "11"}, prompt="instruction", query="input", response="output"),
        "current full",
    ),
    Fault(
        "alpaca-undeclared",
        "data-column-missing",
        "columns of other names, no mapping",
        alpaca({"response": "11"}),
        "sky-t1 lora",
    ),
    Fault(
        "tools-not-json",
        "data-tools-invalid-json",
        "function_call whose value is not JSON",
        function_calls,
        "current full",
        healable=False,
    ),
    Fault(
        "images-for-a-text-model",
        "tmpl-wrong-for-model",
        "images with a template for text",
        images_there,
        healable=False,
    ),
]
MORE = [
    Fault(
        "role-in-capitals",
        "data-role-tag-mismatch",
        "every role begins with a capital",
        rows(
            lambda n, row: [turn.update({"from": turn["from"].capitalize()}) for turn in row["conversations"]] and None
        ),
        "current full",
    ),
    Fault(
        "data-csv",
        "data-format-undeclared",
        "a .csv of questions and answers, declared as chats",
        other_file("sky-t1.csv", lambda place: "question,answer\n" + "What?,That.\n" * 16),
        arguments=DATA,
    ),
]
FAULTS = [*SYNTAX, *ENCODING, *FORMAT, *TYPES, *RECORDS, *MORE]
