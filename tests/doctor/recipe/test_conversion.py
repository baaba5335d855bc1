import json

import msgspec
import pytest

from doctor.recipe import conversion, dataset_info, dataset_rules, json_text

RULES = dataset_rules.FALLBACK


def judge(given, record, stage="sft", rules=RULES):
    document = json_text.parse(json.dumps({"d": {"file_name": "x.json", **given}}))
    entry = dataset_info.entry("d", document, rules)
    fault = conversion.converter(entry, stage)(record)
    return fault and fault[0]


def talk(*roles):
    return {"conversations": [{"from": role, "value": "text"} for role in roles]}


SHAREGPT = {"formatting": "sharegpt"}


@pytest.mark.parametrize(
    ("record", "fault"),
    [
        (talk("human", "gpt"), None),
        (talk("system", "human", "gpt"), None),
        (talk("human", "gpt", "observation", "gpt"), None),
        (talk("human", "gpt", "human"), "odd number of turns"),
        (talk("gpt", "human"), "role order"),
        (talk("human", "human"), "role order"),
        (talk("user", "assistant"), "unknown role"),
        (talk(), "empty messages"),
        ({"conversations": None}, "no messages"),
        ({"conversations": "text"}, "no messages"),
        ({"conversations": [{"from": "human", "value": "x"}, {"from": "gpt", "value": None}]}, "text expected"),
        (
            {"conversations": [{"from": "human", "value": "x"}, {"from": "function_call", "value": "f("}]},
            "tools or calls out of form",
        ),
    ],
)
def test_sharegpt_records(record, fault):
    assert judge(SHAREGPT, record) == fault


def test_tags_replace_the_defaults_so_that_a_system_message_is_unknown_without_its_tag():
    tags = {"role_tag": "from", "content_tag": "value", "user_tag": "user", "assistant_tag": "assistant"}
    assert judge({**SHAREGPT, "tags": tags}, talk("user", "assistant")) is None
    assert judge({**SHAREGPT, "tags": tags}, talk("system", "user", "assistant")) == "unknown role"


@pytest.mark.parametrize(
    ("stage", "record", "fault"),
    [
        ("sft", {"instruction": "q", "input": "", "output": "a"}, None),
        ("sft", {"instruction": "q", "input": "", "output": None}, "no answer"),
        ("pt", {"instruction": "q", "input": ""}, None),
        ("sft", {"instruction": 3, "input": "", "output": "a"}, "text expected"),
        ("kto", {"instruction": "q", "input": "", "output": "a"}, "no true/false label"),
        ("dpo", {"instruction": "q", "input": "", "output": "a"}, "no chosen and rejected pair"),
    ],
)
def test_alpaca_records(stage, record, fault):
    assert judge({}, record, stage) == fault


def test_ranking_needs_an_odd_number_of_turns_and_a_pair():
    given = {**SHAREGPT, "ranking": True, "columns": {"messages": "conversations", "chosen": "c", "rejected": "r"}}
    pair = {"c": {"from": "gpt", "value": "x"}, "r": {"from": "gpt", "value": "y"}}
    assert judge(given, talk("human") | pair, "dpo") is None
    assert judge(given, talk("human", "gpt") | pair, "dpo") == "odd number of turns"
    assert judge(given, talk("human") | {"c": "x", "r": "y"}, "dpo") == "no chosen and rejected pair"


def test_openai_style_joins_answers_of_tools():
    given = {"formatting": "openai", "columns": {"messages": "messages"}, "tags": {
        "role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant",
        "observation_tag": "tool", "function_tag": "function", "system_tag": "system"}}  # fmt: skip
    calls = [{"function": {"name": "f", "arguments": "{}"}}]
    messages = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "content": "1"},
        {"role": "tool", "content": "2"},
        {"role": "assistant", "content": "a"},
    ]
    assert judge(given, {"messages": messages}) is None


def test_placeholders_are_counted_against_the_media():
    given = {"columns": {"prompt": "instruction", "response": "output", "images": "images"}}
    record = {"instruction": "<image> what?", "output": "a cat", "images": ["a.png"]}
    assert judge(given, record) is None
    assert judge(given, record | {"images": []}) == "placeholder count"


CALL = '{"name": "f", "arguments": {}}'


