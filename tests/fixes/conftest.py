from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from knowledge_base import load
from tests.fixes.hub_server import server
from tests.fixes.worlds import INFO, PACKAGES, RECIPE, World, make_environment

__all__ = ["server"]
settings.register_profile("any machine", deadline=None)  # how long one example takes says nothing of the editors
settings.load_profile("any machine")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A workspace with faults and an interpreter without packages of its own (use `with_packages` for those)."""
    workdir = tmp_path / "工作 dir"
    (workdir / "data").mkdir(parents=True)
    (workdir / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    (workdir / "data" / "dataset_info.json").write_text(INFO, encoding="utf-8")
    (workdir / "ds.json").write_text('{\n    "zero_optimization": {\n        "stage": 3\n    }\n}\n', encoding="utf-8")
    prefix = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(prefix)], check=True)
    monkeypatch.setattr(load, "CAUSES", tmp_path / "causes")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)  # users' interpreters write bytecode, so these do
    yield World(workdir, prefix / "bin" / "python", tmp_path / "causes")
    load.paths.cache_clear()
    load.cause.cache_clear()


@pytest.fixture
def with_packages(world: World, tmp_path: Path) -> World:
    """The same with a few real packages from the index."""
    world.python = make_environment(tmp_path / "packages", *PACKAGES)
    return world
