import json

import pytest

from doctor.recipe import yaml_recipe
from doctor.train import run_directory
from tests.support.targets import make_target

RECIPE = "### model\nmodel_name_or_path: 'm'  # here\nlearning_rate: 1.0e-5\n\ncutoff_len: 16384\n"
MADE_UP = "hf_" + "Zz91" * 9


@pytest.fixture
def made(tmp_path):
    def make(recipe=RECIPE, **overrides):
        target = make_target(tmp_path, recipe=recipe, overrides=overrides)
        return target, run_directory.create(target.workdir)

    return make


def test_overrides_are_merged_and_the_rest_is_kept(made):
    target, run = made(cutoff_len="512", bf16="false")
    path = run_directory.effective_recipe(target, run)
    text = (target.workdir / path).read_text()
    assert text.startswith("### model\nmodel_name_or_path: 'm'  # here\n")
    values = yaml_recipe.parse(text, "r").values
    assert (values["cutoff_len"], values["bf16"], values["learning_rate"]) == (512, False, 1.0e-5)
    assert target.recipe.read_text() == RECIPE


def test_the_launcher_s_path_has_no_space_even_if_the_workdir_has(tmp_path):
    target = make_target(tmp_path / "a b 目录")
    assert " " not in str(run_directory.effective_recipe(target, run_directory.create(target.workdir)))


def test_a_secret_stays_out_of_the_record_and_reaches_the_trainer(made):
    target, run = made(f"{RECIPE}hf_hub_token: {MADE_UP}\n", cutoff_len="512")
    path = run_directory.effective_recipe(target, run)
    assert MADE_UP in path.read_text()
    assert path.stat().st_mode & 0o077 == 0
    assert all(MADE_UP not in file.read_text() for file in run.path.iterdir())
    run_directory.remove_private(path)
    assert not path.exists()


def test_two_runs_in_one_second_are_two_directories(made):
    target, first = made()
    assert run_directory.create(target.workdir).path != first.path


def test_records_are_masked(made):
    _, run = made()
    run.write_json("command.json", {"argument": MADE_UP, "名": "值"})
    assert json.loads((run.path / "command.json").read_text()) == {"argument": "hf_***", "名": "值"}
