"""Records alike in everything but their texts are judged once: what an outline holds decides the judgement.

Most records of a data set have the same keys, types and roles as one before. A judgement that found nothing wrong is then
that of all of them, and only needs counting. Whatever depends on more than the outline (media, tools, calls, numbers
where text is read, a fault that quotes the record) has no outline, and is looked at one by one.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Any

from doctor.recipe.dataset_info import Entry

ROLE_KEYS = ("from", "role", "speaker", "sender", "author", "type", "user")
LONGEST_ROLE = 20  # characters; more is text
LEAST, MOST = -(2**63), 2**64 - 1  # whole numbers that a column can hold
MOST_FORMS = 1000  # different keys and types of records, and of messages
_PLAIN = (str, type(None))
_SCALARS = (*_PLAIN, bool, int, float)
_NESTED = (list, dict)


class _Shape:
    """What keys and types alone say of a record: `inside` holds further keys, `whole` are whole numbers."""

    __slots__ = ("inside", "number", "plain", "whole")

    def __init__(self, number: int, record: Mapping[str, Any], entry: Entry) -> None:
        self.number = number
        read = {column for key, column in entry.columns.items() if column and key != "kto_tag"}
        # Of a number where text is read, and of anything else, it counts what it is, not only that it is there.
        self.plain = all(
            type(value) in (*_PLAIN, *_NESTED) or (type(value) in _SCALARS and name not in read)
            for name, value in record.items()
        )
        self.inside = [name for name, value in record.items() if type(value) in _NESTED]
        self.whole = [name for name, value in record.items() if type(value) is int]


class Outlines:
    """Outlines of the records of one entry."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.possible = not any(entry.columns.get(name) for name in ("images", "videos", "audios"))
        self.role_tag, self.content_tag = entry.tags.get("role_tag"), entry.tags.get("content_tag")
        self.called = entry.tags.get("function_tag")
        self.answer = entry.columns.get("response") if entry.formatting == "alpaca" else None
        self.tools = entry.columns.get("tools")
        self.shapes: dict[tuple[Any, ...], _Shape | None] = {}
        self.forms: dict[tuple[Any, ...], tuple[int, Any] | None] = {}

    def of(self, record: dict[str, Any]) -> tuple[Any, ...] | None:
        """Equal for records that are judged alike; None where they are to be judged one by one."""
        key = (*record, *map(type, record.values()))
        try:
            shape = self.shapes[key]
        except KeyError:
            shape = self._shape(key, record)
        if shape is None or (self.tools and record.get(self.tools)):
            return None
        for name in shape.whole:
            if not LEAST <= record[name] <= MOST:
                return None
        parts: list[Any] = [shape.number, self.answer is not None and record.get(self.answer) == ""]
        forms = self.forms
        for name in shape.inside:
            items = record[name]
            if type(items) is dict:
                items = (items,)
            for item in items:
                if type(item) is not dict:
                    return None
                key = (*item, *map(type, item.values()))
                try:
                    form = forms[key]
                except KeyError:
                    form = self._form(key, item)
                if form is None:
                    return None
                number, roles = form
                parts.append(number)
                for role in roles(item) if roles else ():
                    if (role is not None and len(role) > LONGEST_ROLE) or (role == self.called and role is not None):
                        return None
                    parts.append(role)
            # The last message is the answer; that it is empty is counted.
            parts.append(bool(items) and items[-1].get(self.content_tag) == "")
        return tuple(parts)

    def _shape(self, key: tuple[Any, ...], record: Mapping[str, Any]) -> _Shape | None:
        shape = _Shape(len(self.shapes), record, self.entry)
        kept = shape if shape.plain and self.possible else None
        if len(self.shapes) < MOST_FORMS:
            self.shapes[key] = kept
            return kept
        return None

    def _form(self, key: tuple[Any, ...], item: Mapping[str, Any]) -> tuple[int, Any] | None:
        names = [name for name in item if name == self.role_tag or name in ROLE_KEYS]
        plain = all(type(value) in _SCALARS for value in item.values()) and "tool_calls" not in item
        form = None
        if plain and all(type(item[name]) in _PLAIN for name in names):
            # With one name alone itemgetter gives no tuple, so the first is asked for twice.
            form = (len(self.forms), itemgetter(names[0], *names) if names else None)
        if len(self.forms) < MOST_FORMS:
            self.forms[key] = form
            return form
        return None
