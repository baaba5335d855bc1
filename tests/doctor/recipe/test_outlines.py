"""Records judged by their outline, and records judged one by one: the same is said of them."""

import itertools
import json
import time

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from doctor.recipe import data_scan, dataset_info, dataset_rules, json_text, record_observer, record_outline

TAGS = {"role_tag": "from", "content_tag": "value", "user_tag": "user", "assistant_tag": "assistant"}
ENTRIES = [
    {"formatting": "sharegpt", "columns": {"messages": "talk", "system": "system", "tools": "tools"}, "tags": TAGS},
    {"formatting": "sharegpt", "columns": {"messages": "talk", "chosen": "a", "rejected": "b"}, "tags": TAGS, "ranking": 1},
    {"formatting": "openai", "columns": {"messages": "talk"}},
    {"columns": {"prompt": "system", "response": "text", "history": "talk", "kto_tag": "flag"}},
    {"columns": {"prompt": "text", "images": "tools"}},
]  # fmt: skip
texts = st.sampled_from(
    ["", "q", "a longer text than a role has", "2024-01-01", "x" * 3000, "<image>", '[{"name": "f"}]']
)
scalars = st.one_of(texts, st.none(), st.booleans(), st.sampled_from([0, 5, 2**70, -1.5]))
roles = st.sampled_from(["user", "assistant", "function_call", "human", None, "", "a role that is much too long", 3])
messages = st.fixed_dictionaries({"from": roles, "value": texts}, optional={"tool_calls": scalars, "name": scalars})
talks = st.one_of(
    st.sampled_from([[], [{"from": "user", "value": "q"}, {"from": "assistant", "value": "a"}]]),
    st.lists(messages, max_size=4),
    st.lists(st.one_of(messages, scalars), max_size=2),
    scalars,
)
records = st.one_of(
    st.fixed_dictionaries(
        {"talk": talks},
        optional={"system": scalars, "text": scalars, "tools": scalars, "flag": scalars, "a": messages, "b": messages,
                  "date": texts, "turns": talks},
    ),
    scalars,
)  # fmt: skip


def scanned(path, given_entry, stage):
    info = json_text.parse(json.dumps({"d": {"file_name": "d.json", **given_entry}}))
    entry = dataset_info.entry("d", info, dataset_rules.FALLBACK)
    until = time.monotonic() + 60
    return msgspec.to_builtins(data_scan.scan(entry, [(path, path.name)], "json", stage, path.parent, until))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(records, min_size=1, max_size=6), st.sampled_from(ENTRIES), st.booleans(), st.data())
def test_outlines_change_nothing(tmp_path, monkeypatch, pool, entry, as_list, data):
    order = data.draw(st.lists(st.sampled_from(pool), max_size=20))
    stage = data.draw(st.sampled_from(["sft", "dpo", "kto", "pt"]))
    path = tmp_path / "d.json"
    path.write_text(json.dumps(order) if as_list else "\n".join(map(json.dumps, order)), encoding="utf-8")
    by_outline = scanned(path, entry, stage)
    with monkeypatch.context() as one_by_one:
        one_by_one.setattr(record_observer, "MOST_OUTLINES", 0)
        assert by_outline == scanned(path, entry, stage)


def test_many_alike_are_counted(tmp_path):
    talk = [{"from": "user", "value": "q"}, {"from": "assistant", "value": ""}]
    path = tmp_path / "d.json"
    path.write_text(json.dumps([{"talk": talk, "system": str(n), "id": n} for n in range(50)]))
    found = scanned(path, ENTRIES[0], "sft")
    assert (found["usable"], found["empty_answers"]) == (50, 50)
    assert found["columns"] == {"talk": 50, "system": 50, "id": 50}
    assert found["roles"] == {"from=user": 50, "from=assistant": 50}
    assert found["message_keys"] == {"from": 100, "value": 100}


@pytest.mark.parametrize("odd", [{"talk": [], "system": "s"}, {"talk": [{"from": "user", "value": 3}], "system": "s"}])
def test_what_is_at_fault_is_named_each_time(tmp_path, odd):
    path = tmp_path / "d.json"
    path.write_text(json.dumps([odd] * 4))
    found = scanned(path, ENTRIES[0], "sft")
    assert [fault["count"] for fault in found["faults"].values()] == [4]
    assert [e["record"] for fault in found["faults"].values() for e in fault["examples"]] == [1, 2, 3, 4]


def test_forms_are_kept_in_bounded_memory(monkeypatch):
    monkeypatch.setattr(record_outline, "MOST_FORMS", 3)
    info = json_text.parse(json.dumps({"d": {"file_name": "d.json", **ENTRIES[0]}}))
    outlines = record_outline.Outlines(dataset_info.entry("d", info, dataset_rules.FALLBACK))
    found = [outlines.of({f"column {n}": "x", "talk": [{f"key {n}": "x"}]}) for n in range(9)]
    assert [one is None for one in found] == [False] * 3 + [True] * 6
    assert len(outlines.shapes) == len(outlines.forms) == 3
    assert len(set(itertools.chain(found[:3]))) == 3


def compared(record):
    info = json_text.parse('{"d": {"file_name": "x"}}')
    found = record_outline.Outlines(dataset_info.entry("d", info, dataset_rules.FALLBACK)).of(record)
    assert found is not None
    return found[1]


LONG = "word " * 1000
TALK = {"note": None, "talk": [{"from": "user", "value": LONG}, {"from": "assistant", "value": "4"}], "count": 1}
ORDERED = {"count": 1, "talk": [{"value": LONG, "from": "user"}, {"value": "4", "from": "assistant"}], "note": None}


def test_copies_are_equal_in_whatever_order_their_keys_stand():
    assert compared(TALK) == compared(ORDERED)
    assert hash(record_outline.content(TALK)) == hash(record_outline.content(ORDERED))


@pytest.mark.parametrize(
    "other",
    [
        {**TALK, "count": True},
        {**TALK, "count": None, "note": 1},
        {**TALK, "note": ""},
        {**TALK, "talk": TALK["talk"][:1]},
        {**TALK, "talk": [*TALK["talk"][::-1]]},
        {**TALK, "talk": [{"from": "user", "value": LONG + "x"}, TALK["talk"][1]]},
        {**TALK, "talk": [{"from": "user", "value": "x" + LONG[:-1]}, TALK["talk"][1]]},
        {"note": None, "told": TALK["talk"], "count": 1},
    ],
)
def test_what_differs_is_no_copy(other):
    assert compared(other) != compared(TALK)
    assert hash(record_outline.content(other)) != hash(record_outline.content(TALK))
