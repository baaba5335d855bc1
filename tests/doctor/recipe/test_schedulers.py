"""What a scheduler takes, read from the source of the stand-in transformers."""

import pytest

from doctor.recipe import schedulers
from tests.doctor.recipe import standin


@pytest.fixture
def transformers(tmp_path):
    path = tmp_path / "optimization.py"
    path.write_text(standin._FILES["transformers/optimization.py"])
    return tmp_path


def test_what_the_function_takes(transformers):
    assert schedulers.read(transformers, "cosine") == schedulers.Taken(["num_cycles", "last_epoch"])
    assert schedulers.read(transformers, "linear") == schedulers.Taken(["last_epoch"])


def test_a_scheduler_that_is_given_nothing_of_the_user(transformers):
    assert schedulers.read(transformers, "inverse_sqrt") == schedulers.Taken(
        ["timescale", "last_epoch"], passed_on=False
    )


@pytest.mark.parametrize("kind", ["reduce_on_plateau", "no_such", "", "10%"])
def test_what_takes_anything_or_is_not_there(transformers, kind):
    assert schedulers.read(transformers, kind) is None


def test_a_source_that_cannot_be_read(transformers):
    assert schedulers.read(transformers / "gone", "cosine") is None
    (transformers / "optimization.py").write_text("def (")
    assert schedulers.read(transformers, "cosine") is None
