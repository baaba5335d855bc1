"""`fix --stack`: a broken environment becomes the proven set and goes back; a new one is made with every hash checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from knowledge_base import package_sets
from tests.stack.environments import SKY_T1, Environment
from tests.stack.reproductions.stacks import Installed

pytestmark = [pytest.mark.stack, pytest.mark.timeout(1800)]


def test_repaired_and_undone(tmp_path: Path) -> None:
    environment = Environment(tmp_path / "env", *SKY_T1)
    before = environment.freeze()
    done = environment.doctor("fix", "--stack", "sky-t1", "--apply", "--yes", cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:]
    wanted = package_sets.stack("sky-t1").packages
    have = dict(line.split("==") for line in environment.freeze() if "==" in line)
    assert {name: pinned.version for name, pinned in wanted.items()} == {n: have.get(n) for n in wanted}
    again = environment.doctor("fix", "--stack", "sky-t1", "--apply", "--yes", cwd=tmp_path)
    assert again.returncode == 0, again.stdout[-3000:]
    undone = environment.doctor("fix", "--undo", "last", cwd=tmp_path)
    assert undone.returncode == 0, undone.stdout[-3000:]
    assert environment.freeze() == before


def test_a_new_environment(tmp_path: Path) -> None:
    base = Environment(tmp_path / "base", "six")
    done = base.doctor("fix", "--stack", "sky-t1", "--new", str(tmp_path / "new"), cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:]
    have = {line for line in Installed(tmp_path / "new").freeze() if line}
    wanted = package_sets.stack("sky-t1").packages
    assert have == {f"{name}=={pinned.version}" for name, pinned in wanted.items()}
