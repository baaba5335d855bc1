"""Models that the installed transformers has just made and saved fit their own configuration: nothing is found in them."""

import os
import subprocess
from pathlib import Path

import pytest

from doctor import examine, target
from doctor.examine import severity_of
from doctor.findings import Severity
from doctor.probes import architecture, llamafactory, model, packages, recipe
from tests.stack.reproductions.stacks import Stacks

pytestmark = pytest.mark.stack

CHILD = Path(__file__).with_name("families_child.py")
PROBES = (packages, recipe, llamafactory, model, architecture)
RECIPE = (
    "model_name_or_path: {}\nstage: sft\ndo_train: true\nfinetuning_type: full\ntemplate: default\noutput_dir: out\n"
)
# Weights are all that is made: no tokenizer, and a data set is not named. Moshi has a row more than its vocabulary.
LEFT_OUT, ODD = ("tok-", "pkg-", "cfg-missing"), ("moshi",)


@pytest.mark.parametrize(("stack", "least"), [("sky-t1", 60), ("current", 100)])
def test_no_family_is_called_broken(tmp_path, stacks, stack, least):
    environment = stacks.of(stack)
    argv = [str(environment.python), str(CHILD), str(tmp_path)]
    environ = {**environment.environ, "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    subprocess.run(argv, env=environ, check=True, capture_output=True, timeout=900)
    families = sorted(folder for folder in tmp_path.iterdir() if folder.is_dir())
    assert len(families) >= least
    assert {folder.name: said for folder in families if (said := errors(folder, environment.python))} == {}


def errors(folder, python):
    if folder.name in ODD:
        return []
    (folder / "recipe.yaml").write_text(RECIPE.format(folder))
    found = target.find(str(folder / "recipe.yaml"), str(folder), str(python), offline=True)
    facts, reports = examine.collect(found, PROBES, 20.0)
    findings = [f for f in examine.judge(facts, PROBES, reports) if severity_of(f) is Severity.ERROR]
    return [f"{f.cause}: {f.evidence[0].what}" for f in findings if not f.cause.startswith(LEFT_OUT)]


@pytest.fixture(scope="module")
def stacks(tmp_path_factory):
    """SKYT1_DOCTOR_STACKS names a folder with environments called as the stacks that are there already."""
    kept = os.environ.get("SKYT1_DOCTOR_STACKS")
    given = {stack: Path(kept) / stack for stack in ("sky-t1", "current")} if kept else None
    return Stacks(tmp_path_factory.mktemp("stacks"), given)
