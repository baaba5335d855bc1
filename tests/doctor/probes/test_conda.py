from pathlib import Path

import pytest

from doctor.facts import Facts
from doctor.probes import conda
from knowledge_base.schema import Severity
from tests.support.worlds import program, world


@pytest.fixture
def recommended(tmp_path):
    """A conda environment called llamafactory under the home's miniconda3."""
    prefix = tmp_path / "home" / "miniconda3" / "envs" / "llamafactory"
    (prefix / "conda-meta").mkdir(parents=True)
    program(prefix / "bin", "llamafactory-cli")
    return prefix


def collected(tmp_path, root=None, **environ):
    return Facts({"llamafactory.root": root}).merged(conda.collect(world(tmp_path, environ=environ), Facts()))


def found(facts):
    return list(conda.not_active(facts))


def test_the_recommended_environment_is_there_and_base_is_active(tmp_path, recommended):
    facts = collected(
        tmp_path, CONDA_DEFAULT_ENV="base", CONDA_PREFIX=str(tmp_path / "home" / "miniconda3"), PATH="/usr/bin"
    )
    (finding,) = found(facts)
    assert finding.severity is Severity.WARNING
    assert "base is active" in finding.evidence[0].what
    assert finding.details["environment"] == "llamafactory"
    assert finding.details["path_with_environment"] == f"{recommended}/bin:/usr/bin"


def test_another_environment_that_has_llamafactory_serves(tmp_path, recommended):
    assert found(collected(tmp_path, root="/venv/site-packages/llamafactory", VIRTUAL_ENV="/venv")) == []


def test_the_recommended_environment_is_the_target(tmp_path):
    (tmp_path / "env" / "conda-meta").mkdir(parents=True)
    envs = tmp_path / "envs"
    envs.mkdir()
    (envs / "llamafactory").symlink_to(tmp_path / "env")
    facts = collected(tmp_path, CONDA_ENVS_PATH=str(envs))
    assert facts["conda.target_is_recommended"] is True
    assert found(facts) == []


def test_no_such_environment(tmp_path):
    facts = collected(tmp_path, CONDA_DEFAULT_ENV="other", CONDA_PREFIX="/conda/envs/other")
    assert facts["conda.recommended_prefix"] is None
    assert found(facts) == []


def test_an_environment_that_conda_only_lists(tmp_path):
    prefix = tmp_path / "elsewhere" / "llamafactory"
    (prefix / "conda-meta").mkdir(parents=True)
    listing = tmp_path / "home" / ".conda" / "environments.txt"
    listing.parent.mkdir(parents=True)
    listing.write_text(f"/gone/llamafactory\n{prefix}\n")
    facts = collected(tmp_path)
    assert facts["conda.recommended_prefix"] == str(prefix)
    assert "no llamafactory-cli yet" in found(facts)[0].evidence[0].what


@pytest.mark.parametrize(("active", "name"), [("/opt/conda/envs/x", "x"), (None, None)])
def test_the_active_environment(tmp_path, active, name):
    facts = collected(tmp_path, **({"CONDA_PREFIX": active} if active else {}))
    assert facts["conda.active"] == name
    assert Path(facts["conda.active_prefix"] or "/").is_absolute()
