"""Bytecode never keeps a fix from being undone: Python writes it unasked, and it is made again when it is needed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fixes import history
from tests.fixes.every_fix import wheel
from tests.fixes.worlds import World, fix, freeze, install, make_environment


def by_the_tool(world: World) -> None:
    assert history.undo(world.workdir).status == "undone"


def by_the_script(world: World) -> None:
    (entry,) = history.history(world.workdir)
    done = subprocess.run(["sh", str(entry.directory / "undo.sh")], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert history.undo(world.workdir).status == "nothing to do"


TAG = sys.implementation.cache_tag
UNDOES = pytest.mark.parametrize("undo", [by_the_tool, by_the_script])
Undo = Callable[[World], None]


def package(links: Path, version: str, recorded: bool) -> None:
    """A wheel with a package in it; `recorded`: its bytecode is shipped and listed in RECORD."""
    files = {"made/__init__.py": f"version = '{version}'\n", "made/inner/__init__.py": "", "made/inner/deep.py": ""}
    if version == "2.0":
        files |= {"made/only_two/__init__.py": "", "other_made.py": ""}
    if recorded:
        files[f"made/__pycache__/__init__.{TAG}.pyc"] = f"stale {version}"
    wheel(links, "made", version, files)


def imported(world: World) -> str:
    said = subprocess.run(
        [str(world.python), "-c", "import made, made.inner.deep; print(made.version)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return said.stdout.strip()


def compiled(world: World) -> None:
    """Bytecode of everything, as an interpreter that imports everything leaves it."""
    site = next(world.prefix.glob("lib/python3*/site-packages"))
    subprocess.run([str(world.python), "-m", "compileall", "-q", "-f", str(site)], check=True)


@pytest.fixture
def made(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> World:
    """An environment with made 1.0, which was imported; 2.0 can be had."""
    links = tmp_path / "links"
    links.mkdir()
    for version in ("1.0", "2.0"):
        package(links, version, recorded=getattr(request, "param", False))
    monkeypatch.setenv("UV_FIND_LINKS", str(links))
    world.python = make_environment(tmp_path / "packages")
    install(world.python, "--no-index", "made==1.0")
    assert imported(world) == "1.0"
    return world


@UNDOES
@pytest.mark.parametrize("made", [False, True], indirect=True, ids=["written", "recorded"])
def test_a_version_that_was_imported_goes_back(made: World, undo: Undo) -> None:
    before, frozen = made.snapshot(), freeze(made.python)
    made.cause("c", fix("up", {"kind": "install", "packages": ["made==2.0"]}))
    assert made.apply().outcomes[0].outcome == "verified"
    assert imported(made) == "2.0"
    compiled(made)
    undo(made)
    assert made.snapshot() == before
    assert freeze(made.python) == frozen
    assert imported(made) == "1.0"


@UNDOES
@pytest.mark.parametrize("made", [False, True], indirect=True, ids=["written", "recorded"])
def test_a_package_that_was_taken_out_comes_back_over_what_was_compiled(made: World, undo: Undo) -> None:
    """Its own bytecode was moved away with it; somebody's compiler or a wheel of the same names left new one there."""
    before = made.snapshot()
    made.cause("c", fix("out", {"kind": "uninstall", "packages": ["made"]}))
    assert made.apply().outcomes[0].outcome == "verified"
    site = next(made.prefix.glob("lib/python3*/site-packages"))
    for cache, name in ((site / "made" / "__pycache__", "__init__"), (site / "made/inner/__pycache__", "deep")):
        cache.mkdir(parents=True)
        (cache / f"{name}.{TAG}.pyc").write_bytes(b"compiled since")
    undo(made)
    assert made.snapshot() == before
    assert imported(made) == "1.0"


@UNDOES
@pytest.mark.parametrize("made", [False, True], indirect=True, ids=["written", "recorded"])
def test_what_was_added_leaves_no_directory_of_bytecode(made: World, undo: Undo) -> None:
    site = next(made.prefix.glob("lib/python3*/site-packages"))
    subprocess.run([str(made.python), "-m", "compileall", "-q", str(site)], check=True)
    made.cause("out", fix("out", {"kind": "uninstall", "packages": ["made"]}))
    made.apply()
    before = made.snapshot()
    made.cause("in", fix("in", {"kind": "install", "packages": ["made==2.0"]}))
    assert made.apply(only=["in"]).outcomes[0].outcome == "verified"
    assert imported(made) == "2.0"
    compiled(made)
    if undo is by_the_tool:
        by_the_tool(made)
    else:
        entry = history.history(made.workdir)[-1]
        done = subprocess.run(["sh", str(entry.directory / "undo.sh")], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
    assert made.snapshot() == before
    assert not (site / "made").exists()


def test_bytecode_in_the_way_of_what_comes_in_is_kept_and_gone_around(made: World) -> None:
    """A stale file where a wheel ships its own: it goes out with the fix and comes back with the undo."""
    site = next(made.prefix.glob("lib/python3*/site-packages"))
    stale = site / "made" / "only_two" / "__pycache__" / f"__init__.{TAG}.pyc"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"stale")
    made.cause("c", fix("up", {"kind": "install", "packages": ["made==2.0"]}))
    assert made.apply().outcomes[0].outcome == "verified"
    assert imported(made) == "2.0"
    by_the_tool(made)
    assert imported(made) == "1.0"