@pytest.mark.parametrize(
    ("content", "after_thought", "fault"),
    [
        (CALL, False, None),
        (f"[{CALL}, {CALL}]", False, None),
        ("[]", False, None),
        ('{"name": "f"}', False, "tools or calls out of form"),
        ('"f"', False, "tools or calls out of form"),
        (f"<think>hm</think>\n{CALL}", True, None),
        (f"I call <tool_call>{CALL}</tool_call>", True, None),
        (f"<think>hm</think>\n{CALL}", False, "tools or calls out of form"),
        ("<tool_call>f()</tool_call>", True, "tools or calls out of form"),
    ],
)
def test_a_function_turn_is_calls_with_a_name_and_arguments(content, after_thought, fault):
    rules = msgspec.structs.replace(RULES, calls_after_thought=after_thought)
    turns = [{"from": "human", "value": "q"}, {"from": "function_call", "value": content}]
    assert judge(SHAREGPT, {"conversations": turns}, rules=rules) == fault


@pytest.mark.parametrize(
    ("form", "tools", "fault"),
    [
        ("sharegpt", '[{"name": "f"}]', None),
        ("sharegpt", "", None),
        ("sharegpt", None, None),
        ("sharegpt", "[]", None),
        ("sharegpt", '{"name": "f"}', "tools or calls out of form"),
        ("sharegpt", '["f"]', "tools or calls out of form"),
        ("sharegpt", [{"name": "f"}], "tools or calls out of form"),
        ("openai", [{"name": "f"}], None),
    ],
)
def test_tools_are_the_text_of_a_list_of_objects(form, tools, fault):
    given = {"formatting": form, "columns": {"messages": "conversations", "tools": "tools"}}
    assert judge(given, talk("human", "gpt") | {"tools": tools}) == fault


def test_where_only_sharegpt_reads_tags_another_form_keeps_the_default_ones():
    given = {"formatting": "openai", "tags": {"role_tag": "role", "content_tag": "content"}}
    rules = msgspec.structs.replace(RULES, tags_only_of_sharegpt=True)
    entry = dataset_info.entry("d", json_text.parse(json.dumps({"d": {"file_name": "x", **given}})), rules)
    assert (entry.tags["role_tag"], entry.declared_tags) == ("from", ["role_tag", "content_tag"])


def test_of_the_form_openai_any_role_with_a_tag_answers():
    pair = {"messages": [{"role": "user", "content": "x"}], "chosen": {"role": "assistant", "content": "a"}}
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    columns = {"messages": "messages", "chosen": "chosen", "rejected": "rejected"}
    for role, formatting, fault in (
        ("user", "openai", None), ("user", "sharegpt", "no chosen and rejected pair"),
        ("bot", "openai", "no chosen and rejected pair"), ("assistant", "sharegpt", None),
    ):  # fmt: skip
        given = {"formatting": formatting, "ranking": True, "columns": columns, "tags": tags}
        assert judge(given, {**pair, "rejected": {"role": role, "content": "b"}}, "rm") == fault


@pytest.mark.parametrize(
    ("calls", "fault"),
    [
        ([{"type": "function", "function": {"name": "f", "arguments": "{}"}}], None), (None, None), ([], None),
        ("f()", "tools or calls out of form"), ([{"name": "f"}], "tools or calls out of form"),
        (["f"], "tools or calls out of form"),
    ],
)  # fmt: skip
def test_calls_of_the_form_openai(calls, fault):
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant",
            "function_tag": "function"}  # fmt: skip
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y", "tool_calls": calls}]
    assert judge({"formatting": "openai", "columns": {"messages": "m"}, "tags": tags}, {"m": turns}) == fault


@pytest.mark.parametrize(
    ("more", "fault"),
    [({"system_tag": "system", "observation_tag": "tool"}, None), ({"observation_tag": "tool"}, "no role"),
     ({"system_tag": "system"}, "odd number of turns")],
)  # fmt: skip
def test_calls_without_a_tag_for_them(more, fault):
    """Their role is null, which is taken for that of whatever else has no tag."""
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    given = {"formatting": "openai", "columns": {"messages": "m"}, "tags": tags | more}
    assert judge(given, {"m": [{"role": "user", "content": "x"}, call]}) == fault
