"""Edits the launch profile, which doctor.launch_profile reads: one line changes, the rest stays."""

from __future__ import annotations

import re
from collections.abc import Collection

from doctor import launch_profile
from fixes.edit.text import decode
from fixes.errors import CannotEdit

HEADER = "# Variables that skyt1-doctor sets for the launch; `fix --undo` takes them back.\n"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def set_values(data: bytes | None, values: dict[str, object], name: str) -> bytes:
    """Give variables values; a missing file is begun with a header. Raises CannotEdit."""
    source = decode(data if data is not None else HEADER.encode(), name)
    lines = source.text.splitlines(keepends=True)
    for variable, value in values.items():
        line = f"{_checked(variable)}={_quoted(variable, value)}"
        places = _places(lines, variable)
        if not places:
            _append(lines, line, source.newline)
        elif launch_profile.lines(lines[places[-1]]) != launch_profile.lines(line):
            lines[places[-1]] = line + lines[places[-1]][len(lines[places[-1]].rstrip("\r\n")) :]
    return source.encode("".join(lines))


def unset(data: bytes | None, names: list[str], name: str, elsewhere: Collection[str] = ()) -> bytes | None:
    """Take variables away: their lines go, and one that is also set `elsewhere`, in the shell, gets an `unset` line."""
    if data is None and not set(elsewhere) & set(names):
        return None
    source = decode(data if data is not None else HEADER.encode(), name)
    lines = source.text.splitlines(keepends=True)
    gone = {place for variable in names for place in _places(lines, variable)}
    kept = [line for place, line in enumerate(lines) if place not in gone]
    for variable in names:
        if variable in elsewhere:
            _append(kept, f"unset {_checked(variable)}", source.newline)
    return source.encode("".join(kept))


def _append(lines: list[str], line: str, newline: str) -> None:
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += newline
    lines.append(line + newline)


def _places(lines: list[str], variable: str) -> list[int]:
    return [place for place, line in enumerate(lines) if variable in launch_profile.lines(line)]


def _checked(variable: str) -> str:
    if not _NAME.fullmatch(variable):
        raise CannotEdit(f"{variable!r} is not a name that an environment variable can have.")
    return variable


def _quoted(variable: str, value: object) -> str:
    text = {True: "1", False: "0"}[value] if isinstance(value, bool) else str(value)
    if "\n" in text or "\r" in text or "\0" in text:
        raise CannotEdit(f"The value of {variable} holds a line break; it cannot stand in the launch profile.")
    plain = text == text.strip() and text[:1] not in ("'", '"')
    return text if plain else f"'{text}'"
