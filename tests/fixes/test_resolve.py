"""What may move when packages change: as little as possible, never a requirement that holds today."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec
import pytest

from doctor.facts import Facts
from fixes import history, indexes, installer
from fixes.errors import FixError, Refused
from fixes.resolve import Packages, resolve
from tests.fixes.worlds import World, fix, install, make_environment, uv


def changes(packages: Packages) -> list[str]:
    return [change.shown for change in packages.changes]


def wheel(place: Path, name: str, version: str, *requires: str) -> str:
    """A built wheel of an empty package; its path."""
    source = place / f"{name}-{version}"
    (source / name).mkdir(parents=True)
    (source / name / "__init__.py").write_text("")
    listed = ", ".join(f'"{r}"' for r in requires)
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        f'[project]\nname = "{name}"\nversion = "{version}"\ndependencies = [{listed}]\n'
    )
    subprocess.run([uv(), "build", "-q", "--wheel", "-o", str(place / "wheels"), str(source)], check=True)
    return str(next((place / "wheels").glob(f"{name}-{version}-*.whl")))


NO_INDEX_HAS = "2.6.99"  # of a version that an index has, its own wheel would be preferred to one for any platform


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of wheels. user 1.0 wants lib<2, user 2.0 any; board 2.0 brings
    board-part along, which wants lib>=2; needs-torch wants torch>=2.6."""
    place = tmp_path_factory.mktemp("wheels")
    for name, version, *requires in (
        ("lib", "1.0"), ("lib", "1.1"), ("lib", "2.0"), ("lib", "3.0"),
        ("user", "1.0", "lib<2"), ("user", "2.0", "lib"),
        ("board", "1.0", "lib<2"), ("board", "2.0", "lib>=2", "board_part"), ("board_part", "1.0", "lib>=2"),
        ("llamafactory", "0.9.1", "six"), ("torch", "2.5.1"), ("torch", NO_INDEX_HAS), ("needs_torch", "1.0", "torch>=2.6"),
    ):  # fmt: skip
        wheel(place, name, version, *requires)
    return place / "wheels"


