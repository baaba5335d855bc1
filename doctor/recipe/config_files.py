"""fsdp_config and accelerator_config: settings of settings, in the recipe itself or in a JSON file that it names.

transformers opens the file and builds its class from it while the arguments are parsed, so that a file that is not
there, and a key that the class does not have, end the run there.
"""

from __future__ import annotations

import ast
import difflib
import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from doctor import syntax
from doctor.facts import Facts
from doctor.findings import Finding, found, in_recipe, key_of_recipe
from doctor.target import Target

KEYS = ("fsdp_config", "accelerator_config")
LARGEST = 1 << 20  # bytes
_finding = partial(found, "arguments")


def read(target: Target, values: Mapping[str, Any], transformers: Path) -> dict[str, Any]:
    """`arguments.configs`: key -> {"fault", "unknown" keys with those nearest, "both" ways to wrap}; nothing without any."""
    told = {key: _one(target, key, values, transformers) for key in KEYS if values.get(key) is not None}
    return {"arguments.configs": told} if told else {}


def _one(target: Target, key: str, values: Mapping[str, Any], transformers: Path) -> dict[str, Any]:
    fault, given = None, values[key]
    if isinstance(given, str):
        fault, given = _of_text(target, given)
    elif not isinstance(given, Mapping):
        fault, given = f"{json.dumps(given, default=str)[:60]} is neither a mapping nor the name of a JSON file", None
    if not isinstance(given, Mapping):
        return {"fault": fault or "the file holds no JSON object", "unknown": {}, "both": False}
    settings = {str(name).removeprefix("fsdp_"): value for name, value in given.items()}
    least = settings.get("min_num_params")
    both = key == "fsdp_config" and bool(values.get("fsdp")) and isinstance(least, (int, float)) and least > 0
    both = both and settings.get("transformer_layer_cls_to_wrap") is not None
    return {"fault": fault, "unknown": _unknown(given, transformers) if key != "fsdp_config" else {}, "both": both}


def _of_text(target: Target, given: str) -> tuple[str | None, Any]:
    """What is wrong with it, or None, and its settings. Text that begins with a brace is the JSON itself."""
    path = target.workdir / given
    try:
        if given.startswith("{"):
            return None, json.loads(given)
        if path.is_file() and path.stat().st_size > LARGEST:
            return f"{target.shown(path)} is no file of settings: it has {path.stat().st_size} bytes", None
        return None, json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return f"{target.shown(path)} does not exist", None
    except OSError as error:
        return f"{target.shown(path)} cannot be read ({error.strerror})", None
    except (ValueError, RecursionError) as error:
        return f"{given[:60]} is not JSON ({error})", None


def _unknown(given: Mapping[str, Any], transformers: Path) -> dict[str, str | None]:
    known = _fields(transformers / "trainer_pt_utils.py")
    if not known:
        return {}
    return {
        str(name): next(iter(difflib.get_close_matches(str(name), known, n=1)), None)
        for name in given
        if name not in known
    }


def _fields(path: Path) -> list[str]:
    """Fields of the installed transformers' AcceleratorConfig; none where it is not to be read."""
    try:
        tree = syntax.tree(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return []
    return [
        statement.target.id
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name == "AcceleratorConfig"
        for statement in node.body
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
    ]


# -- judgements ---------------------------------------------------------------------------------------------------------
def configs_fit(facts: Facts) -> Iterator[Finding]:
    for key, told in (facts.get("arguments.configs") or {}).items():
        where = in_recipe(facts, key)
        if key not in facts["arguments.fields"]:
            continue  # an unknown key, which is said already
        if told["fault"]:
            details = {**key_of_recipe(facts, key), "wanted_type": "mapping or the name of a JSON file"}
            yield _finding("cfg-bad-value-type", f"{key}: {told['fault']}", where, **details)
        for name, near in told["unknown"].items():
            what = f'{key}: "{name}" is no setting of it' + (f'; "{near}" is' if near else "")
            yield _finding("cfg-unknown-key", what, where, key=key)
        if told["both"]:
            what = f"{key}: min_num_params and transformer_layer_cls_to_wrap exclude each other"
            yield _finding("cfg-conflicting-args", what, where, key=key)
