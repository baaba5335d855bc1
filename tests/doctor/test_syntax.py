"""Trees of Python source that several threads ask for at once."""

from __future__ import annotations

import gc
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from doctor import syntax

SOURCE = "\n".join(
    f"def f{n}(a, b=[{{'x': (1, 2, [3, -4])}}]):\n    return a + b[0]['x'][2][{n % 2}]" for n in range(300)
)


def test_threads_that_read_at_once_do_not_spoil_each_other() -> None:
    """A collection of garbage that runs Python lets another thread begin its tree in the middle of this one."""

    def elsewhere(phase: str, info: dict[str, int]) -> None:
        time.sleep(0)

    gc.callbacks.append(elsewhere)
    try:
        with ThreadPoolExecutor(4) as pool:
            sizes = {len(tree.body) for tree in pool.map(lambda _: syntax.tree(SOURCE), range(60))}
    finally:
        gc.callbacks.remove(elsewhere)
    assert sizes == {300}


def test_literals() -> None:
    assert syntax.literal(" {'a': [1, -2.5, None]}") == {"a": [1, -2.5, None]}
    with pytest.raises(ValueError, match="malformed"):
        syntax.literal("f(1)")
    with pytest.raises(SyntaxError):
        syntax.literal("{'a': ")
