"""The same story on the current stack, as it resolves today: mismatched torch and torchaudio, bf16 without a GPU."""

import pytest

from tests.stack.environments import CURRENT, Environment, Workspace

pytestmark = [pytest.mark.stack, pytest.mark.story, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    root = tmp_path_factory.mktemp("current")
    environment = Environment(root / "env", *CURRENT)
    place = Workspace(root, environment)
    return environment, place, environment.freeze(), place.hashes()


def test_1_check(story):
    environment, place, _, _ = story
    causes = {finding["cause"] for finding in environment.check(place.root)["findings"]}
    assert causes >= {
        "pkg-torch-torchvision-mismatch",
        "gpu-bf16-unsupported",
        "data-info-invalid-json",
        "tmpl-unknown",
    }
    assert "ds-no-sync-zero" not in causes  # this transformers does not enter no_sync for DeepSpeed


def test_2_fix_and_train(story):
    environment, place, _, _ = story
    arguments = ("--apply", "--yes", "--model", str(place.model), "--dataset", str(place.data))
    done = environment.doctor("fix", *arguments, cwd=place.root)
    assert done.returncode == 0, done.stdout[-4000:]
    document = environment.check(place.root)
    assert [f["cause"] for f in document["findings"] if f["severity"] != "info"] == []
    done = environment.doctor("train", "--no-rehearse", "--", "cutoff_len=512", "max_steps=2", cwd=place.root)
    assert done.returncode == 0, done.stdout[-4000:]
    assert place.trained()


def test_3_undo(story):
    environment, place, packages, hashes = story
    assert environment.doctor("fix", "--undo", "last", cwd=place.root).returncode == 0
    assert (environment.freeze(), place.hashes()) == (packages, hashes)
