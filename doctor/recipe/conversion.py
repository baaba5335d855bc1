"""What the installed release's converter makes of one record: usable, dropped, or the end of the run.

Follows LLaMA-Factory's `data/aligner.py` (0.9.1) and `data/converter.py` (0.9.2 and later) and the drop rules of its
preprocessing (`len(prompt) % 2 != 1 or len(response) != 1`). A function here answers None for a usable record, else the
kind of fault and a short text that shows it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from doctor.recipe.dataset_info import Entry

# Kinds of fault of a record
NOT_AN_OBJECT = "not an object"
NO_MESSAGES = "no messages"
EMPTY_MESSAGES = "empty messages"
UNKNOWN_ROLE = "unknown role"
NO_ROLE = "no role"
ROLE_ORDER = "role order"
ODD_TURNS = "odd number of turns"
NO_ANSWER = "no answer"
NOT_TEXT = "text expected"
NO_PAIR = "no chosen and rejected pair"
NO_LABEL = "no true/false label"
TOOL_JSON = "tools or calls out of form"
PLACEHOLDERS = "placeholder count"

Fault = tuple[str, str]
Converter = Callable[[Mapping[str, Any]], "Fault | None"]

MARKS = {"images": "<image>", "videos": "<video>", "audios": "<audio>"}
_ROLES = ("user", "assistant", "observation", "function", "system")
# Stages as the loader is called: DPO loads its data as `rm`.
LOADED_AS = {"dpo": "rm"}


def converter(entry: Entry, stage: str) -> Converter:
    """The judgement of one record of this entry in this stage (`pt`, `sft`, `rm`, `ppo`, `dpo`, `kto`)."""
    stage = LOADED_AS.get(stage, stage)
    if entry.formatting == "alpaca":
        return lambda record: _alpaca(record, entry, stage)
    openai = entry.formatting == "openai"
    return lambda record: _messages(record, entry, stage, openai)


def read_columns(formatting: str, ranking: bool) -> tuple[str, ...]:
    """Keys of `columns` whose column the converter takes from every record, so that its absence is a KeyError."""
    if formatting == "openai":  # it asks for system and tools with a default
        keys = ["messages", "images", "videos", "audios", "kto_tag"]
    elif formatting == "alpaca":
        keys = ["prompt", "query", "history", "system", "tools", "images", "videos", "audios", "kto_tag"]
        keys += [] if ranking else ["response"]
    else:
        keys = ["messages", "system", "tools", "images", "videos", "audios", "kto_tag"]
    return (*keys, "chosen", "rejected") if ranking else tuple(keys)


def _column(record: Mapping[str, Any], entry: Entry, name: str) -> Any:
    column = entry.columns.get(name)
    return record.get(column) if column else None


def _alpaca(record: Mapping[str, Any], entry: Entry, stage: str) -> Fault | None:
    prompt, query = _column(record, entry, "prompt"), _column(record, entry, "query")
    for text in (prompt, query, _column(record, entry, "system")):
        if text and not isinstance(text, str):
            return NOT_TEXT, _short(text)
    history = _column(record, entry, "history")
    if isinstance(history, list) and any(not isinstance(pair, list) or len(pair) != 2 for pair in history):
        return NOT_TEXT, f"history {_short(history)}"
    if isinstance(history, list) and any(not isinstance(turn, str) for pair in history for turn in pair):
        return NOT_TEXT, f"history {_short(history)}"
    response = _column(record, entry, "response")
    label = _column(record, entry, "kto_tag")
    if stage == "kto":
        return None if isinstance(label, bool) else (NO_LABEL, _short(label))
    if stage == "rm":
        pair = (_column(record, entry, "chosen"), _column(record, entry, "rejected"))
        return None if all(isinstance(answer, str) for answer in pair) else (NO_PAIR, _short(pair))
    if stage == "sft" and not isinstance(response, str):
        return NO_ANSWER, _short(response)
    return _tools(record, entry) or _placeholders(record, entry, [prompt, query, response])


def _messages(record: Mapping[str, Any], entry: Entry, stage: str, openai: bool) -> Fault | None:
    messages, system = _column(record, entry, "messages"), _column(record, entry, "system")
    if not isinstance(messages, list) or any(not isinstance(m, dict) for m in messages):
        return NO_MESSAGES, _short(messages)
    tags = entry.tags
    role_tag, content_tag = tags["role_tag"], tags["content_tag"]
    roles = [m.get(role_tag) for m in messages]
    contents = [m.get(content_tag) for m in messages]
    if tags["system_tag"] and roles and roles[0] == tags["system_tag"]:
        roles, contents = roles[1:], contents[1:]
        messages = messages[1:]
    if openai:
        speakers = (tags["assistant_tag"], tags["function_tag"])
        odd = next((m for m in messages if m.get(role_tag) in speakers and not _carries_calls(m)), None)
        if odd is not None:
            return TOOL_JSON, f"tool_calls {_short(odd['tool_calls'])}"
        roles, contents = _tool_calls_merged(messages, roles, contents, entry)
    fault = _order(roles, entry)
    if fault:
        return fault
    if not roles:
        return EMPTY_MESSAGES, "[]"
    for content in contents:
        if not isinstance(content, str):
            return NOT_TEXT, _short(content)
    if system and not isinstance(system, str):  # added to the text of the template
        return NOT_TEXT, f"system {_short(system)}"
    if stage == "kto" and not isinstance(_column(record, entry, "kto_tag"), bool):
        return NO_LABEL, _short(_column(record, entry, "kto_tag"))
    if stage == "rm":
        pair = [_column(record, entry, name) for name in ("chosen", "rejected")]
        # Of the form openai whoever speaks is an answer, as long as a tag names him.
        good = (
            tuple(tags[f"{role}_tag"] for role in _ROLES) if openai else (tags["assistant_tag"], tags["function_tag"])
        )
        if not all(isinstance(answer, dict) and answer.get(role_tag) in good for answer in pair):
            return NO_PAIR, _short(pair)
        if not all(isinstance(answer.get(content_tag), str) for answer in pair):
            return NOT_TEXT, _short(pair)
    for role, content in zip(roles, contents, strict=True):
        if role == tags["function_tag"] and role is not None and not _are_calls(content, entry.calls_after_thought):
            return TOOL_JSON, _short(content)
    return _tools(record, entry) or _placeholders(record, entry, contents)


def _order(roles: list[Any], entry: Entry) -> Fault | None:
    """Turns must alternate: user or observation, then assistant or function; an even number, odd when ranking."""
    tags = entry.tags
    known = {tags[f"{role}_tag"] for role in _ROLES}
    accepted = ((tags["user_tag"], tags["observation_tag"]), (tags["assistant_tag"], tags["function_tag"]))
    if (
        None in roles and None in known
    ):  # it is taken for the role whose tag is not declared, which the template refuses
        return NO_ROLE, f"turn {roles.index(None) + 1} has no role"
    for turn, role in enumerate(roles):
        if not isinstance(role, str) or role not in known:
            return UNKNOWN_ROLE, _short(role)
        if role not in accepted[turn % 2]:
            return ROLE_ORDER, f"turn {turn + 1} is {_short(role)} in " + ", ".join(str(r) for r in roles[:8])
    if len(roles) % 2 != int(entry.ranking):
        return ODD_TURNS, ", ".join(str(r) for r in roles[:8])
    return None


def _carries_calls(message: Mapping[str, Any]) -> bool:
    """Whether tool_calls of a message, where it has any, are a list of objects with a function each."""
    calls = message.get("tool_calls")
    return not calls or (isinstance(calls, list) and all(isinstance(c, dict) and "function" in c for c in calls))


def _tool_calls_merged(
    messages: list[Any], roles: list[Any], contents: list[Any], entry: Entry
) -> tuple[list[Any], list[Any]]:
    """Openai style: consecutive tool answers are one turn, an assistant with tool_calls is a function turn."""
    tags = entry.tags
    merged_roles: list[Any] = []
    merged: list[Any] = []
    waiting: list[str] = []
    for message, role, content in zip(messages, roles, contents, strict=True):
        if role in (tags["assistant_tag"], tags["function_tag"]) and message.get("tool_calls"):
            # Without a tag the role is null, which stands for it as long as observation and system have tags.
            stands = tags["assistant_tag"] if tags["system_tag"] and tags["observation_tag"] else None
            role, content = tags["function_tag"] or stands, "[]"
        if role == tags["observation_tag"]:
            waiting.append(str(content))
            continue
        if waiting:
            merged_roles.append(tags["observation_tag"])
            merged.append("\n".join(waiting))
            waiting = []
        merged_roles.append(role)
        merged.append(content)
    return merged_roles, merged


def _tools(record: Mapping[str, Any], entry: Entry) -> Fault | None:
    """Tools are the text of a JSON list of objects; converters of the form `openai` take the list itself, too."""
    tools = _column(record, entry, "tools")
    if not tools:
        return None
    listed = _json(tools) if isinstance(tools, str) else tools if entry.formatting == "openai" else None
    good = isinstance(listed, list) and all(isinstance(tool, dict) for tool in listed)
    if good and entry.tools_described and isinstance(listed, list) and not all(map(_described, listed)):
        return TOOL_JSON, _short(tools)
    return None if good or listed in ("", {}) else (TOOL_JSON, _short(tools))


def _described(tool: Mapping[str, Any]) -> bool:
    """Whether the formatter that writes tools out finds all it takes: a name and parameters.properties, each an object."""
    parameters = tool.get("parameters")
    properties = parameters.get("properties") if isinstance(parameters, dict) else None
    if "name" not in tool or not isinstance(properties, dict) or not isinstance(parameters, dict):
        return False
    listed = isinstance(parameters.get("required", []), (list, str, dict))
    return listed and all(isinstance(one, dict) for one in properties.values())


def _are_calls(content: str, after_thought: bool) -> bool:
    """Whether a function turn is one call or a list of them, each an object with a name and arguments."""
    if after_thought:  # later releases take the call out of its tags, or what follows the thought
        inside = _TOOL_CALL.search(content)
        content = inside[1] if inside else _THOUGHT.sub("", content, count=1)
    calls = _json(content)
    return all(
        isinstance(call, dict) and {"name", "arguments"} <= call.keys()
        for call in (calls if isinstance(calls, list) else [calls])
    )


_TOOL_CALL = re.compile(r"<tool_call>(.*?)</tool_call>", re.S)
_THOUGHT = re.compile(r"<think>.*?</think>", re.S)


def _json(text: str) -> Any:
    """The value of a JSON text; None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _placeholders(record: Mapping[str, Any], entry: Entry, texts: list[Any]) -> Fault | None:
    for name, mark in MARKS.items():
        if not entry.columns.get(name):
            continue
        media = _column(record, entry, name)
        given = 0 if media is None else len(media) if isinstance(media, list) else 1
        wanted = sum(text.count(mark) for text in texts if isinstance(text, str))
        if given != wanted:
            return PLACEHOLDERS, f"{wanted} {mark} in the text, {given} {name}"
    return None


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
