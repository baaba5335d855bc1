"""Which fixes of a cause apply to a finding, and their texts with the finding's values in place. Pure."""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping
from typing import Any

from knowledge_base.schema import Cause, Fix, FixClass, Text

ARGUMENTS = frozenset({"model", "dataset"})  # what a user can say on the command line of `fix`
_FORMATTER = string.Formatter()


def placeholders(value: Any) -> set[str]:
    """Names of the `{placeholders}` in the strings of a JSON-like value."""
    if isinstance(value, str):
        return {name for _, name, _, _ in _FORMATTER.parse(value) if name}
    if isinstance(value, Mapping):
        return set().union(*(placeholders(item) for pair in value.items() for item in pair)) if value else set()
    if isinstance(value, (list, tuple)):
        return set().union(*(placeholders(item) for item in value)) if value else set()
    return set()


def filled(value: Any, known: Mapping[str, Any]) -> Any:
    """The value with placeholders replaced. A string that is one placeholder alone takes the detail's own type."""
    if isinstance(value, str):
        parts = list(_FORMATTER.parse(value))
        if len(parts) == 1 and parts[0][0] == "" and parts[0][1]:
            return known[parts[0][1]]
        return "".join(text + (str(known[name]) if name else "") for text, name, _, _ in parts)
    if isinstance(value, Mapping):
        return {filled(key, known): filled(item, known) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [filled(item, known) for item in value]
    return value


def title(text: Text, known: Mapping[str, Any], lang: str = "en") -> str:
    """A text in one language; an argument that was not given is shown as it is written on the
    command line, any other unknown value as `…`."""
    words = text.in_language(lang)
    unsaid = {name: f"--{name} PATH" for name in ARGUMENTS}
    return str(filled(words, {name: known.get(name, unsaid.get(name, "…")) for name in placeholders(words)}))


def lacking(fix: Fix, details: Mapping[str, Any]) -> set[str]:
    """Placeholders of the fix's actions that the details do not fill."""
    return {name for name in placeholders(fix.actions) if details.get(name) is None}


def offered(cause: Cause, details: Mapping[str, Any], arguments: Mapping[str, str] | None = None) -> Iterator[Fix]:
    """The fixes that apply, in the cause's order of proof.

    A fix that lacks only what the user can say (`needs-argument`) is offered; `fix` asks for it when it is chosen.
    """
    given = {**details, **(arguments or {})}
    for fix in cause.fixes:
        if not all(given.get(name) for name in fix.when) or any(given.get(name) for name in fix.unless):
            continue
        missing = lacking(fix, given)
        if not missing or (fix.class_ is FixClass.NEEDS_ARGUMENT and missing <= ARGUMENTS):
            yield fix
