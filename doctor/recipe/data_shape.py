"""Recognises the shape of data whatever its dataset_info.json entry says, and the entry's values that would fit it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

OPTIONAL = ("system", "tools", "history", "query", "images", "videos", "audios")

_USER: tuple[str, ...] = ("human", "user", "Human", "User", "prompter", "USER", "HUMAN")
_ASSISTANT: tuple[str, ...] = (
    "gpt",
    "assistant",
    "Assistant",
    "GPT",
    "bot",
    "model",
    "chatgpt",
    "bing",
    "bard",
    "ai",
    "AI",
    "ASSISTANT",
)
_SYSTEM: tuple[str, ...] = ("system", "System", "SYSTEM")
_OBSERVATION: tuple[str, ...] = ("observation", "tool", "tool_response", "function_response", "ipython")
_FUNCTION: tuple[str, ...] = ("function_call", "function", "tool_call")
_ROLE_KEYS = ("from", "role", "speaker", "sender", "author")
_CONTENT_KEYS = ("value", "content", "text", "message", "utterance")
_MAIN = ("messages", "prompt", "query", "response")
_ALPACA = {
    "prompt": ("instruction", "prompt", "question", "problem"),
    "query": ("input",),
    "response": ("output", "response", "answer", "completion", "solution"),
}


class Shape(msgspec.Struct, frozen=True):
    """`formatting`, and the columns and tags by which the data can be read in it. Only what is certain is filled."""

    formatting: str
    columns: dict[str, str]
    tags: dict[str, str]


def recognise(scan: Mapping[str, Any], entry: Mapping[str, Any]) -> Shape | None:
    """The shape of the records read; None where they fit neither format for certain."""
    if scan["message_keys"] and scan["messages_column"]:
        return _sharegpt(scan, entry)
    present = scan["columns"]
    columns = {key: next((c for c in names if c in present), None) for key, names in _ALPACA.items()}
    if columns["prompt"] and columns["response"]:
        return Shape("alpaca", {k: c for k, c in columns.items() if c}, {})
    return None


def _sharegpt(scan: Mapping[str, Any], entry: Mapping[str, Any]) -> Shape | None:
    keys = scan["message_keys"]
    declared = entry["tags"]
    role_key = next((k for k in (declared.get("role_tag"), *_ROLE_KEYS) if k in keys), None)
    content_key = next((k for k in (declared.get("content_tag"), *_CONTENT_KEYS) if k in keys), None)
    if role_key is None or content_key is None:
        return None
    said = {word.partition("=")[2]: n for word, n in scan["roles"].items() if word.partition("=")[0] == role_key}
    tags = {"role_tag": role_key, "content_tag": content_key}
    names: tuple[str, ...]
    for tag, names in (("user_tag", _USER), ("assistant_tag", _ASSISTANT)):
        found = max((r for r in said if r in names), key=lambda r: said[r], default=None)
        if found is None:
            return None
        tags[tag] = found
    for tag, names in (("system_tag", _SYSTEM), ("observation_tag", _OBSERVATION), ("function_tag", _FUNCTION)):
        if found := next((r for r in names if r in said), None):
            tags[tag] = found
    if set(said) - set(tags.values()):
        return None  # a role that none of the tags can name: the records have to be mended, not the entry
    formatting = entry["formatting"] if entry["formatting"] in ("sharegpt", "openai") else "sharegpt"
    return Shape(formatting, {"messages": scan["messages_column"]}, tags)


def column_for(key: str, column: str, scan: Mapping[str, Any], shape: Shape | None) -> str | None:
    """The column of the data that is meant by one that it lacks: by shape, by customary name, by spelling."""
    import difflib

    if shape is not None and shape.columns.get(key) in scan["columns"]:
        return shape.columns[key]
    customary = _ALPACA.get(key, ()) + {"system": ("system_prompt",), "tools": ("functions",)}.get(key, ())
    if found := next((name for name in customary if name in scan["columns"]), None):
        return found
    like = difflib.get_close_matches(column, list(scan["columns"]), n=1, cutoff=0.75)
    return like[0] if like else None


def repair(entry: Mapping[str, Any], shape: Shape, present: list[str]) -> dict[str, Any]:
    """Details for a fix that makes the entry fit the data.

    `entry_values`: the keys of the entry to set (whole `columns` and `tags`, because a declared mapping replaces the
    defaults); `role_tag` … `assistant_tag` and `messages_column` one by one where the shape has them.
    """
    kept = {k: c for k, c in entry["columns"].items() if c in present and k not in _MAIN}
    columns = {**shape.columns, **kept}
    values: dict[str, Any] = {"formatting": shape.formatting, "columns": columns}
    details: dict[str, Any] = {"formatting": shape.formatting}
    if shape.tags:
        values["tags"] = shape.tags
        details |= {**shape.tags, "messages_column": shape.columns["messages"], "tags": shape.tags}
    return details | {"entry_values": values, "columns": columns, "entry_fits_data": True}
