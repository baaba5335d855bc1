"""Kinds of change, one module each, named like the kind with underscores.

A module has
    preview(args, context) -> Change | None     what it would change now; None when it is so already; raises FixError
    claims(args, context) -> {(scope, name): value}     optional: what it sets, also when nothing would change
    apply(change, args, door, context, why) -> None     optional: how it is done, default is one edit of one file
Package actions (install, uninstall) are previewed here and carried out together by `fixes.swap`.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from fixes.errors import Refused

KINDS = (
    "install",
    "uninstall",
    "set-recipe",
    "unset-recipe",
    "rename-recipe-key",
    "rename-recipe",
    "set-json",
    "repair-json",
    "set-dataset",
    "set-launch",
    "unset-launch",
    "move-aside",
    "convert-encoding",
    "download-model",
    "instruct",
)
PACKAGE_KINDS = frozenset({"install", "uninstall"})
# Kinds that put a new text in the place of a file; what they write to is their target.
EDIT_KINDS = frozenset(
    {
        "set-recipe",
        "unset-recipe",
        "rename-recipe-key",
        "rename-recipe",
        "set-json",
        "repair-json",
        "set-dataset",
        "convert-encoding",
    }
)


def load(kind: str) -> ModuleType:
    """The module of a kind. Raises Refused for one that does not exist."""
    if kind not in KINDS:
        raise Refused(f"There is no kind of change called {kind!r}; known are: {', '.join(KINDS)}.")
    return importlib.import_module("fixes.actions." + kind.replace("-", "_"))
