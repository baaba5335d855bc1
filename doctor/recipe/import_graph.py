"""Which names a package asks of others while it is imported, and which of them the others do not have.

Followed from one module on, through the statements at the top of each file: an import under a condition, in `try`, or in a
function is not certain to run. Read as syntax trees, never imported.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from doctor import syntax


class Asked(msgspec.Struct, frozen=True):
    """`from module import name`, and the file (from the package on) and line where it stands."""

    module: str
    name: str
    file: str
    line: int


def asked(root: Path, start: str, of: Iterable[str]) -> list[Asked]:
    """What the import of `start` ("train/tuner.py" of the package at `root`) asks of the packages `of`."""
    wanted, found = set(of), []
    pending, seen = [root / start], set()
    while pending:
        path = pending.pop(0)
        if path in seen:
            continue
        seen.add(path)
        try:
            tree = syntax.tree(path.read_text(encoding="utf-8"))
        except (OSError, SyntaxError, ValueError):
            continue
        shown = str(path.relative_to(root.parent))
        for node in tree.body:
            if isinstance(node, ast.ImportFrom):
                module = node.module or ""
                if node.level or module.partition(".")[0] == root.name:
                    pending += _own(root, path, node)
                elif module.partition(".")[0] in wanted:
                    found += [
                        Asked(module, alias.name, shown, node.lineno) for alias in node.names if alias.name != "*"
                    ]
    return found


def _own(root: Path, path: Path, node: ast.ImportFrom) -> Iterator[Path]:
    """Files of the package itself that the statement runs, the __init__ of their folders among them."""
    parts = (node.module or "").split(".") if node.module else []
    if node.level:
        base = path.parent
        for _ in range(node.level - 1):
            base = base.parent
    else:
        base, parts = root, parts[1:]
    for step in range(len(parts) + 1):
        folder = base.joinpath(*parts[:step])
        if (folder / "__init__.py").is_file():
            yield folder / "__init__.py"
    target = base.joinpath(*parts)
    if parts and target.with_suffix(".py").is_file():
        yield target.with_suffix(".py")
    for alias in node.names:
        if (target / f"{alias.name}.py").is_file():
            yield target / f"{alias.name}.py"


def lacking(needs: Iterable[Asked], site: Iterable[Path]) -> Iterator[Asked]:
    """Those that certainly are not there: a word that stands nowhere in the module, nor in the package behind a lazy one."""
    site = tuple(site)
    anywhere: dict[Path, list[Asked]] = {}  # behind a module that may take its names from all files below it
    for need in needs:
        top = next((folder for folder in site if (folder / need.module.partition(".")[0]).is_dir()), None)
        if top is None:
            continue  # not installed, or not as files: said elsewhere
        place = top.joinpath(*need.module.split("."))
        file = place.with_suffix(".py") if place.with_suffix(".py").is_file() else place / "__init__.py"
        if (place / need.name).exists() or (place / f"{need.name}.py").is_file():
            continue
        if not file.is_file():
            if not any(place.parent.glob(f"{place.name}.*")):  # no compiled module either
                yield need
            continue
        held = _content(file)
        if not _has(held, need.name):
            if any(sign in held for sign in _OPEN_ENDED):
                anywhere.setdefault(place, []).append(need)
            else:
                yield need
    for place, hidden in anywhere.items():
        names = {need.name for need in hidden}
        # The nearest first: most names of a lazy module stand in files beside it.
        for path in sorted(place.rglob("*.py"), key=lambda path: len(path.parts)):
            held = _content(path)
            names -= {name for name in names if _has(held, name)}
            if not names:
                break
        yield from (need for need in hidden if need.name in names)


_OPEN_ENDED = (b"import *", b"_LazyModule", b"__getattr__")


def _has(held: bytes, name: str) -> bool:
    word = name.encode()
    return word in held and re.search(rb"\b" + re.escape(word) + rb"\b", held) is not None


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