@pytest.fixture
def linked(world: World, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """An environment with lib 1.0, user 1.0, llamafactory and torch 2.5.1 from that index."""
    monkeypatch.setenv("UV_FIND_LINKS", str(wheels))
    world.python = make_environment(tmp_path / "packages")
    names = ("lib-1.0", "user-1.0", "llamafactory-0.9.1", "torch-2.5.1")
    install(world.python, "six==1.15.0", *(str(next(wheels.glob(f"{n}-*.whl"))) for n in names))
    for origin in world.prefix.glob("lib/python*/site-packages/*.dist-info/direct_url.json"):
        origin.unlink()  # as if they had come from an index
    return world


def test_others_stay_as_they_are_when_they_can(linked: World) -> None:
    found = resolve(linked.target, Facts(), {"c": ["lib>=1.1,<2"]}, {})
    assert changes(found) == ["lib 1.0 → 1.1"]


def test_a_package_whose_requirement_would_break_moves_along(linked: World) -> None:
    found = resolve(linked.target, Facts(), {"c": ["lib==2.0"]}, {})
    assert changes(found) == ["lib 1.0 → 2.0", "user 1.0 → 2.0"]
    assert found.notes == ("other packages must change with it: user",)


@pytest.mark.parametrize("asked_for", [False, True])
def test_what_came_along_with_a_package_goes_with_it_unless_it_was_asked_for(
    linked: World, wheels: Path, asked_for: bool
) -> None:
    names = ("lib-2.0", "user-2.0", "board-2.0", "board_part-1.0")
    install(linked.python, *(str(next(wheels.glob(f"{n}-*.whl"))) for n in names))
    for origin in linked.prefix.glob("lib/python*/site-packages/*.dist-info/direct_url.json"):
        origin.unlink()
    (metadata,) = linked.prefix.glob("lib/python*/site-packages/board_part-1.0.dist-info")
    (metadata / "INSTALLER").write_text("pip\n")
    if asked_for:
        with pytest.raises(Refused, match="cannot be changed"):
            resolve(linked.target, Facts(), {"c": ["board==1.0"]}, {})
        return
    (metadata / "REQUESTED").unlink()
    found = resolve(linked.target, Facts(), {"c": ["board==1.0"]}, {})
    assert changes(found) == ["board 2.0 → 1.0", "board-part 1.0 (removed)", "lib 2.0 → 1.1"]
    assert found.notes == ("other packages must change with it: board-part, lib",)


def test_what_llamafactory_checks_still_holds(linked: World) -> None:
    facts = Facts({"llamafactory.required": {"lib": ">=1.0,<2"}})
    with pytest.raises(Refused, match="LLaMA-Factory and torch were to stay"):
        resolve(linked.target, facts, {"c": ["lib==2.0"]}, {})


def test_torch_is_not_changed_unasked(linked: World) -> None:
    with pytest.raises(Refused, match="torch"):
        resolve(linked.target, Facts(), {"c": ["needs-torch"]}, {})
    asked = resolve(linked.target, Facts(), {"c": [f"torch=={NO_INDEX_HAS}"]}, {})
    assert [c.name for c in asked.torch] == ["torch"]


def test_a_torch_change_waits_for_its_own_consent(linked: World) -> None:
    linked.cause("c", fix("torch", {"kind": "install", "packages": [f"torch=={NO_INDEX_HAS}"]}))
    (step,) = linked.plan().steps
    assert not step.agreed
    assert f"it changes torch 2.5.1 → {NO_INDEX_HAS}" in (step.consent or "")
    assert linked.plan(only=["torch"]).steps[0].agreed


def test_a_torch_that_comes_along_waits_for_consent_too(linked: World) -> None:
    """An environment without torch: what needs one may bring it, but not unasked; nor may the fix beside it."""
    subprocess.run([uv(), "pip", "uninstall", "-q", "--python", str(linked.python), "torch"], check=True)
    linked.cause("c", fix("need", {"kind": "install", "packages": ["needs-torch"]}))
    linked.cause("d", fix("beside", {"kind": "install", "packages": ["six==1.16.0"]}))
    plan = linked.plan()
    assert [(s.fix, s.agreed) for s in plan.steps] == [("need", False), ("beside", False)]
    assert re.search(r"it changes .*\btorch \S+ \(added\)", plan.steps[0].consent or "")
    assert [s.agreed for s in linked.plan(yes=True).steps] == [True, True]
    only = linked.plan(only=["beside"])
    assert [(s.fix, s.agreed) for s in only.steps] == [("beside", True)]
    assert only.packages is not None
    assert changes(only.packages) == ["six 1.15.0 → 1.16.0"]


def test_a_removal_names_what_needs_it(linked: World) -> None:
    found = resolve(linked.target, Facts(), {}, {"c": ["six"]})
    assert found.notes == ("llamafactory requires six, which is removed",)


def test_one_package_installed_and_removed(linked: World) -> None:
    with pytest.raises(Refused, match="One fix installs lib and another removes it"):
        resolve(linked.target, Facts(), {"c": ["lib==1.1"]}, {"d": ["lib"]})


def test_pip_settings_reach_uv_and_credentials_stay_out_of_sight(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://me:secret@mirror.example/simple\n"
        "[install]\nfind-links = /a\n    /b\ntrusted_host = mirror.example\n"
    )
    home = {"HOME": str(tmp_path / "home"), "XDG_CONFIG_DIRS": str(tmp_path)}
    made = indexes.uv_environment(
        tmp_path, {**home, "PIP_EXTRA_INDEX_URL": "https://b/s https://c/s", "PIP_CERT": "/x.pem"}
    )
    assert made["UV_DEFAULT_INDEX"] == "https://me:secret@mirror.example/simple"
    # the main one first: of one version uv takes the files of the first index alone
    assert made["UV_INDEX"] == "https://me:secret@mirror.example/simple https://b/s https://c/s"
    assert made["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    assert made["UV_FIND_LINKS"] == "/a,/b"
    assert (made["UV_INSECURE_HOST"], made["SSL_CERT_FILE"]) == ("mirror.example", "/x.pem")
    own = indexes.uv_environment(tmp_path, {**home, "UV_DEFAULT_INDEX": "https://mine"})
    assert own["UV_DEFAULT_INDEX"] == "https://mine"
    assert "UV_INDEX" not in own


@pytest.mark.parametrize("closed", ["PIP_NO_INDEX", "UV_NO_INDEX"])
def test_no_index_is_asked_where_that_was_said(linked: World, closed: str) -> None:
    """uv has an option for it, and no variable."""
    target = msgspec.structs.replace(linked.target, environ={**linked.target.environ, closed: "1"})
    assert changes(resolve(target, Facts(), {"c": ["lib>=1.1,<2"]}, {})) == ["lib 1.0 → 1.1"]
    with pytest.raises(Refused, match="iniconfig"):
        resolve(target, Facts(), {"c": ["iniconfig"]}, {})


def test_an_unreachable_index_says_so_without_its_password(linked: World) -> None:
    index = "http://me:pa55word@127.0.0.1:9/simple"
    settings = {"PIP_CONFIG_FILE": "/dev/null", "UV_HTTP_RETRIES": "0", "UV_DEFAULT_INDEX": index}
    environ = {**linked.target.environ, **settings, "UV_CACHE_DIR": str(linked.workdir / "cache")}
    target = msgspec.structs.replace(linked.target, environ=environ)
    with pytest.raises(FixError, match=r"Could not resolve|cannot be changed") as caught:
        resolve(target, Facts(), {"c": ["iniconfig"]}, {})
    assert "pa55word" not in str(caught.value)


def test_pip_does_the_same_where_there_is_no_uv(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world.python = make_environment(tmp_path / "packages", "pip", "six==1.15.0")
    monkeypatch.setattr(installer, "find_uv", lambda environ: None)
    world.cause("c", fix("six", {"kind": "install", "packages": ["six==1.16.0", "iniconfig==2.0.0"]}))
    world.cause("d", fix("bad", {"kind": "install", "packages": ["idna==99"]}))
    before = world.snapshot()
    plan = world.plan()
    assert plan.packages is not None
    assert changes(plan.packages) == ["iniconfig 2.0.0 (added)", "six 1.15.0 → 1.16.0"]
    assert {o.cause: o.outcome for o in world.apply(plan).outcomes} == {"c": "verified", "d": "refused"}
    said = subprocess.run(
        [str(world.python), "-c", "import six; print(six.__version__)"], capture_output=True, text=True
    )
    assert said.stdout == "1.16.0\n"
    history.undo(world.workdir)
    assert world.snapshot() == before


def test_our_own_uv_is_found() -> None:
    assert Path(installer.find_uv({"PATH": ""}) or "").exists()


def test_a_pinned_file_is_found_in_the_main_index_although_a_folder_has_another_build(
    linked: World, wheels: Path, tmp_path: Path
) -> None:
    own = wheel(tmp_path / "own", "lib", "1.1", "six")  # the same version, other bytes
    sha256 = hashlib.sha256(Path(own).read_bytes()).hexdigest()
    served = tmp_path / "simple" / "lib"
    served.mkdir(parents=True)
    shutil.copy(own, served)
    (served / "index.html").write_text(f'<a href="{Path(own).name}#sha256={sha256}">{Path(own).name}</a>')
    with loopback(tmp_path) as address:
        environ = {**linked.target.environ, "UV_FIND_LINKS": str(wheels), "UV_DEFAULT_INDEX": f"{address}/simple"}
        target = msgspec.structs.replace(linked.target, environ=environ)
        staged = tmp_path / "staged"
        installer.stage(target, ["lib==1.1"], staged, offline=False, hashes={"lib": [sha256]})
        metadata = next(staged.rglob("lib-1.1.dist-info/METADATA")).read_text()
        assert "Requires-Dist: six" in metadata
        with pytest.raises(FixError, match="lib"):
            installer.stage(target, ["lib==1.1"], tmp_path / "none", offline=False, hashes={"lib": ["0" * 64]})


@contextlib.contextmanager
def loopback(folder: Path) -> Iterator[str]:
    """The folder over HTTP; its address."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
