"""Says what the marker means where the project's configuration does not know it."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "cluster: needs root, network namespaces or daemons (make cluster)")
