"""Which fixes of a cause apply to a finding, and their texts with the finding's values in place. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from knowledge_base.schema import Cause, Fix, FixClass, Text

ARGUMENTS = {"model": "--model PATH", "dataset": "--dataset PATH"}  # what a user can say on the command line of `fix`
# A part of a title that needs its values, and after a bar what stands there without them: `[[{free_port}|a free port]]`.
OPTIONAL = re.compile(r"\[\[(.*?)(?:\|(.*?))?\]\]", re.DOTALL)
PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


def placeholders(value: Any) -> set[str]:
    """Names of the `{placeholders}` in the strings of a JSON-like value."""
    if isinstance(value, str):
        return set(PLACEHOLDER.findall(value))
    if isinstance(value, Mapping):
        return {name for item in [*value.keys(), *value.values()] for name in placeholders(item)}
    if isinstance(value, (list, tuple)):
        return {name for item in value for name in placeholders(item)}
    return set()


def filled(value: Any, known: Mapping[str, Any]) -> Any:
    """Placeholders replaced in every string; what is not known stays as it is written.

    A string that is one placeholder alone becomes the value itself, its type kept; where it stands in a list and the
    value is a list too, its items stand there instead (`packages: ['{requirements}']`).
    """
    if isinstance(value, str):
        whole = PLACEHOLDER.fullmatch(value)
        if whole and whole[1] in known:
            return known[whole[1]]
        return PLACEHOLDER.sub(lambda found: str(known[found[1]]) if found[1] in known else found[0], value)
    if isinstance(value, Mapping):
        return {str(filled(key, known)): filled(item, known) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items: list[Any] = []
        for item in value:
            new = filled(item, known)
            items += new if isinstance(new, list) and isinstance(item, str) else [new]
        return items
    return value


def all_known(words: str, known: Mapping[str, Any]) -> bool:
    return all(known.get(name) is not None for name in placeholders(words))


def title(text: Text, known: Mapping[str, Any], lang: str = "en") -> str:
    """A text in one language. A part in double brackets, `[[, of {rows} rows]]`, is left out where one of its values is
    unknown, or said otherwise, `[[{gpus} processes|as many processes as GPUs]]`; an argument that was not given is shown
    as it is written on the command line, any other unknown value as `…`."""
    words = OPTIONAL.sub(lambda part: part[1] if all_known(part[1], known) else part[2] or "", text.in_language(lang))
    return str(filled(words, {name: _said(known.get(name, ARGUMENTS.get(name, "…"))) for name in placeholders(words)}))


def _said(value: Any) -> Any:
    """A value as a title says it: the items of a list one after the other."""
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value


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
        if not missing or (fix.class_ is FixClass.NEEDS_ARGUMENT and missing <= ARGUMENTS.keys()):
            yield fix


def possible(cause: Cause, details: Mapping[str, Any]) -> Iterator[Fix]:
    """The fixes that may apply as well, where nothing but a log was seen: none of their conditions is known to fail, and
    what they need is unknown."""
    applies = {fix.id for fix in offered(cause, details)}
    for fix in cause.fixes:
        refused = any(details.get(name) is not None and not details[name] for name in fix.when)
        if fix.id not in applies and not refused and not any(details.get(name) for name in fix.unless):
            yield fix
