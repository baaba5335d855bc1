"""The configuration class of a model type, read from the source of the installed transformers: defaults and types.

Up to transformers 4 it is a plain class whose `__init__` has defaults and takes any value; from 5 on a strict data class
that refuses a value of another type.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from doctor import syntax

_KNOWN: dict[str, Any] = {
    "int": int,
    "float": float,
    "bool": bool,
    "str": str,
    "list": list,
    "dict": dict,
    "tuple": list,
}


class ConfigClass(msgspec.Struct, frozen=True):
    """`defaults`: name -> value; `types`: name -> names of types, of fields whose annotation is plain; `choices`: name ->
    the words of a Literal; `renamed`: attribute_map, name in the code -> name in config.json."""

    defaults: dict[str, Any] = {}
    types: dict[str, list[str]] = {}
    choices: dict[str, list[Any]] = {}
    renamed: dict[str, str] = {}


def folder_of(transformers: Path, model_type: str) -> Path | None:
    """models/<type>, as most are called."""
    folder = transformers / "models" / model_type.replace("-", "_")
    return folder if model_type.replace("-", "_").isidentifier() and os.path.isdir(folder) else None


def read(transformers: Path, model_type: str) -> ConfigClass:
    """An empty one where the class is not found or its source cannot be read."""
    folder = folder_of(transformers, model_type)
    if folder is None:
        return ConfigClass()
    common = _class(transformers / "configuration_utils.py", "")
    own = _class(folder / f"configuration_{folder.name}.py", model_type)
    return ConfigClass(
        own.defaults, {**common.types, **own.types} if own.types else {}, {**common.choices, **own.choices}, own.renamed
    )


def _class(path: Path, model_type: str) -> ConfigClass:
    try:
        tree = syntax.tree(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return ConfigClass()
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and _type_of(node) == model_type:
            return _fields(node)
    return ConfigClass()


def _type_of(node: ast.ClassDef) -> str | None:
    for statement in node.body:
        name: ast.expr | None = statement.target if isinstance(statement, ast.AnnAssign) else None
        name = statement.targets[0] if isinstance(statement, ast.Assign) else name
        if isinstance(name, ast.Name) and name.id == "model_type":
            value = getattr(statement, "value", None)
            return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else None
    return None


def _fields(node: ast.ClassDef) -> ConfigClass:
    found = ConfigClass()
    for statement in node.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            name = statement.target.id
            _literal_into(found.defaults, name, statement.value)
            names, words = _annotated(statement.annotation)
            if names is not None:
                found.types[name] = names
            if words and names is not None:
                found.choices[name] = words
        elif isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            if statement.targets[0].id == "attribute_map":
                held: dict[str, Any] = {}
                _literal_into(held, "map", statement.value)
                found.renamed.update(held.get("map") or {})
        elif isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            names_of = [argument.arg for argument in statement.args.args]
            for name, default in zip(reversed(names_of), reversed(statement.args.defaults), strict=False):
                _literal_into(found.defaults, name, default)
    return found


def _literal_into(held: dict[str, Any], name: str, value: ast.expr | None) -> None:
    try:
        if value is not None:
            held[name] = ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return


def _annotated(node: ast.expr) -> tuple[list[str] | None, list[Any]]:
    """Names of plain types and the words of a Literal; (None, []) where anything else is in the annotation."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        (left, words), (right, more) = _annotated(node.left), _annotated(node.right)
        return (None, []) if left is None or right is None else (left + right, words + more)
    if isinstance(node, ast.Constant):
        return (["None"], []) if node.value is None else (None, [])
    if isinstance(node, ast.Name):
        return ([node.id], []) if node.id in _KNOWN else (None, [])
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        if node.value.id in ("list", "dict", "tuple"):
            return [node.value.id], []
        if node.value.id == "Literal":
            parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            return ["str"], [part.value for part in parts if isinstance(part, ast.Constant)]
    return None, []


def misfits(known: ConfigClass, config: Mapping[str, Any]) -> Iterator[str]:
    """Values that the strict class refuses, in words. An int is no float to it, and true counts as 1."""
    for name, types in known.types.items():
        given = config.get(name)
        if name not in config or (isinstance(given, float) and "int" in types and given.is_integer()):
            continue
        fits = "None" in types if given is None else any(isinstance(given, _KNOWN[t]) for t in types if t in _KNOWN)
        if not fits:
            yield f"{name} is {str(given)[:40]!r}; its class takes {' or '.join(dict.fromkeys(types))}"
        elif isinstance(given, list) and name.endswith("token_id") and not all(isinstance(one, int) for one in given):
            yield f"{name} is {str(given)[:40]}; a list of whole numbers is needed"
        elif name in known.choices and isinstance(given, str) and given not in known.choices[name]:
            yield f"{name} is {given[:40]!r}; its class takes {', '.join(map(str, known.choices[name]))}"
