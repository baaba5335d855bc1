"""The main job on real packages: the published recipe, untouched, to a finished run and back again.

check → fix → fix --apply → train → fix --undo, on an environment as `pip` resolves it today, no GPU, no hub.
"""

import pytest

from tests.stack.environments import SKY_T1, Environment, Workspace

pytestmark = [pytest.mark.stack, pytest.mark.story, pytest.mark.timeout(1800)]

EXPECTED = {
    "pkg-numpy-abi", "pkg-missing", "data-info-invalid-json", "data-file-missing", "tmpl-unknown", "ds-no-sync-zero",
    "hub-unreachable", "log-wandb-not-logged-in", "gpu-count-mismatch", "mem-host-oom", "disk-full",
}  # fmt: skip


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    # llamafactory-cli splits its command at spaces, so the environment may have none; all that is the user's may.
    root = tmp_path_factory.mktemp("sky-t1 故事")
    environment = Environment(tmp_path_factory.mktemp("sky-t1") / "env", *SKY_T1)
    place = Workspace(root, environment)
    return environment, place, environment.freeze(), place.hashes()


def found(document):
    return {finding["cause"]: finding for finding in document["findings"]}


def test_1_check_names_what_stands_in_the_way(story):
    environment, place, _, _ = story
    document = environment.check(place.root)
    findings = found(document)
    assert set(findings) >= EXPECTED
    assert not document["healthy"]
    assert findings["data-info-invalid-json"]["evidence"][0]["where"].startswith("data/dataset_info.json:")
    assert findings["tmpl-unknown"]["evidence"][0]["where"] == "examples/train_full/qwen2_full_sft.yaml:12"
    assert findings["gpu-count-mismatch"]["severity"] == "warning"
    assert findings["data-file-missing"]["fixes"][0]["class"] == "needs-argument"
    assert findings["ds-no-sync-zero"]["fixes"][0]["class"] == "safe"
    assert {advice["id"] for advice in findings["ds-no-sync-zero"]["does_not_help"]} >= {
        "drop-to-zero2",
        "drop-to-zero1",
    }


def test_2_fix_shows_the_plan_and_changes_nothing(story):
    environment, place, packages, hashes = story
    done = environment.doctor("fix", "--model", str(place.model), "--dataset", str(place.data), cwd=place.root)
    assert "-template: qwen25" in done.stdout
    assert "pyarrow" in done.stdout
    assert (environment.freeze(), place.hashes()) == (packages, hashes)


def test_3_fix_for_a_program_without_consent_changes_nothing(story):
    environment, place, packages, hashes = story
    arguments = ("--apply", "--format", "json", "--model", str(place.model), "--dataset", str(place.data))
    done = environment.doctor("fix", *arguments, cwd=place.root)
    assert done.returncode == 4
    assert (environment.freeze(), place.hashes()) == (packages, hashes)


def test_4_train_is_refused_while_something_blocks(story):
    environment, place, _, _ = story
    done = environment.doctor("train", cwd=place.root)
    assert done.returncode == 4
    assert "ds-no-sync-zero" in done.stdout


def test_5_fix_apply_mends_and_verifies(story):
    environment, place, _, _ = story
    arguments = ("--apply", "--yes", "--model", str(place.model), "--dataset", str(place.data))
    done = environment.doctor("fix", *arguments, cwd=place.root)
    assert done.returncode == 0, done.stdout[-4000:]
    assert "deepspeed==0.15.4" in environment.freeze()
    torch_before = [line for line in story[2] if line.startswith("torch==")]
    assert [line for line in environment.freeze() if line.startswith("torch==")] == torch_before
    document = environment.check(place.root)
    assert [f["cause"] for f in document["findings"] if f["severity"] != "info"] == []
    assert found(document)["gpu-count-mismatch"]["severity"] == "info"


def test_6_a_second_fix_has_nothing_to_do(story):
    environment, place, _, _ = story
    packages, hashes = environment.freeze(), place.hashes()
    done = environment.doctor("fix", "--apply", "--yes", cwd=place.root)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (environment.freeze(), place.hashes()) == (packages, hashes)


def test_7_train_runs_to_the_end(story):
    environment, place, _, _ = story
    done = environment.doctor("train", "--", "cutoff_len=512", "num_train_epochs=1", cwd=place.root)
    assert done.returncode == 0, done.stdout[-4000:]
    assert place.trained()
    (run,) = (place.root / ".skyt1-doctor/runs").iterdir()
    assert "cutoff_len: 512" in (run / "recipe.yaml").read_text()
    assert "train_runtime" in (run / "train.log").read_text(errors="replace")


def test_8_undo_takes_everything_back(story):
    environment, place, packages, hashes = story
    done = environment.doctor("fix", "--undo", "last", cwd=place.root)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (environment.freeze(), place.hashes()) == (packages, hashes)
    assert set(found(environment.check(place.root))) >= EXPECTED - {"mem-host-oom", "disk-full"}
