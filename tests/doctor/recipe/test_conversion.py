import pytest

from doctor.recipe import conversion, dataset_info, dataset_rules, json_text

RULES = dataset_rules.FALLBACK


def judge(given, record, stage="sft"):
    import json

    document = json_text.parse(json.dumps({"d": {"file_name": "x.json", **given}}))
    entry = dataset_info.entry("d", document, RULES)
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
            "tools are not JSON",
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
