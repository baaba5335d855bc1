"""Which packages are looked at, and what is said of their files."""

from __future__ import annotations

from pathlib import Path

import pytest

from doctor.facts import Facts
from doctor.probes import installed, packages
from tests.support.targets import add_distribution, add_files, make_target

NEEDS = ("transformers", "gradio")


@pytest.fixture
def target(tmp_path):
    made = make_target(tmp_path)
    site = made.site[0]
    for name, needs in (("llamafactory", NEEDS), ("transformers", ()), ("gradio", ()), ("other", ())):
        info = add_distribution(site, name, "1.0", needs)
        (info / "RECORD").write_text(f"{name}/__init__.py,,2\n{name}/models/bert/x.py,,0\n{name}/trainer.py,,\n")
        add_files(site, {f"{name}/__init__.py": "1\n", f"{name}/trainer.py": ""})
    return made


def said(made, **more):
    facts = Facts(packages.collect(made, Facts({}))).merged({"deepspeed.config_path": None, **more})
    return [(f.cause, f.evidence[0].what) for f in installed.files_there(facts.merged(installed.collect(made, facts)))]


def test_a_whole_environment(target):
    add_files(target.site[0], {"llamafactory/models/bert/x.py": ""})
    assert said(target, **{"model.config": {"model_type": "qwen2"}}) == []


def test_what_the_run_imports(target):
    add_files(target.site[0], {"llamafactory/models/bert/x.py": ""})
    for name in ("transformers", "gradio", "other"):
        Path(target.site[0], name, "__init__.py").unlink()
    ((cause, what),) = said(target)
    assert (cause, what) == ("pkg-broken-install", "transformers: transformers/__init__.py is recorded and not there")


def test_a_model_of_the_kind_that_is_trained(target):
    add_files(target.site[0], {"llamafactory/models/bert/x.py": ""})
    ((_, what),) = said(target, **{"model.config": {"model_type": "bert"}})
    assert "models/bert/x.py" in what


def test_a_package_of_which_only_its_record_is_left(target):
    add_files(target.site[0], {"llamafactory/models/bert/x.py": ""})
    for name in ("__init__.py", "trainer.py"):
        Path(target.site[0], "transformers", name).unlink()
    ((_, what),) = said(target)
    assert "none of its files" in what
