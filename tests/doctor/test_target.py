"""How the interpreter that trains is found, and what is said when it cannot be."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from doctor import target
from doctor.errors import BadInput


def make_prefix(root: Path, cli: bool = False) -> Path:
    """A prefix whose python really starts: a link to this interpreter."""
    bin_dir = root / "bin"
    bin_dir.mkdir(parents=True)
    (bin_dir / "python").symlink_to(sys.executable)
    if cli:
        script = bin_dir / "llamafactory-cli"
        script.write_text(f"#!{bin_dir / 'python'}\nprint('cli')\n")
        script.chmod(0o755)
    return root


def choose(tmp_path, python=None, env=None, **environ):
    environ.setdefault("PATH", "/nowhere")
    return target.choose_python(python, env, tmp_path, environ)


def test_python_option_wins(tmp_path):
    prefix = make_prefix(tmp_path / "a")
    chosen, why = choose(tmp_path, python=str(prefix / "bin/python"), VIRTUAL_ENV=str(make_prefix(tmp_path / "b")))
    assert chosen == prefix / "bin/python"
    assert "--python" in why


def test_active_venv_with_llamafactory_before_a_cli_elsewhere_on_path(tmp_path):
    active, other = make_prefix(tmp_path / "active", cli=True), make_prefix(tmp_path / "other", cli=True)
    chosen, why = choose(tmp_path, VIRTUAL_ENV=str(active), PATH=str(other / "bin"))
    assert chosen.parent == active / "bin"
    assert "venv" in why


def test_the_interpreter_behind_the_cli_when_the_active_one_has_none(tmp_path):
    base, other = make_prefix(tmp_path / "base"), make_prefix(tmp_path / "other", cli=True)
    chosen, why = choose(tmp_path, CONDA_PREFIX=str(base), PATH=str(other / "bin"))
    assert chosen.parent == other / "bin"
    assert "llamafactory-cli" in why


def test_active_conda_environment_without_any_cli(tmp_path):
    chosen, why = choose(tmp_path, CONDA_PREFIX=str(make_prefix(tmp_path / "conda")))
    assert chosen.parent == tmp_path / "conda/bin"
    assert "conda" in why


def test_the_venv_of_the_working_directory(tmp_path):
    make_prefix(tmp_path / ".venv")
    assert choose(tmp_path)[0] == tmp_path / ".venv/bin/python"


def test_environment_by_name_is_found_beside_conda(tmp_path):
    prefix = make_prefix(tmp_path / "conda/envs/llamafactory")
    (prefix / "conda-meta").mkdir()
    chosen, _ = choose(tmp_path, env="llamafactory", CONDA_EXE=str(tmp_path / "conda/bin/conda"))
    assert chosen == prefix / "bin/python"


def test_unknown_environment_is_one_sentence(tmp_path):
    with pytest.raises(BadInput, match="No conda environment or venv called missing-env"):
        choose(tmp_path, env="missing-env")


def test_shebang_of_a_long_prefix_is_read_through_sh(tmp_path):
    script = tmp_path / "cli"
    script.write_text("#!/bin/sh\n'''exec' \"/very/long prefix/bin/python\" \"$0\" \"$@\"\n' '''\n")
    assert target.shebang(script) == Path("/very/long prefix/bin/python")


def test_ask_tells_version_and_site():
    told = target.ask(Path(sys.executable), os.environ)
    assert told.version == ".".join(map(str, sys.version_info[:3]))
    assert any(path.endswith("-packages") for path in told.site)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "does not exist"),
        ("#!/bin/sh\necho broken interpreter >&2\nexit 3\n", r"does not start \(broken interpreter\)"),
        ("#!/bin/sh\necho not json\n", "is not a Python interpreter"),
        ("#!/bin/sh\nsleep 20\n", "did not start within"),
    ],
)
def test_a_python_that_cannot_be_used_is_one_sentence(tmp_path, content, expected):
    python = tmp_path / "python"
    if content is not None:
        python.write_text(content)
        python.chmod(python.stat().st_mode | stat.S_IEXEC)
    with pytest.raises(BadInput, match=expected) as raised:
        target.ask(python, os.environ, seconds=0.5)
    assert str(raised.value).count("\n") == 0


def test_recipe_may_be_relative_to_the_working_directory(tmp_path):
    (tmp_path / "配 方.yaml").write_text("stage: sft\n")
    found = target.find("配 方.yaml", str(tmp_path), sys.executable)
    assert found.recipe == tmp_path / "配 方.yaml"
    assert found.shown(found.recipe) == "配 方.yaml"


def test_launch_profile_wins_over_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("MASTER_PORT", "29501")
    (tmp_path / ".skyt1-doctor").mkdir()
    (tmp_path / ".skyt1-doctor/launch.env").write_text(
        "# set by a fix\nMASTER_PORT=40001\nexport WANDB_MODE='offline'\n"
    )
    environ = target.find(None, str(tmp_path), sys.executable).environ
    assert (environ["MASTER_PORT"], environ["WANDB_MODE"]) == ("40001", "offline")


def test_launch_profile_takes_a_variable_of_the_shell_away(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    (tmp_path / ".skyt1-doctor").mkdir()
    (tmp_path / ".skyt1-doctor/launch.env").write_text("unset HF_ENDPOINT\nunset NEVER_SET\n")
    assert "HF_ENDPOINT" not in target.find(None, str(tmp_path), sys.executable).environ


def test_the_real_venv_of_the_tests_reports_its_own_prefix(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "v")], check=True)
    found = target.find(None, str(tmp_path), str(tmp_path / "v/bin/python"))
    assert found.prefix == tmp_path / "v"
