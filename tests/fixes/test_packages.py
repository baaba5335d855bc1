"""Package fixes on real environments: what is undone is byte for byte what was there, also what pip freeze says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from doctor.facts import Facts
from fixes import history
from fixes.apply import apply_plan
from fixes.errors import ChangedAgain, EditedSince, WorldChanged
from fixes.packages import installed, is_torch
from fixes.plan import load_plan
from fixes.verify import VerifyResult
from tests.fixes.worlds import World, fix, freeze, healed, install, make_environment, uv

PROJECT = """[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "{name}"
version = "{version}"
"""


def pip(*packages: str, **more: object) -> dict[str, object]:
    return {"kind": "install", "packages": list(packages), **more}


def versions(world: World) -> dict[str, str]:
    return {name: found[0].version for name, found in installed(world.target).items()}


def project(place: Path, name: str, version: str) -> Path:
    (place / name).mkdir(parents=True)
    (place / "pyproject.toml").write_text(PROJECT.format(name=name, version=version))
    (place / name / "__init__.py").write_text(f"version = '{version}'\n")
    return place


def test_up_down_add_remove_and_back(with_packages: World) -> None:
    world = with_packages
    world.cause("up", fix("six", pip("six==1.16.0")))
    world.cause("down", fix("packaging", pip("packaging==22.0")))
    world.cause("add", fix("iniconfig", pip("iniconfig==2.0.0")))
    world.cause("remove", fix("idna", {"kind": "uninstall", "packages": ["idna", "absent"]}))
    before, frozen = world.snapshot(), freeze(world.python)
    subprocess.run([str(world.python), "-c", "import six, idna"], check=True)  # leaves bytecode behind
    plan = world.plan()
    assert plan.packages is not None
    assert [change.shown for change in plan.packages.changes] == [
        "idna 3.4 (removed)",
        "iniconfig 2.0.0 (added)",
        "packaging 23.0 → 22.0",
        "six 1.15.0 → 1.16.0",
    ]
    assert any("needs no network" in note for note in plan.notes)
    assert world.snapshot() == before
    applied = world.apply(plan)
    assert {o.outcome for o in applied.outcomes} == {"verified"}
    assert versions(world) == {"six": "1.16.0", "packaging": "22.0", "iniconfig": "2.0.0"}
    said = subprocess.run(
        [str(world.python), "-c", "import six; print(six.__version__)"], capture_output=True, text=True
    )
    assert said.stdout == "1.16.0\n"
    assert history.undo(world.workdir).status == "undone"
    assert world.snapshot() == before
    assert freeze(world.python) == frozen
    said = subprocess.run(
        [str(world.python), "-c", "import six; print(six.__version__)"], capture_output=True, text=True
    )
    assert said.stdout == "1.15.0\n"


def test_editable_wheel_and_url_come_back_as_they_were(world: World, tmp_path: Path) -> None:
    editable, wheel = (
        project(tmp_path / "editable", "lmf_local", "1.0"),
        project(tmp_path / "src", "wheel_local", "1.0"),
    )
    subprocess.run([uv(), "build", "-q", "--wheel", "-o", str(tmp_path), str(wheel)], check=True)
    built = next(tmp_path.glob("wheel_local-*.whl"))
    world.python = make_environment(tmp_path / "packages", "six==1.15.0", str(built))
    install(world.python, "-e", str(editable))
    url = subprocess.run(
        [uv(), "pip", "compile", "-q", "--no-deps", "--no-header", "--format", "pylock.toml", "-"],
        input="idna==3.4", capture_output=True, text=True, check=True,
    ).stdout.split('wheels = [{ url = "')[1].split('"')[0]  # fmt: skip
    install(world.python, f"idna @ {url}")
    before, frozen = world.snapshot(), freeze(world.python)
    assert f"-e file://{editable}" in frozen
    assert "idna @ https://" in frozen
    names = ["lmf-local", "wheel-local", "six"]
    world.cause("remove", fix("them", {"kind": "uninstall", "packages": names}))
    world.cause("change", fix("idna", pip("idna==3.7")))
    world.apply()
    assert versions(world) == {"idna": "3.7"}
    journal = next((world.workdir / ".skyt1-doctor" / "journal").iterdir())
    listed = next(
        event["packages_before"]
        for event in map(json.loads, (journal / "journal.jsonl").read_text().splitlines())
        if "packages_before" in event
    )
    assert listed["lmf-local"] == f"1.0 editable file://{editable}"
    assert listed["wheel-local"].startswith("1.0 file://")
    assert listed["idna"].startswith("3.4 https://")
    assert listed["six"] == "1.15.0 index"
    history.undo(world.workdir)
    assert world.snapshot() == before
    assert freeze(world.python) == frozen


def test_undo_script_without_the_tool(with_packages: World) -> None:
    world = with_packages
    world.cause("c", fix("six", pip("six==1.16.0"), {"kind": "set-recipe", "values": {"a": 1}}))
    world.cause("d", fix("aside", {"kind": "move-aside", "path": "data"}))
    before, frozen = world.snapshot(), freeze(world.python)
    subprocess.run([str(world.python), "-c", "import six"], check=True)
    world.apply()
    subprocess.run([str(world.python), "-c", "import six"], check=True)  # Python writes bytecode where the old one was
    (entry,) = history.history(world.workdir)
    done = subprocess.run(["sh", str(entry.directory / "undo.sh")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert world.snapshot() == before
    assert freeze(world.python) == frozen
    assert history.history(world.workdir)[0].status == "undone"
    assert history.undo(world.workdir).status == "nothing to do"


def test_undo_script_after_python_wrote_bytecode_anew(with_packages: World) -> None:
    world = with_packages
    say = [str(world.python), "-c", "import six; print(six.__version__)"]
    subprocess.run(say, check=True, capture_output=True)
    before, frozen = world.snapshot(), freeze(world.python)
    world.cause("c", fix("six", pip("six==1.16.0")))
    world.apply()
    assert subprocess.run(say, check=True, capture_output=True, text=True).stdout == "1.16.0\n"
    (entry,) = history.history(world.workdir)
    done = subprocess.run(["sh", str(entry.directory / "undo.sh")], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert subprocess.run(say, check=True, capture_output=True, text=True).stdout == "1.15.0\n"
    assert world.snapshot() == before
    assert freeze(world.python) == frozen


def test_a_package_that_does_not_heal_goes_and_the_other_stays(with_packages: World) -> None:
    world = with_packages
    world.cause("good", fix("six", pip("six==1.16.0")))
    world.cause("bad", fix("idna", pip("idna==3.7")))
    seen: list[tuple[str, str]] = []

    def verify(cause: str) -> VerifyResult:
        seen.append((cause, versions(world)["idna"]))
        return VerifyResult(cause == "good")

    applied = world.apply(verify=verify)
    assert {o.cause: o.outcome for o in applied.outcomes} == {"good": "verified", "bad": "rolled back"}
    assert (versions(world)["six"], versions(world)["idna"]) == ("1.16.0", "3.4")
    assert seen == [("good", "3.7"), ("bad", "3.7"), ("good", "3.4")]  # looked at again without the other's change


def test_edits_of_one_file_by_fixes_that_share_the_package_step(with_packages: World) -> None:
    """The first is taken back although the second edited the same file after it; the second's edit stays."""
    world = with_packages
    world.cause("bad", fix("idna", pip("idna==3.7"), {"kind": "set-recipe", "values": {"template": "x", "bad": 1}}))
    world.cause("good", fix("six", pip("six==1.16.0"), {"kind": "set-recipe", "values": {"good": 1}}))
    before, text = world.snapshot(), world.recipe.read_text()
    applied = world.apply(verify=lambda cause: VerifyResult(cause == "good"))
    assert {o.cause: o.outcome for o in applied.outcomes} == {"bad": "rolled back", "good": "verified"}
    assert world.recipe.read_text() == text + "good: 1\n"
    assert versions(world) == {"six": "1.16.0", "idna": "3.4", "packaging": "23.0"}
    history.undo(world.workdir)
    assert world.snapshot() == before


def test_unknown_versions_are_refused_with_the_resolvers_reason(with_packages: World) -> None:
    world = with_packages
    world.cause("good", fix("six", pip("six==1.16.0")))
    world.cause("bad", fix("idna", pip("idna==99")))
    before = world.snapshot()
    plan = world.plan()
    assert {o.cause: o.outcome for o in plan.outcomes} == {"good": "planned", "bad": "refused"}
    assert "idna==99" in (plan.outcomes[-1].reason or "")
    assert world.snapshot() == before


def test_two_versions_of_one_package(with_packages: World) -> None:
    world = with_packages
    world.cause("one", fix("pin", pip("six==1.16.0")))
    world.cause("two", fix("range", pip("six>=1.16")))
    world.cause("three", fix("other-pin", pip("six==1.14.0")))
    plan = world.plan()
    assert {o.cause: o.outcome for o in plan.outcomes} == {"one": "planned", "two": "planned", "three": "refused"}
    assert "one/pin already sets six to '==1.16.0'" in (plan.outcomes[-1].reason or "")


def test_what_is_so_already_is_nothing_to_do(with_packages: World) -> None:
    world = with_packages
    world.cause("c", fix("six", pip("six==1.15.0")))
    assert [(o.outcome, o.reason) for o in world.apply().outcomes] == [("nothing to do", "the packages are so already")]
    assert history.history(world.workdir) == []


def test_a_damaged_package_is_put_again(with_packages: World) -> None:
    world = with_packages
    module = next(world.prefix.glob("lib/python*/site-packages/six.py"))
    whole = module.read_bytes()
    module.unlink()
    module.write_text("broken")
    damaged = world.snapshot()
    world.cause("c", fix("again", pip("six==1.15.0", reinstall=True)))
    assert world.apply().outcomes[0].outcome == "verified"
    assert module.read_bytes() == whole
    history.undo(world.workdir)
    assert world.snapshot() == damaged


def test_a_later_installation_is_shown_and_kept_unless_forced(with_packages: World) -> None:
    world = with_packages
    world.cause("c", fix("six", pip("six==1.16.0")))
    before, frozen = world.snapshot(), freeze(world.python)
    world.apply()
    install(world.python, "six==1.17.0")
    later = world.snapshot()
    with pytest.raises(EditedSince, match="six"):
        history.undo(world.workdir)
    assert world.snapshot() == later
    assert history.undo(world.workdir, force=True).status == "undone"
    assert freeze(world.python) == frozen
    assert world.snapshot() == before


def test_an_edit_of_an_installed_file_is_shown_and_kept(with_packages: World) -> None:
    """By the tool, by the script, and by a forced undo, which keeps it beside what the fix installed."""
    world = with_packages
    world.cause("c", fix("six", pip("six==1.16.0")))
    before = world.snapshot()
    world.apply()
    module = next(world.prefix.glob("lib/python*/site-packages/six.py"))
    mine = module.read_text() + "# mine\n"
    module.write_text(mine)
    edited = world.snapshot()
    with pytest.raises(EditedSince, match=r"six.py was changed"):
        history.undo(world.workdir)
    (entry,) = history.history(world.workdir)
    done = subprocess.run(["sh", str(entry.directory / "undo.sh")], capture_output=True, text=True)
    assert done.returncode == 1
    assert f"changed since, left alone: {module}" in done.stderr
    assert history.history(world.workdir)[0].status == "applied"
    assert world.snapshot() == edited
    assert history.undo(world.workdir, force=True).status == "undone"
    assert world.snapshot() == before
    assert [p.read_text() for p in (world.prefix / ".skyt1-doctor").rglob("*-six.py")] == [mine]


def test_the_script_says_what_was_made_in_the_place_of_something_removed(with_packages: World) -> None:
    world = with_packages
    world.cause("c", fix("idna", {"kind": "uninstall", "packages": ["idna"]}))
    world.apply()
    place = next(world.prefix.glob("lib/python*/site-packages")) / "idna"
    place.mkdir()
    (place / "core.py").write_text("mine")
    (entry,) = history.history(world.workdir)
    done = subprocess.run(["sh", str(entry.directory / "undo.sh")], capture_output=True, text=True)
    assert done.returncode == 1
    assert f"made since, left alone: {place / 'core.py'}; what was there is " in done.stderr
    assert (place / "core.py").read_text() == "mine"
    assert history.history(world.workdir)[0].status == "applied"
    (place / "core.py").unlink()
    again = subprocess.run(["sh", str(entry.directory / "undo.sh")], capture_output=True, text=True)
    assert (again.returncode, again.stderr) == (0, "")
    assert versions(world)["idna"] == "3.4"


def test_package_fixes_go_back_in_any_order_and_a_later_one_of_the_same_package_is_named(with_packages: World) -> None:
    world = with_packages
    before, frozen = world.snapshot(), freeze(world.python)
    journals = []
    for number, wanted in enumerate(("six==1.16.0", "idna==3.7", "six==1.17.0")):
        world.cause(f"c{number}", fix(f"f{number}", pip(wanted)))
        journals.append(world.apply(only=[f"c{number}"]).journal or "")
    first, second, third = journals
    with pytest.raises(ChangedAgain, match=f"changed again by the fix {third}; undo that one first"):
        history.undo(world.workdir, first)
    for journal in (second, third, first):
        assert history.undo(world.workdir, journal).status == "undone"
    assert world.snapshot() == before
    assert freeze(world.python) == frozen


def test_a_saved_plan_is_refused_when_packages_were_changed_since(with_packages: World, tmp_path: Path) -> None:
    world = with_packages
    world.cause("c", fix("six", pip("six==1.16.0")))
    world.plan().save(tmp_path / "plan.json")
    install(world.python, "idna==3.7")
    changed = world.snapshot()
    with pytest.raises(WorldChanged, match="installed packages were changed since the plan"):
        world.apply(load_plan(tmp_path / "plan.json"))
    assert world.snapshot() == changed
    install(world.python, "idna==3.4")
    assert world.apply(load_plan(tmp_path / "plan.json")).outcomes[0].outcome == "verified"


def test_undo_needs_no_network(with_packages: World) -> None:
    """In a network namespace that has nothing, not even a loopback interface that is up."""
    alone = ["unshare", "--net", "--map-root-user"]
    if subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("no network namespace can be made here")
    world = with_packages
    before, frozen = world.snapshot(), freeze(world.python)
    world.cause("c", fix("them", pip("six==1.16.0", "iniconfig==2.0.0"), {"kind": "uninstall", "packages": ["idna"]}))
    world.apply()
    code = (
        "import sys; from pathlib import Path; from fixes import history; print(history.undo(Path(sys.argv[1])).status)"
    )
    done = subprocess.run(
        [*alone, sys.executable, "-c", code, str(world.workdir)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout == "undone\n", done.stderr
    assert world.snapshot() == before
    assert freeze(world.python) == frozen


def test_conda_packages_are_left_to_conda(with_packages: World) -> None:
    world = with_packages
    info = next(world.prefix.glob("lib/python*/site-packages/idna-*.dist-info"))
    (info / "INSTALLER").unlink()
    (info / "INSTALLER").write_text("conda\n")
    world.cause("c", fix("idna", pip("idna==3.7")))
    (outcome,) = world.plan().outcomes
    assert outcome.outcome == "refused"
    assert "installed by conda" in (outcome.reason or "")


def test_the_systems_own_interpreter_is_left_alone(with_packages: World) -> None:
    """PEP 668: an environment that is no venv and carries the marker belongs to the package manager."""
    world = with_packages
    world.cause("c", fix("six", pip("six==1.16.0")))
    plan, target = world.plan(), world.target
    (world.prefix / "pyvenv.cfg").rename(world.prefix / "pyvenv.cfg.away")
    (next(world.prefix.glob("lib/python3*")) / "EXTERNALLY-MANAGED").write_text("[externally-managed]\n")
    before = world.snapshot()
    applied = apply_plan(plan, target, Facts(), healed)
    assert applied.outcomes[0].outcome == "refused"
    assert "belongs to the operating system" in (applied.outcomes[0].reason or "")
    assert world.snapshot() == before


def test_torch_changes_only_when_asked_for() -> None:
    assert [
        n for n in ("torch", "nvidia-cublas-cu12", "triton", "torchaudio", "torchmetrics", "six") if is_torch(n)
    ] == [
        "torch",
        "nvidia-cublas-cu12",
        "triton",
        "torchaudio",
    ]
