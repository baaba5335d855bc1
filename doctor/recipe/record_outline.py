"""Records alike in everything but their texts are judged once: what an outline holds decides the judgement.

Most records of a data set have the same keys, types and roles as one before. A judgement that found nothing wrong is then
that of all of them, and only needs counting. Whatever depends on more than the outline (media, tools, calls, numbers
where text is read, a fault that quotes the record) has no outline, and is looked at one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
ENDS = 512  # characters at each end by which a long text is compared
_LONG = 4 * ENDS


def content(value: Any) -> Any:
    """What makes two records copies, as something that can be hashed: not the order of keys, and of a long text its
    length and its ends."""
    kind = type(value)
    if kind is str:
        return value if len(value) < _LONG else (len(value), value[:ENDS], value[-ENDS:])
    if kind is dict:
        return frozenset(zip(value, map(content, value.values())))  # noqa: B905 as long as each other
    if kind is list:
        return ("list", *map(content, value))
    # By name, and nothing for null: where types and None lie in memory differs from process to process.
    return kind.__name__, 0 if value is None else value


class _Shape:
    """What keys and types alone say of a record: `inside` holds further keys, `whole` are whole numbers. `flat` are the
    other keys, and `keys` stands for all of them, in whatever order they are written."""

    __slots__ = ("flat", "inside", "keys", "number", "plain", "whole")

    def __init__(self, number: int, record: Mapping[str, Any], entry: Entry) -> None:
        self.number = number
        read = {column for key, column in entry.columns.items() if column and key != "kto_tag"}
        # Of a number where text is read, and of anything else, it counts what it is, not only that it is there.
        self.plain = all(
            type(value) in (*_PLAIN, *_NESTED) or (type(value) in _SCALARS and name not in read)
            for name, value in record.items()
        )
        self.inside = sorted(name for name, value in record.items() if type(value) in _NESTED)
        self.flat = sorted(name for name in record if name not in self.inside)
        self.keys = hash((tuple(self.flat), tuple(self.inside)))
        self.whole = [name for name, value in record.items() if type(value) is int]


# Of a message's keys and types: its number, what gives its roles, all its values, and what stands for its keys.
_Form = tuple[int, Callable[[Mapping[str, Any]], Any] | None, Callable[[Mapping[str, Any]], Any], int]


def _getter(names: list[str]) -> Callable[[Mapping[str, Any]], Any]:
    """Gives the values of these keys. With one name alone itemgetter gives no tuple, so the first is asked for twice."""
    return itemgetter(names[0], *names) if names else lambda item: ()


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
        self.forms: dict[tuple[Any, ...], _Form | None] = {}

    def of(self, record: dict[str, Any]) -> tuple[tuple[Any, ...], int] | None:
        """The outline, equal for records that are judged alike, and the hash of `content`'s sense, equal for copies.

        None where a record is to be judged, and compared, by itself. Both come of one walk, which is half of what is
        done for a record beside decoding it.
        """
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
        compared: list[Any] = [shape.keys]
        for name in shape.flat:
            value = record[name]
            short = type(value) is str and len(value) < _LONG
            compared.append(value if short else content(value))
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
                number, roles, values, keys = form
                parts.append(number)
                compared.append(keys)
                for value in values(item):
                    short = type(value) is str and len(value) < _LONG
                    compared.append(value if short else content(value))
                for role in roles(item) if roles else ():
                    if (role is not None and len(role) > LONGEST_ROLE) or (role == self.called and role is not None):
                        return None
                    parts.append(role)
            # The last message is the answer; that it is empty is counted.
            parts.append(bool(items) and items[-1].get(self.content_tag) == "")
            compared.append(len(items) if type(record[name]) is list else -1)
        return tuple(parts), hash(tuple(compared))

    def _shape(self, key: tuple[Any, ...], record: Mapping[str, Any]) -> _Shape | None:
        shape = _Shape(len(self.shapes), record, self.entry)
        kept = shape if shape.plain and self.possible else None
        if len(self.shapes) < MOST_FORMS:
            self.shapes[key] = kept
            return kept
        return None

    def _form(self, key: tuple[Any, ...], item: Mapping[str, Any]) -> _Form | None:
        names = [name for name in item if name == self.role_tag or name in ROLE_KEYS]
        plain = all(type(value) in _SCALARS for value in item.values()) and "tool_calls" not in item
        form: _Form | None = None
        if plain and all(type(item[name]) in _PLAIN for name in names):
            ordered = sorted(item)
            form = (len(self.forms), _getter(names) if names else None, _getter(ordered), hash(tuple(ordered)))
        if len(self.forms) < MOST_FORMS:
            self.forms[key] = form
            return form
        return None
