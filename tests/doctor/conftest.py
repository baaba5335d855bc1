"""Around every test: the environment variables of this process stay as they were; a test that changes them fails."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _same_environment() -> Iterator[None]:
    before = _variables()
    yield
    after = _variables()
    assert after == before, sorted(set(after.items()) ^ set(before.items()))


def _variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
