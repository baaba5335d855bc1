"""Every fix of the knowledge base: seen → applied → gone → undone, every byte back → applied → nothing left to do."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from doctor import launch_profile
from doctor.facts import Facts
from doctor.target import Target, find
from fixes import history
from fixes.actions import PACKAGE_KINDS
from fixes.apply import apply_plan
from fixes.choose import Choice
from fixes.plan import Plan, make_plan
from fixes.verify import VerifyResult
from knowledge_base.schema import Action, Cause, Fix
from tests.fixes import every_fix
from tests.fixes.every_fix import PAIRS, Faulty
from tests.fixes.hub_server import Hub
from tests.fixes.worlds import snapshot, uv


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("wheels")


@pytest.fixture(scope="module")
def environment(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with an old stub of every package that a fix changes."""
    before = every_fix.index(wheels)
    prefix = tmp_path_factory.mktemp("environment") / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(prefix)], check=True)
    python = prefix / "bin" / "python"
    put(python, wheels, [f"{name}=={version}" for name, version in before.items()])
    return python


def put(python: Path, wheels: Path, pins: list[str]) -> None:
    """Install stubs, whatever is there of them."""
    links = ["--no-index", "--no-config", "--reinstall", "--no-deps", "--find-links", str(wheels)]
    subprocess.run([uv(), "pip", "install", "-q", "--python", str(python), *links, *pins], check=True)


@contextlib.contextmanager
def faulty_packages(python: Path, wheels: Path, actions: list[Action]) -> Iterator[list[str]]:
    """What a fix of packages mends beside a version that is too old: one too new, or a damaged one. Names of the last."""
    new, damaged = every_fix.too_new(actions), every_fix.put_again(actions)
    if new:
        put(python, wheels, [f"{name}=={every_fix.NEW}" for name in new])
    for name in damaged:
        every_fix.module(python, name).unlink()
    twice = every_fix.there_twice(actions)
    for name in twice:
        shutil.copytree(every_fix.record(python, name, every_fix.OLD), every_fix.record(python, name, "0.0.0"))
    try:
        yield [*damaged, *twice]
    finally:
        for name in twice:
            shutil.rmtree(every_fix.record(python, name, "0.0.0"), ignore_errors=True)
        if new or damaged or twice:
            put(python, wheels, [f"{name}=={every_fix.OLD}" for name in [*new, *damaged, *twice]])


@pytest.fixture(scope="module")
def base(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Target:
    """The target of the environment; the interpreter is asked once."""
    return find(recipe="recipe.yaml", workdir=str(tmp_path_factory.mktemp("nowhere")), python=str(environment))


# Each package fix asks the resolver four times and stages twice: those run with the real packages (make reproduce), one
# of every shape here.
HERE = {"pkg-missing", "cli-foreign-tree", "nccl-version", "pkg-flash-attn-abi", "env-system-lib-missing"}


def cases() -> list[object]:
    found: list[object] = []
    for cause, fix in PAIRS:
        slow = cause.id not in HERE and any(a.kind in PACKAGE_KINDS for a in fix.action_list())
        marks = [pytest.mark.stack] if slow else []
        found.append(pytest.param(cause, fix, id=f"{cause.id}/{fix.id}", marks=marks))
    return found


@pytest.mark.parametrize(("cause", "fix"), cases())
def test_applied_undone_and_applied_again(
    cause: Cause, fix: Fix, base: Target, wheels: Path, server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"model": str(tmp_path / "given"), "dataset": str(tmp_path / "given.json")}
    (tmp_path / "given").mkdir()
    (tmp_path / "given.json").write_text("[]")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    workdir = tmp_path / "work"
    workdir.mkdir()
    world = Faulty(workdir, base.python, every_fix.filled(cause, fix, given))
    world.prepare()
    for name in set(launch_names(world)):
        monkeypatch.delenv(name, raising=False)
    around = {**every_fix.shell(wheels, server.url), **world.environ}

    def target() -> Target:
        environ = launch_profile.merged(around, workdir)
        return msgspec.structs.replace(base, workdir=workdir, recipe=workdir / "recipe.yaml", environ=environ)

    def plan(seen: bool = True) -> Plan:
        choice = Choice(frozenset({fix.id}), True, given["model"], given["dataset"])
        return make_plan([every_fix.finding(cause, fix)] if seen else [], Facts(), target(), choice)

    def verify(name: str) -> VerifyResult:
        left = world.lacking()
        return VerifyResult(not left, "; ".join(left) or None)

    packages = any(action.kind in PACKAGE_KINDS for action in world.actions)
    watched = (workdir, base.prefix) if packages else (workdir,)

    def seen() -> tuple[dict[str, str], bytes | None]:
        profile = workdir / launch_profile.LAUNCH_PROFILE
        return snapshot(*watched), profile.read_bytes() if profile.exists() else None

    with faulty_packages(base.python, wheels, world.actions) as damaged:
        before = seen()
        assert world.lacking(), "the world has nothing that this fix would mend"
        for _ in range(2):
            applied = apply_plan(plan(), target(), Facts(), verify)
            assert [(o.fix, o.outcome, o.reason) for o in applied.outcomes] == [(fix.id, "verified", None)]
            assert seen() != before
            # A fix that puts a package again would always do so: only that nothing is found any more ends it.
            again = apply_plan(plan(seen=not damaged), target(), Facts(), verify)
            assert [o.outcome for o in again.outcomes] == ["nothing to do"]
            assert again.journal is None
            assert history.undo(workdir).status == "undone"
            assert seen() == before


def launch_names(world: Faulty) -> list[str]:
    """Variables that the fix is about: what this test's own shell has of them must not count."""
    lists = [a.args.get("names") or list(a.args.get("values", {})) for a in world.actions if a.kind.endswith("launch")]
    return [name for names in lists for name in names if name != "PATH"]
