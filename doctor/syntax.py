"""Python source as a syntax tree, one tree at a time.

Python before 3.11.8 and 3.12.2 counts how deep a tree is in one place for all threads. Probes read sources side by side,
and now and then one of them ended with "SystemError: AST constructor recursion depth mismatch" (cpython issue 106905).
"""

from __future__ import annotations

import ast
import threading
from typing import Any

_ONE_AT_A_TIME = threading.Lock()


def tree(source: str, filename: str = "<unknown>") -> ast.Module:
    """Raises SyntaxError, ValueError."""
    with _ONE_AT_A_TIME:
        return ast.parse(source, filename=filename)


def expression(source: str) -> ast.expr:
    """Of one expression. Raises SyntaxError, ValueError."""
    with _ONE_AT_A_TIME:
        return ast.parse(source, mode="eval").body


def literal(source: str) -> Any:
    """The value of a literal in its text. Raises SyntaxError, ValueError."""
    return ast.literal_eval(expression(source.lstrip(" \t")))
