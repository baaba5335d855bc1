"""Packages in a conda environment: pip's change and come back, conda's are never touched and its records stay true."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from doctor.target import find
from fixes import history
from fixes.packages import conda_owned, installed
from knowledge_base import load
from tests.fixes import every_fix
from tests.fixes.test_packages import pip, project, versions
from tests.fixes.worlds import RECIPE, World, fix, install
from tests.stack.fixes import conda

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]
CONDA = ("six==1.16.0", "packaging==23.0")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return conda.make(tmp_path_factory.mktemp("conda"), *CONDA)


@pytest.fixture
def world(environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Beside conda's packages: one from the index, a local wheel and an editable one, all put there by uv."""
    monkeypatch.setattr(load, "CAUSES", tmp_path / "causes")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    work = tmp_path / "work"
    work.mkdir()
    (work / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    local = every_fix.wheel(tmp_path, "local-stub", "1.0")
    install(environment, "idna==3.4", str(local), "-e", str(project(tmp_path / "editable", "editable_stub", "1.0")))
    return World(work, environment, tmp_path / "causes")


def test_it_is_a_conda_environment(environment: Path, tmp_path: Path) -> None:
    target = find(recipe="recipe.yaml", workdir=str(tmp_path), python=str(environment))
    assert target.prefix == environment.parent.parent
    owned = {n for n, found in installed(target).items() if conda_owned(found[0], target.prefix)}
    assert owned >= {"six", "packaging"}
    assert conda.differing(target.prefix) == []


def test_what_pip_put_there_changes_and_comes_back(world: World) -> None:
    before, frozen = world.snapshot(), conda.freeze(world.python)
    world.cause("up", fix("idna", pip("idna==3.7")))
    world.cause("add", fix("iniconfig", pip("iniconfig==2.0.0")))
    world.cause("remove", fix("these", {"kind": "uninstall", "packages": ["local-stub", "editable-stub"]}))
    applied = world.apply()
    assert {o.outcome for o in applied.outcomes} == {"verified"}, applied.outcomes
    assert versions(world) == {"six": "1.16.0", "packaging": "23.0", "idna": "3.7", "iniconfig": "2.0.0"}
    assert conda.differing(world.prefix) == []
    subprocess.run([str(world.python), "-c", "import six, packaging, idna, iniconfig"], check=True)
    assert history.undo(world.workdir).status == "undone"
    assert world.snapshot() == before
    assert conda.freeze(world.python) == frozen
    assert conda.differing(world.prefix) == []
    subprocess.run([str(world.python), "-c", "import six, packaging, idna, local_stub_stub, editable_stub"], check=True)


def test_what_conda_put_there_is_left_to_conda(world: World) -> None:
    before = world.snapshot()
    world.cause("down", fix("six", pip("six==1.15.0")))
    world.cause("out", fix("packaging", {"kind": "uninstall", "packages": ["packaging"]}))
    applied = world.apply()
    assert {o.outcome for o in applied.outcomes} == {"refused"}
    assert all("was installed by conda" in (o.reason or "") for o in applied.outcomes)
    assert world.snapshot() == before
    assert conda.differing(world.prefix) == []
