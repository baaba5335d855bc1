"""What lr_scheduler_kwargs may hold: read from transformers/optimization.py of the target, where the schedulers are made."""

from __future__ import annotations

import ast
from pathlib import Path

import msgspec

from doctor import syntax

# What the Trainer gives each of these functions, where they take it.
_GIVEN = ("optimizer", "num_warmup_steps", "num_training_steps")


class Taken(msgspec.Struct, frozen=True):
    """`keys`: what the function takes by name. `passed_on`: get_scheduler gives it the user's, or forgets them."""

    keys: list[str]
    passed_on: bool = True


def read(transformers: Path, kind: str) -> Taken | None:
    """None for a scheduler that is not there, that takes anything, or whose source cannot be read."""
    try:
        tree = syntax.tree((transformers / "optimization.py").read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return None
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    maker, function = functions.get("get_scheduler"), functions.get(_function_of(tree, kind) or "")
    if maker is None or function is None or function.args.kwarg is not None:
        return None
    keys = [arg.arg for arg in (*function.args.args, *function.args.kwonlyargs) if arg.arg not in _GIVEN]
    return Taken(keys, _passed_on(maker, kind.upper()))


def _function_of(tree: ast.Module, kind: str) -> str | None:
    """The function that the table names for the member of SchedulerType, whose value is its name in small letters."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict) and _is_table(node.targets[0]):
            for key, value in zip(node.value.keys, node.value.values, strict=True):
                if isinstance(key, ast.Attribute) and key.attr == kind.upper() and isinstance(value, ast.Name):
                    return value.id
    return None


def _is_table(target: ast.expr) -> bool:
    return isinstance(target, ast.Name) and target.id == "TYPE_TO_SCHEDULER_FUNCTION"


def _passed_on(maker: ast.FunctionDef, member: str) -> bool:
    """Whether the call for this member unpacks the user's mapping; the last one of all is for the others."""
    answer = True
    for node in maker.body:
        asked = isinstance(node, ast.If) and any(
            isinstance(part, ast.Attribute) and part.attr == member for part in ast.walk(node.test)
        )
        for statement in node.body if isinstance(node, ast.If) and asked else [node]:
            if isinstance(statement, ast.Return) and isinstance(statement.value, ast.Call):
                answer = any(keyword.arg is None for keyword in statement.value.keywords)
                if asked:
                    return answer
    return answer
