"""Diffs as the user sees them: unified for files, one line for a package. Secrets are masked here, nowhere later."""

from __future__ import annotations

import difflib

from doctor import redact


def of_text(before: bytes | None, after: bytes | None, name: str) -> str:
    """A unified diff of two file contents; None is a file that does not exist. Line endings are not shown, unless
    they are the only difference."""
    old, new = _lines(before), _lines(after)
    if old == new and before != after:
        return f"{name}: encoding, line endings or byte-order mark change; no visible text does"
    lines = difflib.unified_diff(
        old, new, "/dev/null" if before is None else name, "/dev/null" if after is None else name, n=2, lineterm=""
    )
    return redact.text("\n".join(lines))


def _lines(data: bytes | None) -> list[str]:
    if data is None:
        return []
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    return text.splitlines()


def of_package(name: str, before: str | None, after: str | None) -> str:
    if before is None:
        return f"{name} {after} (added)"
    if after is None:
        return f"{name} {before} (removed)"
    return f"{name} {before} (again)" if before == after else f"{name} {before} → {after}"
