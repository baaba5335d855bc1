"""Empty answers are counted with the first of them, however the records are read, and told by their share."""

import json
import time

import msgspec
import pytest

from doctor.facts import Facts
from doctor.recipe import data_scan, data_use_judged, dataset_info, dataset_rules, json_text

CHAT = '{"s": {"file_name": "d.json", "formatting": "sharegpt", "columns": {"messages": "talk"}}}'
ALPACA = '{"s": {"file_name": "d.json"}}'


def scan(tmp_path, rows, info=ALPACA, stage="sft"):
    path = tmp_path / "d.json"
    path.write_text(json.dumps(rows, indent=0), encoding="utf-8")
    entry = dataset_info.entry("s", json_text.parse(info), dataset_rules.FALLBACK)
    return data_scan.scan(entry, [(path, path.name)], "json", stage, tmp_path, time.monotonic() + 60)


def told(found, stage="sft", **declared):
    entry = {"formatting": "alpaca", "ranking": False, "columns": {}, **declared}
    facts = {"records.scans": {"s": msgspec.to_builtins(found)}, "dataset.info_path": "i.json"}
    facts |= {"dataset.entries": {"s": entry}, "dataset.stage": stage}
    return list(data_use_judged.answers_said(Facts(facts)))


def rows(total, empty):
    return [{"instruction": f"q{n}", "output": "" if n >= total - empty else "a"} for n in range(total)]


def test_the_first_is_named(tmp_path):
    found = scan(tmp_path, rows(9, 2))
    assert (found.usable, found.empty_answers, found.first_empty.record) == (9, 2, 8)
    (finding,) = told(found)
    assert (finding.cause, finding.severity) == ("data-empty-answers", None)  # as severe as the cause
    assert [one.where for one in finding.evidence] == ["d.json", f"d.json:{found.first_empty.line}"]


@pytest.mark.parametrize(("last", "empty"), [("", 1), ("a", 0)])
def test_of_a_chat_the_last_turn_counts(tmp_path, last, empty):
    talk = [{"from": "human", "value": ""}, {"from": "gpt", "value": last}]
    assert scan(tmp_path, [{"talk": talk}], CHAT).empty_answers == empty


def test_a_few_among_many_are_a_note(tmp_path):
    (finding,) = told(scan(tmp_path, rows(300, 1)))
    assert finding.severity == "info"


def test_where_no_answer_is_learned_nothing_is_said(tmp_path):
    assert told(scan(tmp_path, rows(9, 9), stage="kto"), "kto") == []
    assert told(scan(tmp_path, rows(9, 0))) == []
    for declared in ({"formatting": "openai"}, {"ranking": True}, {"columns": {"kto_tag": "label"}}):
        assert told(scan(tmp_path, rows(9, 9)), **declared) == []
